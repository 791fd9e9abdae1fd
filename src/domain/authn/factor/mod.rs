//! The factors: one file for each way to prove an identity.
//!
//! A factor says what permit it needs, verifies, and says how a failure counts. It keeps no state and writes no store. Does
//! not know what the attempt is made for.

mod password;
mod reset_code;

use std::time::SystemTime;

pub(in crate::domain) use self::{
    password::PasswordFactor,
    reset_code::{PresentedCode, ResetCodeFactor},
};
use crate::domain::{
    abuse::{AttemptLimits, LimitHold, Lock},
    context::CallContext,
    error::Error,
    model::{User, Username},
    password::{HashBegun, HashPool},
    ports::{Environment, Sleep},
};

/// The permit of a factor that needs none.
pub(in crate::domain) struct NoPermit;

/// What a factor is verified against.
pub(in crate::domain) struct Subject<'a> {
    /// The user, if the username has one.
    pub(super) user: Option<&'a User>,
    /// Whether the account is locked.
    pub(super) lock: Lock,
    /// The store's time.
    pub(super) now: SystemTime,
    /// The hash pool, for its decoy hash.
    pub(super) pool: &'a HashPool,
}

/// A failed attempt, to be counted.
pub(in crate::domain) struct Failure<'a, R> {
    pub(super) limits: &'a AttemptLimits,
    pub(super) environment: &'a Environment,
    pub(super) context: &'a CallContext,
    pub(super) username: &'a Username,
    pub(super) refusal: R,
}

/// A way to prove an identity.
pub(in crate::domain) trait Factor: Send {
    /// What verification needs: a permit of the hash pool, or nothing.
    type Permit: Send;

    /// Whether the hash that the permit is for has begun; `None` for a factor without a hash.
    fn hash_begun(permit: &Self::Permit) -> Option<HashBegun>;

    /// Why it refuses. For the audit log, never for an answer.
    type Refusal: Copy + Send;

    /// Answers why it refuses; `None`: the identity is proven. Costs the same where there is no user.
    ///
    /// # Errors
    /// The factor could not be verified.
    fn verify(
        self,
        permit: Self::Permit,
        subject: Subject<'_>,
    ) -> impl Future<Output = Result<Option<Self::Refusal>, Error>> + Send;

    /// Counts a failed attempt and notes what no caller may prevent by disconnecting; then waits for `refusal_time` where no
    /// hash took that time.
    ///
    /// # Errors
    /// `RateLimited`; `StoreUnavailable`; `CorruptRecord`.
    fn count_failure(
        failure: Failure<'_, Self::Refusal>,
        hold: LimitHold,
        refusal_time: Sleep,
    ) -> impl Future<Output = Result<(), Error>> + Send;
}
