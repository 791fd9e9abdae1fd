//! All that is counted or audited, as values.
//!
//! The rules say what happened; `telemetry` decides how it is shown. No event holds a secret or the name that
//! somebody tried.

use std::time::Duration;

use super::{
    context::CallContext,
    error::{Error, Limit, StoreError},
    model::{ChallengeFault, ChallengePurpose, SessionId, UserId},
};

/// Something that an operator may want to know.
#[derive(Debug)]
#[expect(missing_docs, reason = "each variant says what its fields are")]
pub enum Event<'a> {
    /// A user was stored.
    Registered { context: &'a CallContext, user: UserId },
    /// A registration was sent again and answered like the first time.
    RegistrationRepeated { context: &'a CallContext, user: UserId },
    /// A registration asked for a name that is taken.
    NameTaken { context: &'a CallContext },
    /// A password was right; `session` when one began.
    LoggedIn { context: &'a CallContext, user: UserId, session: Option<SessionId> },
    /// A login was refused. `why` is for the log alone, never for an answer.
    LoginRefused { context: &'a CallContext, why: Refusal },
    /// A session was refreshed; `again` when its answer had been lost.
    TokenRefreshed { context: &'a CallContext, user: UserId, session: SessionId, again: bool },
    /// A refresh token was used that had been used before; its session was ended.
    TokenReused { context: &'a CallContext, user: UserId, session: SessionId },
    /// A token was refused. `why` is for the log.
    TokenRefused { context: &'a CallContext, why: &'static str },
    /// A service asked about tokens and showed no secret that is known.
    ClientRefused { context: &'a CallContext },
    /// A session was ended by its user.
    SessionEnded { context: &'a CallContext, user: UserId, session: SessionId },
    /// All sessions of a user were ended by the user.
    AllSessionsEnded { context: &'a CallContext, user: UserId },
    /// A user has a new password.
    PasswordChanged { context: &'a CallContext, user: UserId },
    /// A password was right and is stored in today's form from now on; it is the same password.
    PasswordRehashed { user: UserId },
    /// A password did not match where the user had to show it again.
    ReauthenticationFailed { context: &'a CallContext, user: UserId },
    /// A user's data were changed.
    UserChanged { context: &'a CallContext, user: UserId },
    /// A user was forgotten.
    UserDeleted { context: &'a CallContext, user: UserId },
    /// A user has a new password by a code of an operator's.
    PasswordReset { context: &'a CallContext, user: UserId },
    /// A code for a new password was refused. `why` is for the log alone.
    PasswordResetRefused { context: &'a CallContext, why: CodeRefusal },
    /// An operator did something, or was refused it.
    AdminActed { context: &'a CallContext, act: AdminAction, user: Option<UserId>, refusal: Option<&'a Error> },
    /// The next signing key was made by an operator; `dropped` when the old ones are gone.
    SigningKeyRotated { context: &'a CallContext, key_id: &'a str, dropped: bool },
    /// A challenge was made.
    ChallengeCreated { context: &'a CallContext, purpose: ChallengePurpose },
    /// A call came without the proof of work that it needs.
    ChallengeMissing { context: &'a CallContext, purpose: ChallengePurpose },
    /// A proof of work does not count.
    ChallengeRefused { context: &'a CallContext, purpose: ChallengePurpose, why: ChallengeFault },
    /// A challenge was presented for the first time; whether its solution is right is seen after that.
    ChallengeSpent { context: &'a CallContext, purpose: ChallengePurpose },
    /// A proof of work counts.
    ChallengeAccepted { context: &'a CallContext, purpose: ChallengePurpose },
    /// The key of a proof of work was derived once, after waiting for a worker.
    ChallengeChecked { queued: Duration, took: Duration },
    /// A limit refused a call.
    RateLimited { context: &'a CallContext, limit: Limit, retry_after: Duration },
    /// A name has had so many failures in a row that its password alone opens nothing any more; `user` when there is one.
    LockoutThresholdReached { context: &'a CallContext, user: Option<UserId> },
    /// Everybody together fails more often than operators said is usual.
    FailureAlert,
    /// A password was hashed once, after waiting for a worker.
    Hashed { queued: Duration, took: Duration },
    /// The store did not do as asked.
    StoreFailed { error: &'a StoreError },
    /// A gRPC call ended: its `method` and status `code` as OpenTelemetry writes them.
    CallEnded { method: &'static str, code: &'static str, took: Duration },
    /// An HTTP request was answered: the template of its `route`, never its path.
    RequestEnded { route: &'static str, method: &'static str, status: u16, took: Duration },
    /// A call was turned away because the hash queue is full.
    Overloaded { context: &'a CallContext, retry_after: Duration },
}

/// Why a login was refused. Callers never learn it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// No user has that name.
    UnknownUser,
    /// The password is another one.
    WrongPassword(UserId),
    /// The user has no password that could be right.
    NoPassword(UserId),
    /// The user is disabled; the password may have been right.
    Disabled(UserId),
    /// Too many passwords were wrong before; this one may have been right.
    Locked(UserId),
}

/// Why a code was refused. Callers never learn it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CodeRefusal {
    /// No user has that name.
    UnknownUser,
    /// The user has no code, or none any more.
    NoCode(UserId),
    /// The user's code is another one.
    WrongCode(UserId),
    /// The right one, too late.
    Expired(UserId),
    /// The right one of somebody who is disabled.
    Disabled(UserId),
}

impl CodeRefusal {
    /// The refusal's name in logs and metrics.
    pub fn name(self) -> &'static str {
        match self {
            CodeRefusal::UnknownUser => "unknown_user",
            CodeRefusal::NoCode(_) => "no_code",
            CodeRefusal::WrongCode(_) => "wrong_code",
            CodeRefusal::Expired(_) => "expired",
            CodeRefusal::Disabled(_) => "disabled",
        }
    }

    /// Whose account it is, if anybody's.
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

/// What an operator does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AdminAction {
    /// Looks at a user.
    ReadUser,
    /// Refuses a user's logins.
    DisableUser,
    /// Allows them again.
    EnableUser,
    /// Forgets a user's failures.
    UnlockUser,
    /// Makes a code with which a user sets a new password.
    CreateResetCode {
        /// The present one no longer counts.
        require_reset: bool,
    },
    /// Looks at the server.
    ReadServer,
    /// Asks for the next signing key, and is refused or has it already.
    RotateSigningKey,
}
