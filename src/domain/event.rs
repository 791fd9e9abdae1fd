//! Events: everything that is counted or audited, as values.
//!
//! The rules report events; `telemetry` writes them. No event contains a secret or a username that a client sent.

use std::time::Duration;

use super::{
    context::CallContext,
    error::{Error, Limit, StoreError},
    model::{ChallengeFault, ChallengePurpose, SessionId, UserId},
};

/// An event that operators can observe.
#[derive(Debug)]
#[expect(missing_docs, reason = "each variant describes its fields")]
pub enum Event<'a> {
    /// A user was stored.
    Registered { context: &'a CallContext, user: UserId },
    /// A registration was repeated and answered as before.
    RegistrationRepeated { context: &'a CallContext, user: UserId },
    /// The username of a registration is taken.
    NameTaken { context: &'a CallContext },
    /// A password was verified. `session` is the new session, if one was created.
    LoggedIn { context: &'a CallContext, user: UserId, session: Option<SessionId> },
    /// A login was refused. `why` is only for the audit log, never for a response.
    LoginRefused { context: &'a CallContext, why: Refusal },
    /// A session was refreshed. `again` if this repeats a refresh whose response was lost.
    TokenRefreshed { context: &'a CallContext, user: UserId, session: SessionId, again: bool },
    /// A refresh was repeated from another origin, and refused.
    RefreshRepeatRefused { context: &'a CallContext, user: UserId, session: SessionId },
    /// A refresh token was reused, and its session was ended. `why` is for the audit log.
    TokenReused { context: &'a CallContext, user: UserId, session: SessionId, why: &'static str },
    /// A token was refused. `why` is for the audit log.
    TokenRefused { context: &'a CallContext, why: &'static str },
    /// A service called introspection or revocation without a known client secret.
    ClientRefused { context: &'a CallContext },
    /// A user ended a session.
    SessionEnded { context: &'a CallContext, user: UserId, session: SessionId },
    /// A user ended all own sessions.
    AllSessionsEnded { context: &'a CallContext, user: UserId },
    /// A user has a new password.
    PasswordChanged { context: &'a CallContext, user: UserId },
    /// A verified password was rehashed with current parameters.
    PasswordRehashed { user: UserId },
    /// The password of a reauthentication did not match.
    ReauthenticationFailed { context: &'a CallContext, user: UserId },
    /// The data of a user were changed.
    UserChanged { context: &'a CallContext, user: UserId },
    /// A user was deleted.
    UserDeleted { context: &'a CallContext, user: UserId },
    /// A user set a new password with a reset code.
    PasswordReset { context: &'a CallContext, user: UserId },
    /// A reset code was refused. `why` is only for the audit log.
    PasswordResetRefused { context: &'a CallContext, why: CodeRefusal },
    /// An admin action succeeded or failed.
    AdminActed { context: &'a CallContext, act: AdminAction, user: Option<UserId>, refusal: Option<&'a Error> },
    /// An operator created the next signing key. `dropped` if the old keys were removed.
    SigningKeyRotated { context: &'a CallContext, key_id: &'a str, dropped: bool },
    /// A challenge was created.
    ChallengeCreated { context: &'a CallContext, purpose: ChallengePurpose },
    /// A call had no proof of work, but needed one.
    ChallengeMissing { context: &'a CallContext, purpose: ChallengePurpose },
    /// A proof of work was refused.
    ChallengeRefused { context: &'a CallContext, purpose: ChallengePurpose, why: ChallengeFault },
    /// A challenge was used for the first time. Its solution is checked after this event.
    ChallengeSpent { context: &'a CallContext, purpose: ChallengePurpose },
    /// A proof of work was accepted.
    ChallengeAccepted { context: &'a CallContext, purpose: ChallengePurpose },
    /// The key of a proof of work was derived in a worker.
    ChallengeChecked { queued: Duration, took: Duration },
    /// A rate limit refused a call.
    RateLimited { context: &'a CallContext, limit: Limit, retry_after: Duration },
    /// A username reached the lockout threshold. `user` if it exists.
    LockoutThresholdReached { context: &'a CallContext, user: Option<UserId> },
    /// The failed attempts of all clients exceed the rate of `--failure-alert`.
    FailureAlert,
    /// A password hash was computed in a worker.
    Hashed { queued: Duration, took: Duration },
    /// A request to the store failed.
    StoreFailed { error: &'a StoreError },
    /// A gRPC call ended: its `method` and status `code` as OpenTelemetry writes them.
    CallEnded { method: &'static str, code: &'static str, took: Duration },
    /// An HTTP request was answered: the template of its `route`, never its path.
    RequestEnded { route: &'static str, method: &'static str, status: u16, took: Duration },
    /// A call was refused because the hash queue is too long.
    Overloaded { context: &'a CallContext, retry_after: Duration },
    /// An attempt was refused because as many attempts at its rate-limit key are in flight as may still fail. Only counted.
    AttemptsInFlight,
}

/// Why a login was refused. Never sent to callers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// No user has the username.
    UnknownUser,
    /// The password does not match.
    WrongPassword(UserId),
    /// The user has no password.
    NoPassword(UserId),
    /// The hash of the user needs a pepper key that this node lacks. The password may match.
    PepperKeyMissing(UserId),
    /// The user is disabled. The password may match.
    Disabled(UserId),
    /// The user is locked out. The password may match.
    Locked(UserId),
}

/// Why a reset code was refused. Never sent to callers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CodeRefusal {
    /// No user has the username.
    UnknownUser,
    /// The user has no reset code.
    NoCode(UserId),
    /// The code does not match.
    WrongCode(UserId),
    /// The code matches, but has expired.
    Expired(UserId),
    /// The code matches, but the user is disabled.
    Disabled(UserId),
}

impl CodeRefusal {
    /// The name in logs and metrics.
    pub fn name(self) -> &'static str {
        match self {
            CodeRefusal::UnknownUser => "unknown_user",
            CodeRefusal::NoCode(_) => "no_code",
            CodeRefusal::WrongCode(_) => "wrong_code",
            CodeRefusal::Expired(_) => "expired",
            CodeRefusal::Disabled(_) => "disabled",
        }
    }

    /// The user, if the username exists.
    pub fn user(self) -> Option<UserId> {
        match self {
            CodeRefusal::UnknownUser => None,
            CodeRefusal::NoCode(user)
            | CodeRefusal::WrongCode(user)
            | CodeRefusal::Expired(user)
            | CodeRefusal::Disabled(user) => Some(user),
        }
    }
}

/// An action of an operator on the admin API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AdminAction {
    /// Reads a user.
    ReadUser,
    /// Disables a user.
    DisableUser,
    /// Enables a user.
    EnableUser,
    /// Resets the failure counter of a user.
    UnlockUser,
    /// Ends all sessions of a user.
    RevokeUserSessions,
    /// Ends all sessions of all users.
    RevokeAllUsersSessions,
    /// Creates a reset code.
    CreateResetCode {
        /// Whether the current password becomes invalid.
        require_reset: bool,
    },
    /// Reads the state of the server.
    ReadServer,
    /// Requests a rotation of the signing key that fails, or that has nothing to do.
    RotateSigningKey,
}
