//! What can go wrong, one variant for each thing a caller can do about it.
//!
//! Causes are logged where they occur and never travel in the value. `wire/error.rs` says how each variant looks on
//! the wire.

use std::{fmt, time::Duration};

use uuid::Uuid;

use super::{
    model::{ChallengeFault, ChallengePurpose},
    violation::{Reason, Violation, Violations},
};

/// A call's failure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Error {
    /// Wrong password, unknown user or disabled user: nobody learns which.
    InvalidCredentials,
    /// The call needs a token and brought none.
    TokenMissing,
    /// Not a token of ours, or not one for this.
    TokenInvalid,
    /// The token's time, or its session's, is over.
    TokenExpired,
    /// The token's session was ended.
    TokenRevoked,
    /// The name is taken.
    UserAlreadyExists,
    /// There is no such user. Only operators are told.
    UserNotFound,
    /// Fields that cannot be accepted, all of them at once.
    Invalid(Violations),
    /// A new password that the policy forbids, and nothing else is wrong.
    PasswordPolicy(Violations),
    /// The message or body is larger than its door accepts.
    RequestTooLarge,
    /// The call needs a proof of work and brought none; nothing was executed.
    ChallengeRequired {
        /// What the challenge must be for.
        purpose: ChallengePurpose,
    },
    /// The proof of work does not count; nothing was executed.
    ChallengeInvalid {
        /// What the challenge must be for.
        purpose: ChallengePurpose,
        /// Why it does not count.
        fault: ChallengeFault,
    },
    /// More calls wait for a hash than can be answered in time; nothing was executed.
    Overloaded {
        /// When a new try has a chance.
        retry_after: Duration,
    },
    /// A limit on guessing; nothing was executed.
    RateLimited {
        /// Which one.
        limit: Limit,
        /// When there is room again, if nobody else takes it.
        retry_after: Duration,
    },
    /// Somebody else changed it meanwhile; nothing was changed.
    Conflict,
    /// This node is shutting down; nothing was executed.
    Draining,
    /// The store does not answer; nothing was executed.
    StoreUnavailable,
    /// A write may or may not have happened.
    OutcomeUnknown,
    /// The caller's deadline has passed, or is too near for one hash.
    DeadlineExceeded,
    /// A bug of ours. The log has the cause under this id.
    Internal(ErrorId),
    /// A stored user that cannot be read. The log has the cause under this id.
    CorruptRecord(ErrorId),
}

/// Which limit refused a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// Of the end user's address.
    Address,
    /// Of the account.
    Account,
    /// Of the address at this account.
    AddressAndAccount,
    /// Registrations of the address.
    Registrations,
}

impl Limit {
    /// The limit's name in answers and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Limit::Address => "address",
            Limit::Account => "account",
            Limit::AddressAndAccount => "address_and_account",
            Limit::Registrations => "registrations",
        }
    }
}

/// Why a store did not do as asked. The store has logged what happened, except where a cause travels along.
#[derive(Debug, Clone)]
pub enum StoreError {
    /// Nothing was executed.
    Unavailable,
    /// The write may have happened.
    OutcomeUnknown,
    /// This user cannot be read; others can. The text says why, without the record's content.
    Corrupt(String),
}

/// Ties an answer to the log line with its cause.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ErrorId(pub(crate) Uuid);

impl fmt::Display for ErrorId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl From<Violation> for Error {
    fn from(violation: Violation) -> Self {
        Error::Invalid(violation.into())
    }
}

/// Collects violations while a request is parsed, so that all of them are reported at once.
#[derive(Debug, Default)]
pub(crate) struct Check(Vec<Violation>);

impl Check {
    /// Keeps the good value, or the violation.
    pub(crate) fn field<T>(&mut self, parsed: Result<T, Violation>) -> Option<T> {
        parsed.map_err(|violation| self.0.push(violation)).ok()
    }

    /// `Ok` when nothing was violated.
    pub(crate) fn done(self) -> Result<(), Error> {
        if self.0.is_empty() { Ok(()) } else { Err(Error::Invalid(Violations(self.0))) }
    }

    /// The same where a password is new: then its violations are the policy's, unless there is none at all.
    pub(crate) fn done_with_new_password(self, field: &str) -> Result<(), Error> {
        let of_policy = |violation: &Violation| violation.field == field && violation.reason != Reason::Required;
        let only_policy = self.0.iter().all(of_policy);
        self.done().map_err(|error| match error {
            Error::Invalid(violations) if only_policy => Error::PasswordPolicy(violations),
            other => other,
        })
    }
}
