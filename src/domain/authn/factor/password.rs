//! The password: verified in the hash pool, at the cost of one hash whether or not there is a user.

use super::{super::outcome::refusal, Authenticator, Factor};
use crate::domain::{
    abuse::{AttemptLimits, LimitHold, Lock},
    context::CallContext,
    error::Error,
    event::Refusal,
    model::{Password, User, UserId, Username},
    password::QueuePermit,
    ports::Sleep,
};

/// A password that a client shows.
pub(in crate::domain) struct PasswordFactor(pub(in crate::domain) Password);

impl Factor for PasswordFactor {
    type Permit = QueuePermit;
    type Refusal = Refusal;

    async fn verify(
        self,
        pipeline: &Authenticator,
        permit: QueuePermit,
        user: Option<&User>,
        lock: Lock,
    ) -> Result<Option<Refusal>, Error> {
        // Without a user, or without a password, a hash that no password matches.
        let hash = user.and_then(|user| user.password.clone()).unwrap_or_else(|| pipeline.pool.decoy());
        let matches = permit.verify(self.0, hash).await?;
        Ok(refusal(user, lock, matches))
    }

    async fn count_failure(
        limits: &AttemptLimits,
        context: &CallContext,
        hold: LimitHold,
        _: &Username,
        user: Option<UserId>,
        _: Sleep,
    ) -> Result<(), Error> {
        limits.failed(context, hold, user);
        Ok(())
    }
}
