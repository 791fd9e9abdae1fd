//! The password: verified in the hash pool, at the cost of one hash whether or not there is a user.

use super::{super::outcome::refusal, Factor, Failure, Subject};
use crate::domain::{
    abuse::LimitHold,
    error::Error,
    event::Refusal,
    model::Password,
    password::{HashBegun, QueuePermit},
    ports::Sleep,
};

/// A password that a client shows.
pub(in crate::domain) struct PasswordFactor(pub(in crate::domain) Password);

impl Factor for PasswordFactor {
    type Permit = QueuePermit;
    type Refusal = Refusal;

    fn hash_begun(permit: &QueuePermit) -> Option<HashBegun> {
        Some(permit.begun())
    }

    async fn verify(self, permit: QueuePermit, subject: Subject<'_>) -> Result<Option<Refusal>, Error> {
        let Subject { user, lock, pool, .. } = subject;
        // Without a user, or without a password, a hash that no password matches.
        let hash = user.and_then(|user| user.password.clone()).unwrap_or_else(|| pool.decoy());
        let is_key_missing = pool.lacks_key_of(&hash);
        let matches = permit.verify(self.0, hash).await?;
        Ok(match refusal(user, lock, matches) {
            Some(Refusal::WrongPassword(user)) if is_key_missing => Some(Refusal::PepperKeyMissing(user)),
            refusal => refusal,
        })
    }

    async fn count_failure(failure: Failure<'_, Refusal>, hold: LimitHold, _: Sleep) -> Result<(), Error> {
        failure.limits.failed(failure.context, hold);
        Ok(())
    }
}
