//! The factors: one file for each way to prove an identity.
//!
//! A factor says what permit it needs, verifies, and says how a failure counts. It keeps no state and writes no store. Does
//! not know what the attempt is made for.

mod password;
mod reset_code;

pub(in crate::domain) use self::{
    password::PasswordFactor,
    reset_code::{PresentedCode, ResetCodeFactor},
};
use super::attempt::Authenticator;
use crate::domain::{
    abuse::{AttemptLimits, LimitHold, Lock},
    context::CallContext,
    error::Error,
    model::{User, UserId, Username},
    ports::Sleep,
};

/// A way to prove an identity.
pub(in crate::domain) trait Factor: Send {
    /// What verification needs: a permit of the hash pool, or nothing.
    type Permit: Send;

    /// Why it refuses. For the audit log, never for an answer.
    type Refusal: Copy + Send;

    /// Verifies; `None` when the identity of `user` is proven. Costs the same where there is no user.
    ///
    /// # Errors
    /// The factor could not be verified.
    fn verify(
        self,
        pipeline: &Authenticator,
        permit: Self::Permit,
        user: Option<&User>,
        lock: Lock,
    ) -> impl Future<Output = Result<Option<Self::Refusal>, Error>> + Send;

    /// Counts a failed attempt.
    ///
    /// # Errors
    /// `RateLimited`.
    fn count_failure(
        limits: &AttemptLimits,
        context: &CallContext,
        hold: LimitHold,
        username: &Username,
        user: Option<UserId>,
        refusal_time: Sleep,
    ) -> impl Future<Output = Result<(), Error>> + Send;
}
