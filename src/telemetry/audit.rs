//! Says in the log what users did, in OWASP's logging vocabulary.
//!
//! No line holds a name that was tried or a secret: a refused name may be a password typed into the wrong field.

use crate::domain::{Caller, Event, Observer, Peer, Refusal};

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
            // The store has logged why.
            Event::StoreFailed { error } => tracing::debug!(event = "store_failed", ?error),
            // Counted, and no act of anybody's.
            Event::CallEnded { .. } | Event::RequestEnded { .. } => {}
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
        Refusal::Disabled(user) => tracing::info!(event = "authn_login_fail", reason = "disabled", %user, door, %peer),
    }
}

fn peer(caller: &Caller) -> Peer {
    caller.peer
}
