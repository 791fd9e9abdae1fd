//! What runs against limits beside guesses at passwords: registrations and reset codes. How failures are looked at, stored and
//! forgotten, and how a limit refuses.

use std::time::Duration;

use super::{
    Auth, CallContext, Error, Event, Limit, RateLimitSettings, UserId, Username,
    failures::FailedAttempts,
    throttle::{Key, Prefix, Taken},
    user::AddressHash,
};

/// No refusal that was decided without a hash, after a user was looked for, comes earlier. What it takes to read a user and
/// to read none differs by some microseconds, and no hash hides them.
pub(super) const REFUSAL_TIME_MIN: Duration = Duration::from_millis(10);

impl Auth {
    /// Stores what was counted since the last time.
    pub async fn store_failures(&self) {
        if let Some(guards) = &self.guards {
            guards.unwritten.store(&*self.store).await;
        }
    }

    /// The failures of a name in a row, for whoever only looks.
    pub(super) async fn failures_in_a_row(&self, username: &Username) -> Result<Option<FailedAttempts>, Error> {
        let Some(guards) = &self.guards else { return Ok(None) };
        let name = self.ring().await?.username_hash(username);
        let stored = self.store.failures(name).await.map_err(|error| self.store_error(error))?;
        Ok(guards.unwritten.failures(name, stored.as_ref().map(|stored| &stored.value), self.store.now()))
    }

    /// The limits; none where nothing is throttled.
    pub fn rate_limit_settings(&self) -> Option<&RateLimitSettings> {
        self.guards.as_ref().map(|guards| &guards.settings)
    }

    /// Counts a reset code that was wrong, against limits of the caller's address alone: whoever has the right one is let
    /// in, whatever others try.
    ///
    /// # Errors
    /// `RateLimited`; `StoreUnavailable`.
    pub(super) async fn count_wrong_code(&self, context: &CallContext, username: &Username) -> Result<(), Error> {
        let (Some(guards), Some(address)) = (&self.guards, context.client.map(Prefix::of)) else { return Ok(()) };
        let name = self.ring().await?.username_hash(username);
        let settings = &guards.settings;
        let mut taken = Vec::new();
        for (limit, key, rate) in [
            (Limit::Address, Key::Codes(address), settings.per_address),
            (Limit::AddressAndAccount, Key::CodesAtAccount(address, name), settings.per_address_and_account),
        ] {
            let place = guards.throttle.take(key, rate).await;
            taken.push(place.map_err(|wait| self.rate_limited(context, limit, wait))?);
        }
        taken.into_iter().for_each(Taken::keep);
        Ok(())
    }

    /// Forgets a name's failures, here at once and in the store when this ends.
    ///
    /// # Errors
    /// `OutcomeUnknown`: they are forgotten here, and stored later.
    pub(super) async fn forget_failures_for_good(&self, username: &Username) -> Result<(), Error> {
        let Some(guards) = &self.guards else { return Ok(()) };
        self.forget_failures(username).await;
        let name = self.ring().await?.username_hash(username);
        match guards.unwritten.store_one(&*self.store, name).await {
            Ok(true) => Ok(()),
            Ok(false) => Err(Error::OutcomeUnknown),
            Err(error) => {
                self.note(&Event::StoreFailed { error: &error });
                Err(Error::OutcomeUnknown)
            }
        }
    }

    /// The name has a new password, or an operator trusts it again.
    pub(super) async fn forget_failures(&self, username: &Username) {
        let Some(guards) = &self.guards else { return };
        // Whoever could not read the keys could not have guessed either.
        let Ok(ring) = self.ring().await else { return };
        let name = ring.username_hash(username);
        guards.unwritten.forget(name, self.store.now());
    }

    /// Takes a place for a registration, whatever becomes of it.
    pub(super) fn count_registration(&self, context: &CallContext) -> Result<(), Error> {
        let (Some(guards), Some(address)) = (&self.guards, context.client) else { return Ok(()) };
        let key = Key::Registrations(Prefix::of(address));
        let counted = guards.throttle.count(key, guards.settings.registrations);
        counted.map_err(|wait| self.rate_limited(context, Limit::Registrations, wait))
    }

    /// What stands for the caller's address among those that the user has signed in from.
    pub(super) async fn address_hash(
        &self,
        context: &CallContext,
        user: Option<UserId>,
    ) -> Result<Option<AddressHash>, Error> {
        let Some(address) = context.client.map(Prefix::of) else { return Ok(None) };
        Ok(Some(self.ring().await?.address_hash(user, address)))
    }

    pub(super) fn rate_limited(&self, context: &CallContext, limit: Limit, retry_after: Duration) -> Error {
        self.note(&Event::RateLimited { context, limit, retry_after });
        Error::RateLimited { limit, retry_after }
    }
}
