//! Errors: one variant for each way in which a caller can react.
//!
//! Causes are logged where they occur and are not part of the value. `api` turns each variant into a response.

use std::{fmt, time::Duration};

use uuid::Uuid;

use super::{
    model::{ChallengeFault, ChallengePurpose},
    violation::{Reason, Violation, Violations},
};

/// The error of a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Error {
    /// Wrong password, unknown user or disabled user. The caller does not learn which.
    InvalidCredentials,
    /// The call needs a token and has none.
    TokenMissing,
    /// Not a token of this service, or not for this call.
    TokenInvalid,
    /// The token or its session has expired.
    TokenExpired,
    /// The session of the token has ended.
    TokenRevoked,
    /// The caller is known, but must not do this.
    CallerNotAllowed,
    /// The name is taken.
    UserAlreadyExists,
    /// There is no such user. Only the admin API returns it.
    UserNotFound,
    /// The user is disabled. Only the admin API returns it.
    UserDisabled,
    /// All invalid fields of the request.
    Invalid(Violations),
    /// A new password that the policy forbids, with no other violation.
    PasswordPolicy(Violations),
    /// The message or body is larger than the API accepts.
    RequestTooLarge,
    /// The call needs a proof of work and has none. Nothing was executed.
    ChallengeRequired {
        /// The purpose that the challenge must have.
        purpose: ChallengePurpose,
    },
    /// The proof of work is refused. Nothing was executed.
    ChallengeInvalid {
        /// The purpose that the challenge must have.
        purpose: ChallengePurpose,
        /// Why it is refused.
        fault: ChallengeFault,
    },
    /// The hash queue is too long, or too many attempts at one rate-limit key are in flight. Nothing was executed.
    Overloaded {
        /// When to retry.
        retry_after: Duration,
    },
    /// A rate limit refused the call. Nothing was executed.
    RateLimited {
        /// The limit.
        limit: Limit,
        /// When the limit allows another attempt, unless other clients use it up.
        retry_after: Duration,
    },
    /// Another call changed the document concurrently. Nothing was changed.
    Conflict,
    /// This node is shutting down. Nothing was executed.
    Draining,
    /// The store does not answer. Nothing was executed.
    StoreUnavailable,
    /// A write may or may not have happened.
    OutcomeUnknown,
    /// The deadline has passed, or is too near for one hash.
    DeadlineExceeded,
    /// A bug in Watchword. The log has the cause under this id.
    Internal(ErrorId),
    /// A stored document cannot be decoded. The log has the cause under this id.
    CorruptRecord(ErrorId),
}

/// The limit that refused a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// Attempts of the client address.
    Address,
    /// Attempts at the account.
    Account,
    /// Attempts of the address at this account.
    AddressAndAccount,
    /// Attempts with proof of work at the account, or of the address among them.
    ProofOfWork,
    /// Attempts of the client address, right or wrong.
    AddressAttempts,
    /// Attempts at the account, right or wrong.
    AccountAttempts,
    /// Registrations of the client address.
    Registrations,
    /// Wrong client secrets of the peer.
    ClientSecrets,
    /// Calls of one session.
    Session,
}

impl Limit {
    /// The name in responses and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Limit::Address => "address",
            Limit::Account => "account",
            Limit::AddressAndAccount => "address_and_account",
            Limit::ProofOfWork => "proof_of_work",
            Limit::AddressAttempts => "address_attempts",
            Limit::AccountAttempts => "account_attempts",
            Limit::Registrations => "registrations",
            Limit::ClientSecrets => "client_secrets",
            Limit::Session => "session",
        }
    }
}

/// The error of a store. The store has logged the cause, except for `Corrupt`, which contains it.
#[derive(Debug, Clone)]
pub enum StoreError {
    /// Nothing was executed.
    Unavailable,
    /// The write may have happened.
    OutcomeUnknown,
    /// This document cannot be decoded; others can.
    Corrupt(CorruptRecord),
}

/// A document that cannot be decoded, as the log names it.
#[derive(Debug, Clone)]
pub struct CorruptRecord {
    /// The kind of the document, and its name in the store. A user is named by the user id, or by a hash of the username.
    pub record: String,
    /// Why it cannot be decoded, without the content of the document.
    pub cause: String,
}

/// Identifies the log line with the cause of an error.
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
    /// Returns the valid value, or records the violation.
    pub(crate) fn field<T>(&mut self, parsed: Result<T, Violation>) -> Option<T> {
        parsed.map_err(|violation| self.0.push(violation)).ok()
    }

    /// `Ok` if there is no violation.
    pub(crate) fn done(self) -> Result<(), Error> {
        if self.0.is_empty() { Ok(()) } else { Err(Error::Invalid(Violations(self.0))) }
    }

    /// Like `done`, for a request with a new password: if only the password is invalid, the error is `PasswordPolicy`. A
    /// missing password is `Invalid`.
    pub(crate) fn done_with_new_password(self, field: &str) -> Result<(), Error> {
        let is_policy = |violation: &Violation| violation.field == field && violation.reason != Reason::Required;
        let only_policy = self.0.iter().all(is_policy);
        self.done().map_err(|error| match error {
            Error::Invalid(violations) if only_policy => Error::PasswordPolicy(violations),
            other => other,
        })
    }
}
