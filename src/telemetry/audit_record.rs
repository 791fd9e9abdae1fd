//! What the audit says of an event: one arm an event, one form for the log and for the stream.
//!
//! Names are of OWASP's logging vocabulary where it has one. No record holds a name that was tried or a secret: a refused
//! name may be a password typed into the wrong field.

use std::{fmt::Display, net::IpAddr};

use serde::{Serialize, Serializer};

use crate::domain::{AdminAction, CallContext, CodeRefusal, Error, Event, Peer, Refusal, SessionId, UserId};

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
    pub(super) api: Option<&'static str>,
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
            Event::Registered { context, user } => success("user_created", context).by(*user),
            Event::RegistrationRepeated { context, user } => success("user_created_again", context).by(*user),
            Event::NameTaken { context } => failure("user_create_refused", context).because("name_taken").common(),
            Event::LoggedIn { context, user, session } => {
                let record = success("authn_login_success", context).by(*user);
                Self { session_id: *session, ..record }
            }
            Event::LoginRefused { context, why } => login_refused(context, *why),
            Event::Overloaded { context, .. } => {
                failure("excess_rate_limit_exceeded", context).because("hash_queue").common()
            }
            Event::TokenRefreshed { context, user, session, again } => {
                let record = success("authn_token_created", context).by(*user).in_session(*session);
                if *again { record.because("repeated") } else { record }
            }
            Event::TokenReused { context, user, session } => {
                failure("authn_token_reuse", context).at(*user).in_session(*session).alarming()
            }
            Event::TokenRefused { context, why } => failure("authn_token_refused", context).because(why).common(),
            Event::ClientRefused { context } => failure("authn_client_fail", context).common(),
            Event::SessionEnded { context, user, session } => {
                success("authn_token_revoked", context).by(*user).in_session(*session)
            }
            Event::AllSessionsEnded { context, user } => {
                success("authn_token_revoked", context).by(*user).because("all_sessions")
            }
            Event::PasswordChanged { context, user } => success("authn_password_change", context).by(*user),
            Event::ReauthenticationFailed { context, user } => failure("authn_password_change_fail", context).by(*user),
            Event::UserChanged { context, user } => success("user_updated", context).by(*user),
            Event::UserDeleted { context, user } => success("user_deleted", context).by(*user),
            Event::PasswordReset { context, user } => success("authn_password_reset", context).by(*user),
            Event::PasswordResetRefused { context, why } => reset_refused(context, *why),
            Event::AdminActed { context, act, user, refusal } => operated(context, *act, *user, *refusal),
            Event::SigningKeyRotated { context, key_id, dropped } => {
                let record = success("sys_signing_key_rotated", context).of_key(key_id).alarming();
                if *dropped { record.because("old_keys_dropped") } else { record }
            }
            Event::PasswordRehashed { user } => by_nobody("authn_password_rehashed").by(*user),
            Event::RateLimited { context, limit, .. } => {
                failure("excess_rate_limit_exceeded", context).because(limit.name()).common()
            }
            Event::LockoutThresholdReached { context, user } => {
                Self { target_id: *user, ..failure("authn_login_lock", context).alarming() }
            }
            Event::FailureAlert => Self { outcome: Outcome::Failure, ..by_nobody("authn_login_fail_max").alarming() },
            // A flood of them costs the caller nothing.
            Event::ChallengeMissing { context, .. } => failure("challenge_missing", context).common(),
            Event::ChallengeRefused { context, why, .. } => {
                failure("challenge_fail", context).because(why.name()).common()
            }
            Event::ChallengeAccepted { context, purpose } => {
                success("challenge_accepted", context).because(purpose.name())
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

fn success<'a>(event: &'static str, context: &'a CallContext) -> Record<'a> {
    Record {
        api: Some(context.api.name()),
        peer: Some(context.peer),
        client: context.client.filter(|client| context.peer != Peer::Ip(*client)),
        uid: context.peer.uid(),
        user_agent: beginning(&context.user_agent),
        ..by_nobody(event)
    }
}

fn failure<'a>(event: &'static str, context: &'a CallContext) -> Record<'a> {
    Record { outcome: Outcome::Failure, ..success(event, context) }
}

/// What no call did.
fn by_nobody<'a>(event: &'static str) -> Record<'a> {
    Record {
        event,
        outcome: Outcome::Success,
        reason: None,
        api: None,
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

fn login_refused(context: &CallContext, why: Refusal) -> Record<'_> {
    let record = failure("authn_login_fail", context);
    match why {
        Refusal::UnknownUser => record.because("unknown_user"),
        Refusal::WrongPassword(user) => record.because("wrong_password").at(user),
        Refusal::NoPassword(user) => record.because("no_password").at(user),
        Refusal::Locked(user) => record.because("locked").at(user),
        Refusal::Disabled(user) => record.because("disabled").at(user),
    }
}

fn operated<'a>(
    context: &'a CallContext,
    act: AdminAction,
    user: Option<UserId>,
    refusal: Option<&Error>,
) -> Record<'a> {
    let (event, how) = match act {
        AdminAction::ReadUser => ("admin_user_read", None),
        AdminAction::DisableUser => ("user_disabled", None),
        AdminAction::EnableUser => ("user_enabled", None),
        AdminAction::UnlockUser => ("user_unlocked", None),
        AdminAction::CreateResetCode { require_reset: false } => ("authn_reset_code_created", None),
        AdminAction::CreateResetCode { require_reset: true } => ("authn_reset_code_created", Some("reset_required")),
        AdminAction::ReadServer => ("admin_server_read", None),
        AdminAction::RotateSigningKey => ("sys_signing_key_rotation_asked", None),
    };
    let record = match refusal {
        None => Record { reason: how, ..success(event, context) },
        Some(error) => failure(event, context).because(word(error)),
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

fn reset_refused(context: &CallContext, why: CodeRefusal) -> Record<'_> {
    let record = failure("authn_password_reset_fail", context).because(why.name());
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
