//! The password: verified in the hash pool, at the cost of one hash whether or not there is a user.

use super::{super::outcome::refusal, Factor, Subject};
use crate::domain::{
    abuse::{AttemptLimits, LimitHold},
    context::CallContext,
    error::Error,
    event::Refusal,
    model::{Password, UserId, Username},
    password::QueuePermit,
    ports::Sleep,
};

/// A password that a client shows.
pub(in crate::domain) struct PasswordFactor(pub(in crate::domain) Password);

impl Factor for PasswordFactor {
    type Permit = QueuePermit;
    type Refusal = Refusal;

    async fn verify(self, permit: QueuePermit, subject: Subject<'_>) -> Result<Option<Refusal>, Error> {
        let Subject { user, lock, pool, .. } = subject;
        // Without a user, or without a password, a hash that no password matches.
        let hash = user.and_then(|user| user.password.clone()).unwrap_or_else(|| pool.decoy());
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
