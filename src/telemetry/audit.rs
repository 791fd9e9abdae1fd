//! Says in the log what users did, in OWASP's logging vocabulary.
//!
//! No line holds a name that was tried or a secret: a refused name may be a password typed into the wrong field.

use crate::domain::{Caller, ChallengeFault, ChallengePurpose, Event, Observer, Peer, Refusal};

/// Writes events to the log.
#[derive(Debug, Clone, Copy, Default)]
pub struct Audit;

impl Observer for Audit {
    fn on(&self, event: &Event<'_>) {
        match event {
            Event::Registered { caller, user } => {
                tracing::info!(event = "user_created", %user, door = caller.door.name(), peer = %peer(caller));
            }
            Event::RegistrationRepeated { caller, user } => {
                tracing::info!(event = "user_created_again", %user, door = caller.door.name(), peer = %peer(caller));
            }
            Event::NameTaken { caller } => {
                tracing::info!(event = "user_create_refused", door = caller.door.name(), peer = %peer(caller));
            }
            Event::LoggedIn { caller, user } => {
                tracing::info!(event = "authn_login_success", %user, door = caller.door.name(), peer = %peer(caller));
            }
            Event::LoginRefused { caller, why } => refused(caller, *why),
            Event::Overloaded { caller, retry_after } => {
                tracing::debug!(event = "overloaded", ?retry_after, door = caller.door.name(), peer = %peer(caller));
            }
            Event::TokenRefreshed { caller, user, session, again } => {
                tracing::info!(event = "authn_token_created", %user, %session, again, door = caller.door.name(), peer = %peer(caller));
            }
            Event::TokenReused { caller, user, session } => {
                tracing::warn!(event = "authn_token_reuse", %user, %session, door = caller.door.name(), peer = %peer(caller));
            }
            Event::TokenRefused { caller, why } => {
                tracing::debug!(event = "authn_token_refused", why, door = caller.door.name(), peer = %peer(caller));
            }
            Event::ClientRefused { caller } => {
                tracing::debug!(event = "authn_client_fail", door = caller.door.name(), peer = %peer(caller));
            }
            Event::SessionEnded { caller, user, session } => {
                tracing::info!(event = "authn_token_revoked", %user, %session, door = caller.door.name(), peer = %peer(caller));
            }
            Event::AllSessionsEnded { caller, user } => {
                tracing::info!(event = "authn_token_revoked", %user, session = "all", door = caller.door.name(), peer = %peer(caller));
            }
            Event::PasswordChanged { caller, user } => {
                tracing::info!(event = "authn_password_change", %user, door = caller.door.name(), peer = %peer(caller));
            }
            Event::PasswordRehashed { user } => tracing::info!(event = "authn_password_rehashed", %user),
            Event::PasswordNotShown { caller, user } => {
                tracing::info!(event = "authn_password_change_fail", %user, door = caller.door.name(), peer = %peer(caller));
            }
            Event::UserChanged { caller, user } => {
                tracing::info!(event = "user_updated", %user, door = caller.door.name(), peer = %peer(caller));
            }
            Event::UserDeleted { caller, user } => {
                tracing::info!(event = "user_deleted", %user, door = caller.door.name(), peer = %peer(caller));
            }
            Event::UserDisabled { user, disabled } => tracing::info!(event = "user_disabled", %user, disabled),
            Event::SigningKeyRotated { caller, key_id, dropped } => {
                tracing::warn!(event = "sys_signing_key_rotated", key_id, dropped, door = caller.door.name(), peer = %peer(caller));
            }
            Event::ChallengeCreated { caller, purpose } => challenge(caller, *purpose, "challenge_created"),
            Event::ChallengeMissing { caller, purpose } => challenge(caller, *purpose, "challenge_missing"),
            Event::ChallengeRefused { caller, purpose, why } => challenge_refused(caller, *purpose, *why),
            Event::ChallengeSpent { caller, purpose } => challenge(caller, *purpose, "challenge_spent"),
            Event::ChallengeAccepted { caller, purpose } => {
                tracing::info!(event = "challenge_accepted", purpose = purpose.name(), door = caller.door.name(), peer = %peer(caller));
            }
            Event::ChallengeChecked { queued, took } => tracing::debug!(event = "challenge_checked", ?queued, ?took),
            Event::RateLimited { caller, limit, retry_after } => {
                let (limit, door) = (limit.name(), caller.door.name());
                tracing::info!(event = "excess_rate_limit_exceeded", limit, ?retry_after, door, peer = %peer(caller));
            }
            Event::FailureCapReached { caller, user } => {
                let user = user.map(|user| user.to_string()).unwrap_or_default();
                tracing::warn!(event = "authn_login_lock", user, door = caller.door.name(), peer = %peer(caller));
            }
            Event::ManyFailures => tracing::warn!(event = "authn_login_fail_max"),
            // The store has logged why.
            Event::StoreFailed { error } => tracing::debug!(event = "store_failed", ?error),
            Event::Hashed { queued, took } => tracing::debug!(event = "hashed", ?queued, ?took),
        }
    }
}

fn refused(caller: &Caller, why: Refusal) {
    let (door, peer) = (caller.door.name(), peer(caller));
    match why {
        Refusal::UnknownUser => tracing::info!(event = "authn_login_fail", reason = "unknown user", door, %peer),
        Refusal::WrongPassword(user) => {
            tracing::info!(event = "authn_login_fail", reason = "wrong password", %user, door, %peer);
        }
        Refusal::Locked(user) => tracing::info!(event = "authn_login_fail", reason = "locked", %user, door, %peer),
        Refusal::NoPassword(user) => {
            tracing::info!(event = "authn_login_fail", reason = "no password", %user, door, %peer);
        }
        Refusal::Disabled(user) => tracing::info!(event = "authn_login_fail", reason = "disabled", %user, door, %peer),
    }
}

/// A flood of these costs the caller nothing, so it shall not fill the log.
fn challenge(caller: &Caller, purpose: ChallengePurpose, event: &str) {
    tracing::debug!(event, purpose = purpose.name(), door = caller.door.name(), peer = %peer(caller));
}

fn challenge_refused(caller: &Caller, purpose: ChallengePurpose, why: ChallengeFault) {
    let (reason, purpose, door, peer) = (why.name(), purpose.name(), caller.door.name(), peer(caller));
    match why {
        // Whoever got one of ours and misuses it.
        ChallengeFault::Spent | ChallengeFault::Unsolved | ChallengeFault::OtherPurpose => {
            tracing::info!(event = "challenge_fail", reason, purpose, door, %peer);
        }
        ChallengeFault::TooLong | ChallengeFault::Malformed | ChallengeFault::Forged | ChallengeFault::Expired => {
            tracing::debug!(event = "challenge_fail", reason, purpose, door, %peer);
        }
    }
}

fn peer(caller: &Caller) -> Peer {
    caller.address()
}
