//! What the audit says of an event: one arm an event, one form for the log and for the stream.
//!
//! Names are of OWASP's logging vocabulary where it has one. No record holds a name that was tried or a secret: a refused
//! name may be a password typed into the wrong field.

use std::{fmt::Display, net::IpAddr};

use serde::{Serialize, Serializer};

use crate::domain::{Act, Caller, CodeRefusal, Error, Event, Peer, Refusal, SessionId, UserId};

/// Bytes of a user agent that are kept.
const USER_AGENT_BYTES_MAX: usize = 256;

/// What happened, and how it ended for whoever did it. What is not known is left out.
#[derive(Debug, Serialize)]
pub(super) struct Record<'a> {
    pub(super) event: &'static str,
    pub(super) outcome: Outcome,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) reason: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) door: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "text")]
    pub(super) peer: Option<Peer>,
    /// The end user's address, where it is not the other end's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) client: Option<IpAddr>,
    /// The user of this machine at the other end of a Unix socket.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) uid: Option<u32>,
    #[serde(skip_serializing_if = "str::is_empty")]
    pub(super) user_agent: &'a str,
    /// The user who did it or whose account it is, known by a password, a token or an operator.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "text")]
    pub(super) subject_id: Option<UserId>,
    /// The user whom somebody tried to be.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "text")]
    pub(super) target_id: Option<UserId>,
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "text")]
    pub(super) session_id: Option<SessionId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) key_id: Option<&'a str>,
    #[serde(skip)]
    pub(super) weight: Weight,
}

/// How it ended.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Outcome {
    Success,
    Failure,
}

/// How much it matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Weight {
    /// Somebody should look: a warning in the log.
    Alarming,
    Notable,
    /// Anybody can cause it as fast as he can send: `debug` in the log, and the first to be dropped from the stream.
    Common,
}

impl<'a> Record<'a> {
    /// What to say of `event`; nothing, when it is no act of anybody's and only counted.
    pub(super) fn of(event: &'a Event<'_>) -> Option<Self> {
        Some(match event {
            Event::Registered { caller, user } => success("user_created", caller).by(*user),
            Event::RegistrationRepeated { caller, user } => success("user_created_again", caller).by(*user),
            Event::NameTaken { caller } => failure("user_create_refused", caller).because("name_taken").common(),
            Event::LoggedIn { caller, user, session } => {
                let record = success("authn_login_success", caller).by(*user);
                Self { session_id: *session, ..record }
            }
            Event::LoginRefused { caller, why } => login_refused(caller, *why),
            Event::Overloaded { caller, .. } => {
                failure("excess_rate_limit_exceeded", caller).because("hash_queue").common()
            }
            Event::TokenRefreshed { caller, user, session, again } => {
                let record = success("authn_token_created", caller).by(*user).in_session(*session);
                if *again { record.because("repeated") } else { record }
            }
            Event::TokenReused { caller, user, session } => {
                failure("authn_token_reuse", caller).at(*user).in_session(*session).alarming()
            }
            Event::TokenRefused { caller, why } => failure("authn_token_refused", caller).because(why).common(),
            Event::ClientRefused { caller } => failure("authn_client_fail", caller).common(),
            Event::SessionEnded { caller, user, session } => {
                success("authn_token_revoked", caller).by(*user).in_session(*session)
            }
            Event::AllSessionsEnded { caller, user } => {
                success("authn_token_revoked", caller).by(*user).because("all_sessions")
            }
            Event::PasswordChanged { caller, user } => success("authn_password_change", caller).by(*user),
            Event::PasswordNotShown { caller, user } => failure("authn_password_change_fail", caller).by(*user),
            Event::UserChanged { caller, user } => success("user_updated", caller).by(*user),
            Event::UserDeleted { caller, user } => success("user_deleted", caller).by(*user),
            Event::PasswordReset { caller, user } => success("authn_password_reset", caller).by(*user),
            Event::PasswordResetRefused { caller, why } => reset_refused(caller, *why),
            Event::Operated { caller, act, user, refusal } => operated(caller, *act, *user, *refusal),
            Event::SigningKeyRotated { caller, key_id, dropped } => {
                let record = success("sys_signing_key_rotated", caller).of_key(key_id).alarming();
                if *dropped { record.because("old_keys_dropped") } else { record }
            }
            Event::PasswordRehashed { user } => by_nobody("authn_password_rehashed").by(*user),
            Event::RateLimited { caller, limit, .. } => {
                failure("excess_rate_limit_exceeded", caller).because(limit.name()).common()
            }
            Event::FailureCapReached { caller, user } => {
                Self { target_id: *user, ..failure("authn_login_lock", caller).alarming() }
            }
            Event::ManyFailures => Self { outcome: Outcome::Failure, ..by_nobody("authn_login_fail_max").alarming() },
            // A flood of them costs the caller nothing.
            Event::ChallengeMissing { caller, .. } => failure("challenge_missing", caller).common(),
            Event::ChallengeRefused { caller, why, .. } => {
                failure("challenge_fail", caller).because(why.name()).common()
            }
            Event::ChallengeAccepted { caller, purpose } => {
                success("challenge_accepted", caller).because(purpose.name())
            }
            // The store has logged why.
            Event::StoreFailed { .. }
            | Event::ChallengeCreated { .. }
            | Event::ChallengeSpent { .. }
            | Event::ChallengeChecked { .. }
            | Event::Hashed { .. }
            | Event::CallEnded { .. }
            | Event::RequestEnded { .. } => return None,
        })
    }

    fn because(self, reason: &'static str) -> Self {
        Self { reason: Some(reason), ..self }
    }

    fn by(self, user: UserId) -> Self {
        Self { subject_id: Some(user), ..self }
    }

    fn at(self, user: UserId) -> Self {
        Self { target_id: Some(user), ..self }
    }

    fn in_session(self, session: SessionId) -> Self {
        Self { session_id: Some(session), ..self }
    }

    fn of_key(self, key_id: &'a str) -> Self {
        Self { key_id: Some(key_id), ..self }
    }

    fn alarming(self) -> Self {
        Self { weight: Weight::Alarming, ..self }
    }

    fn common(self) -> Self {
        Self { weight: Weight::Common, ..self }
    }
}

fn success<'a>(event: &'static str, caller: &'a Caller) -> Record<'a> {
    Record {
        door: Some(caller.door.name()),
        peer: Some(caller.peer),
        client: caller.client.filter(|client| caller.peer != Peer::Ip(*client)),
        uid: caller.peer.uid(),
        user_agent: beginning(&caller.user_agent),
        ..by_nobody(event)
    }
}

fn failure<'a>(event: &'static str, caller: &'a Caller) -> Record<'a> {
    Record { outcome: Outcome::Failure, ..success(event, caller) }
}

/// What no call did.
fn by_nobody<'a>(event: &'static str) -> Record<'a> {
    Record {
        event,
        outcome: Outcome::Success,
        reason: None,
        door: None,
        peer: None,
        client: None,
        uid: None,
        user_agent: "",
        subject_id: None,
        target_id: None,
        session_id: None,
        key_id: None,
        weight: Weight::Notable,
    }
}

fn login_refused(caller: &Caller, why: Refusal) -> Record<'_> {
    let record = failure("authn_login_fail", caller);
    match why {
        Refusal::UnknownUser => record.because("unknown_user"),
        Refusal::WrongPassword(user) => record.because("wrong_password").at(user),
        Refusal::NoPassword(user) => record.because("no_password").at(user),
        Refusal::Locked(user) => record.because("locked").at(user),
        Refusal::Disabled(user) => record.because("disabled").at(user),
    }
}

fn operated<'a>(caller: &'a Caller, act: Act, user: Option<UserId>, refusal: Option<&Error>) -> Record<'a> {
    let (event, how) = match act {
        Act::ReadUser => ("admin_user_read", None),
        Act::DisableUser => ("user_disabled", None),
        Act::EnableUser => ("user_enabled", None),
        Act::UnlockUser => ("user_unlocked", None),
        Act::CreateResetCode { require_reset: false } => ("authn_reset_code_created", None),
        Act::CreateResetCode { require_reset: true } => ("authn_reset_code_created", Some("reset_required")),
        Act::ReadServer => ("admin_server_read", None),
        Act::RotateSigningKey => ("sys_signing_key_rotation_asked", None),
    };
    let record = match refusal {
        None => Record { reason: how, ..success(event, caller) },
        Some(error) => failure(event, caller).because(word(error)),
    };
    Record { subject_id: user, ..record }
}

/// Why an operator was refused.
fn word(error: &Error) -> &'static str {
    match error {
        Error::UserNotFound => "unknown_user",
        Error::Invalid(_) | Error::PasswordPolicy(_) | Error::RequestTooLarge => "invalid_field",
        Error::Conflict => "conflict",
        Error::OutcomeUnknown => "outcome_unknown",
        Error::StoreUnavailable => "store_unavailable",
        Error::CorruptRecord(_) => "corrupt_record",
        Error::Internal(_) => "internal",
        // None of them is said to operators.
        Error::InvalidCredentials
        | Error::TokenMissing
        | Error::TokenInvalid
        | Error::TokenExpired
        | Error::TokenRevoked
        | Error::UserAlreadyExists
        | Error::ChallengeRequired { .. }
        | Error::ChallengeInvalid { .. }
        | Error::Overloaded { .. }
        | Error::RateLimited { .. }
        | Error::Draining
        | Error::DeadlineExceeded => "refused",
    }
}

fn reset_refused(caller: &Caller, why: CodeRefusal) -> Record<'_> {
    let record = failure("authn_password_reset_fail", caller).because(why.name());
    let weight = match why {
        // Costs the caller no hash.
        CodeRefusal::UnknownUser | CodeRefusal::NoCode(_) | CodeRefusal::WrongCode(_) => Weight::Common,
        // Somebody has the right code.
        CodeRefusal::Expired(_) | CodeRefusal::Disabled(_) => Weight::Notable,
    };
    Record { target_id: why.user(), weight, ..record }
}

fn beginning(user_agent: &str) -> &str {
    &user_agent[..user_agent.floor_char_boundary(USER_AGENT_BYTES_MAX)]
}

impl Outcome {
    pub(super) fn name(self) -> &'static str {
        match self {
            Outcome::Success => "success",
            Outcome::Failure => "failure",
        }
    }
}

fn text<T: Display, S: Serializer>(value: &Option<T>, to: S) -> Result<S::Ok, S::Error> {
    match value {
        Some(value) => to.collect_str(value),
        None => to.serialize_none(),
    }
}
