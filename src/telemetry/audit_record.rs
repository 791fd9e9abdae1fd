//! The audit record of each event: one arm per event, one form for the log and for the stream.
//!
//! Event names follow the OWASP logging vocabulary where it has one. No record contains a secret or a username that a client
//! sent: a refused username may be a password typed into the wrong field.

use std::{fmt::Display, net::IpAddr};

use serde::{Serialize, Serializer};

use crate::domain::{AdminAction, CallContext, CodeRefusal, Error, Event, Peer, Refusal, SessionId, UserId};

/// One event of the audit log. Unknown fields are left out.
#[derive(Debug, Clone, Serialize)]
pub(super) struct AuditRecord<'a> {
    pub(super) event: &'static str,
    pub(super) outcome: AuditOutcome,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) reason: Option<&'static str>,
    /// How many equal events the line stands for, where it is not one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) count: Option<u64>,
    /// How many networks they came from, in the log.
    #[serde(skip)]
    pub(super) sources: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) api: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "text")]
    pub(super) peer: Option<Peer>,
    /// The client address, where it differs from the peer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) client: Option<IpAddr>,
    /// The operating-system user of a peer on a Unix socket.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) uid: Option<u32>,
    #[serde(skip_serializing_if = "str::is_empty")]
    pub(super) user_agent: &'a str,
    /// The authenticated user, or the account that an operator named.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "text")]
    pub(super) subject_id: Option<UserId>,
    /// The account that an unauthenticated attempt was made at.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "text")]
    pub(super) target_id: Option<UserId>,
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "text")]
    pub(super) session_id: Option<SessionId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) key_id: Option<&'a str>,
    #[serde(skip)]
    pub(super) severity: Severity,
    #[serde(skip)]
    pub(super) merging: Merging,
}

/// The outcome of the event.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum AuditOutcome {
    Success,
    Failure,
}

/// How much an event matters to operators.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Severity {
    /// Needs attention: `warn` in the log.
    Warning,
    /// `info` in the log.
    Notice,
    /// Any client can cause any number of them: `info` in the log, and dropped first from the stream.
    Routine,
}

/// Which events become one line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Merging {
    /// None: each has cost its client a hash or a proof of work, is an exchange of a refresh token, of which a session has
    /// a limited number, or is an admin action.
    Never,
    /// Those of one user and session in a second.
    ByOwner,
    /// Any client can cause them without a token: those of one source in a second, in the log those of one kind in a minute.
    Routine,
}

impl<'a> AuditRecord<'a> {
    /// The record of `event`; `None` for events that are only counted.
    pub(super) fn of(event: &'a Event<'_>) -> Option<Self> {
        Some(match event {
            Event::Registered { context, user } => success("user_created", context).by(*user),
            Event::RegistrationRepeated { context, user } => success("user_created_again", context).by(*user),
            Event::NameTaken { context } => failure("user_create_refused", context).because("name_taken").routine(),
            Event::LoggedIn { context, user, session } => {
                let record = success("authn_login_success", context).by(*user);
                Self { session_id: *session, ..record }
            }
            Event::LoginRefused { context, why } => login_refused(context, *why),
            Event::Overloaded { context, .. } => {
                failure("excess_rate_limit_exceeded", context).because("hash_queue").routine()
            }
            Event::TokenRefreshed { context, user, session, again } => {
                let record = success("authn_token_created", context).by(*user).in_session(*session);
                if *again { record.because("repeated").merged() } else { record }
            }
            Event::RefreshRepeatRefused { context, user, session } => repeat_refused(context, *user, *session),
            Event::TokenReused { context, user, session, why } => {
                let record = failure("authn_token_reuse", context).because(why);
                record.aimed_at(*user).in_session(*session).warning().merged()
            }
            Event::TokenRefused { context, why } => failure("authn_token_refused", context).because(why).routine(),
            Event::ClientRefused { context } => failure("authn_client_fail", context).routine(),
            Event::SessionEnded { context, user, session } => {
                success("authn_token_revoked", context).by(*user).in_session(*session).merged()
            }
            Event::AllSessionsEnded { context, user } => {
                success("authn_token_revoked", context).by(*user).because("all_sessions").merged()
            }
            Event::PasswordChanged { context, user } => success("authn_password_change", context).by(*user),
            Event::ReauthenticationFailed { context, user } => failure("authn_password_change_fail", context).by(*user),
            Event::UserChanged { context, user } => success("user_updated", context).by(*user).merged(),
            Event::UserDeleted { context, user } => success("user_deleted", context).by(*user),
            Event::PasswordReset { context, user } => success("authn_password_reset", context).by(*user),
            Event::PasswordResetRefused { context, why } => reset_refused(context, *why),
            Event::AdminActed { context, act, user, refusal } => admin_action(context, *act, *user, *refusal),
            Event::SigningKeyRotated { context, key_id, dropped } => {
                let record = success("sys_signing_key_rotated", context).of_key(key_id).warning();
                if *dropped { record.because("old_keys_dropped") } else { record }
            }
            Event::PasswordRehashed { user } => without_call("authn_password_rehashed").by(*user),
            Event::RateLimited { context, limit, .. } => {
                failure("excess_rate_limit_exceeded", context).because(limit.name()).routine()
            }
            Event::LockoutThresholdReached { context, user } => {
                Self { target_id: *user, ..failure("authn_login_lock", context).warning() }
            }
            Event::AttemptAbandoned { context } => failure("authn_login_abandoned", context),
            Event::RegistrationAlert => alert("user_create_max"),
            Event::FailureAlert => alert("authn_login_fail_max"),
            Event::ChallengeMissing { context, .. } => failure("challenge_missing", context).routine(),
            Event::ChallengeRefused { context, why, .. } => {
                failure("challenge_fail", context).because(why.name()).routine()
            }
            Event::ChallengeAccepted { context, purpose } => {
                success("challenge_accepted", context).because(purpose.name())
            }
            // Counted only; the store logs the cause.
            Event::StoreFailed { .. }
            | Event::ChallengeCreated { .. }
            | Event::ChallengeSpent { .. }
            | Event::ChallengeChecked { .. }
            | Event::Hashed { .. }
            | Event::AttemptsInFlight
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

    fn aimed_at(self, user: UserId) -> Self {
        Self { target_id: Some(user), ..self }
    }

    fn in_session(self, session: SessionId) -> Self {
        Self { session_id: Some(session), ..self }
    }

    fn of_key(self, key_id: &'a str) -> Self {
        Self { key_id: Some(key_id), ..self }
    }

    fn warning(self) -> Self {
        Self { severity: Severity::Warning, ..self }
    }

    /// A flood is possible: the event costs a client nothing.
    fn routine(self) -> Self {
        Self { severity: Severity::Routine, merging: Merging::Routine, ..self }
    }

    fn merged(self) -> Self {
        Self { merging: Merging::ByOwner, ..self }
    }
}

fn success<'a>(event: &'static str, context: &'a CallContext) -> AuditRecord<'a> {
    AuditRecord {
        api: Some(context.api.name()),
        peer: Some(context.peer),
        client: context.client.filter(|client| context.peer != Peer::Ip(*client)),
        uid: context.peer.uid(),
        user_agent: &context.user_agent,
        ..without_call(event)
    }
}

fn failure<'a>(event: &'static str, context: &'a CallContext) -> AuditRecord<'a> {
    AuditRecord { outcome: AuditOutcome::Failure, ..success(event, context) }
}

/// An unusual number of events of all clients.
fn alert(event: &'static str) -> AuditRecord<'static> {
    AuditRecord { outcome: AuditOutcome::Failure, ..without_call(event).warning() }
}

/// An event that no call caused.
fn without_call<'a>(event: &'static str) -> AuditRecord<'a> {
    AuditRecord {
        event,
        outcome: AuditOutcome::Success,
        reason: None,
        count: None,
        sources: None,
        api: None,
        peer: None,
        client: None,
        uid: None,
        user_agent: "",
        subject_id: None,
        target_id: None,
        session_id: None,
        key_id: None,
        severity: Severity::Notice,
        merging: Merging::Never,
    }
}

fn repeat_refused(context: &CallContext, user: UserId, session: SessionId) -> AuditRecord<'_> {
    let record = failure("authn_token_refused", context).because("repeated_elsewhere");
    record.aimed_at(user).in_session(session).merged()
}

fn login_refused(context: &CallContext, why: Refusal) -> AuditRecord<'_> {
    let record = failure("authn_login_fail", context);
    match why {
        Refusal::UnknownUser => record.because("unknown_user"),
        Refusal::WrongPassword(user) => record.because("wrong_password").aimed_at(user),
        Refusal::NoPassword(user) => record.because("no_password").aimed_at(user),
        Refusal::PepperKeyMissing(user) => record.because("pepper_key_missing").aimed_at(user),
        Refusal::Locked(user) => record.because("locked").aimed_at(user),
        Refusal::Disabled(user) => record.because("disabled").aimed_at(user),
    }
}

fn admin_action<'a>(
    context: &'a CallContext,
    action: AdminAction,
    user: Option<UserId>,
    refusal: Option<&Error>,
) -> AuditRecord<'a> {
    let (event, reason) = match action {
        AdminAction::ReadUser => ("admin_user_read", None),
        AdminAction::DisableUser => ("user_disabled", None),
        AdminAction::EnableUser => ("user_enabled", None),
        AdminAction::UnlockUser => ("user_unlocked", None),
        AdminAction::RevokeUserSessions => ("user_sessions_revoked", None),
        AdminAction::RevokeAllUsersSessions => ("all_sessions_revoked", None),
        AdminAction::CreateResetCode { require_reset: false } => ("authn_reset_code_created", None),
        AdminAction::CreateResetCode { require_reset: true } => ("authn_reset_code_created", Some("reset_required")),
        AdminAction::ReadServer => ("admin_server_read", None),
        AdminAction::RotateSigningKey => ("sys_signing_key_rotation_asked", None),
    };
    let record = match refusal {
        None => AuditRecord { reason, ..success(event, context) },
        Some(error) => failure(event, context).because(error_reason(error)),
    };
    AuditRecord { subject_id: user, ..record }
}

/// Why an admin action failed.
fn error_reason(error: &Error) -> &'static str {
    match error {
        Error::UserNotFound => "unknown_user",
        Error::UserDisabled => "disabled",
        Error::Invalid(_) | Error::PasswordPolicy(_) | Error::RequestTooLarge => "invalid_field",
        Error::Conflict => "conflict",
        Error::OutcomeUnknown => "outcome_unknown",
        Error::StoreUnavailable => "store_unavailable",
        Error::CorruptRecord(_) => "corrupt_record",
        Error::Internal(_) => "internal",
        // No admin action returns these.
        Error::InvalidCredentials
        | Error::TokenMissing
        | Error::TokenInvalid
        | Error::TokenExpired
        | Error::TokenRevoked
        | Error::CallerNotAllowed
        | Error::UserAlreadyExists
        | Error::ChallengeRequired { .. }
        | Error::ChallengeInvalid { .. }
        | Error::Overloaded { .. }
        | Error::RateLimited { .. }
        | Error::Draining
        | Error::DeadlineExceeded => "refused",
    }
}

fn reset_refused(context: &CallContext, why: CodeRefusal) -> AuditRecord<'_> {
    let record = AuditRecord { target_id: why.user(), ..failure("authn_password_reset_fail", context) };
    let record = record.because(why.name());
    match why {
        CodeRefusal::UnknownUser | CodeRefusal::NoCode(_) | CodeRefusal::WrongCode(_) => record.routine(),
        // The code was right, but no hash was computed.
        CodeRefusal::Expired(_) | CodeRefusal::Disabled(_) => record.merged(),
    }
}

impl AuditOutcome {
    pub(super) fn name(self) -> &'static str {
        match self {
            AuditOutcome::Success => "success",
            AuditOutcome::Failure => "failure",
        }
    }
}

fn text<T: Display, S: Serializer>(value: &Option<T>, to: S) -> Result<S::Ok, S::Error> {
    match value {
        Some(value) => to.collect_str(value),
        None => to.serialize_none(),
    }
}
