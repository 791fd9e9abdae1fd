//! The limits beside those of password attempts: on registrations, reset codes, client secrets and calls of a session.
//!
//! Also how operators see, store and clear failed attempts.

use super::{
    attempt_limits::{ActiveLimits, AttemptLimits},
    price,
    rate_limit::{LimitRequest, RateLimitKey, RateLimitSettings, Reservation, Total, from_address},
};
use crate::domain::{
    context::{CallContext, Peer},
    error::{Error, Limit, StoreError},
    event::Event,
    model::{FailedAttempts, SessionId, Username, UsernameHash, WantedChallenge},
    ports::{Replace, StoreResult, Stored},
};

impl AttemptLimits {
    /// The settings; none where nothing is limited.
    pub(in crate::domain) fn settings(&self) -> Option<&RateLimitSettings> {
        self.active.as_ref().map(|active| &active.settings)
    }

    /// Stores the failed attempts that were counted since the last time.
    pub(in crate::domain) async fn store_failed_attempts(&self) {
        if let Some(active) = &self.active {
            active.counter.store_all(&*self.store).await;
        }
    }

    /// The consecutive failed attempts of a username, for display.
    pub(in crate::domain) async fn consecutive_failures(
        &self,
        username: &Username,
    ) -> Result<Option<FailedAttempts>, Error> {
        let Some(active) = &self.active else { return Ok(None) };
        let ring = self.keys.key_ring().await?;
        let (username, former_hashes) = (ring.username_hash(username), ring.former_username_hashes(username));
        let stored = self.stored_failures(username, &former_hashes).await.or_report(&self.environment)?;
        Ok(active.counter.attempts(username, stored.as_ref().map(|stored| &stored.value), self.store.now()))
    }

    /// The stored failed attempts of a username. What is stored under the keyed hash of an exposed secret is moved to the
    /// hash of the new secret first, so that lockouts survive `--drop-old-keys`.
    pub(super) async fn stored_failures(
        &self,
        username: UsernameHash,
        former_hashes: &[UsernameHash],
    ) -> Result<Option<Stored<FailedAttempts>>, StoreError> {
        let stored = self.store.failures(username).await?;
        if stored.is_some() {
            return Ok(stored);
        }
        for former in former_hashes {
            if let Some(Stored { value, revision }) = self.store.failures(*former).await? {
                // The copy first: an interruption leaves the count twice, and not lost.
                if self.store.replace_failures(username, None, Some(&value)).await? != Replace::Replaced {
                    // Each call moves the count before it adds to it, so what is stored includes it.
                    tracing::debug!("another call was faster to move the failed attempts of an older secret");
                }
                self.store.replace_failures(*former, Some(&revision), None).await?;
                return self.store.failures(username).await;
            }
        }
        Ok(None)
    }

    /// Counts a wrong reset code at the client's address alone: the right code is accepted whatever others try.
    ///
    /// # Errors
    /// `RateLimited`, `Overloaded`; `StoreUnavailable`.
    pub(in crate::domain) async fn count_wrong_code(
        &self,
        context: &CallContext,
        username: &Username,
    ) -> Result<(), Error> {
        let (Some(active), Some(client)) = (&self.active, context.client) else { return Ok(()) };
        let username = self.keys.key_ring().await?.username_hash(username);
        let settings = &active.settings;
        let at_address = from_address(client, settings.per_address, RateLimitKey::ResetCodes).collect();
        let at_account = from_address(client, settings.per_address_and_account, |prefix| {
            RateLimitKey::ResetCodesAt(prefix, username)
        });
        let mut reservations = Vec::new();
        for (limit, requests) in
            [(Limit::Address, at_address), (Limit::AddressAndAccount, at_account.collect::<Vec<_>>())]
        {
            let reserved = active.limiter.reserve(&requests).await;
            reservations.extend(reserved.map_err(|refusal| self.refused(context, limit, refusal))?);
        }
        reservations.into_iter().for_each(Reservation::keep);
        Ok(())
    }

    /// Counts a registration, whatever its outcome. One with proof of work is not limited. `false` says that it needs one,
    /// because there are too many registrations and nothing tells their sources apart.
    ///
    /// # Errors
    /// `RateLimited`.
    pub(in crate::domain) fn count_registration(
        &self,
        context: &CallContext,
        has_proof_of_work: bool,
    ) -> Result<bool, Error> {
        let Some(active) = &self.active else { return Ok(true) };
        let settings = &active.settings;
        if !has_proof_of_work {
            if let Some(client) = context.client {
                let requests: Vec<_> =
                    from_address(client, settings.registrations, RateLimitKey::Registrations).collect();
                self.count(active, context, &requests)?;
            } else if active.asks_for_work(Total::Registrations, settings.registration_alert) {
                return Ok(false);
            }
        }
        if active.is_unusual(Total::Registrations, Total::RegistrationAlerts, settings.registration_alert) {
            self.environment.note(&Event::RegistrationAlert);
        }
        Ok(true)
    }

    /// Counts the check of a solution, right or wrong, as an attempt of the client address.
    ///
    /// # Errors
    /// `RateLimited`.
    pub(in crate::domain) fn count_solution(&self, context: &CallContext) -> Result<(), Error> {
        let (Some(active), Some(client)) = (&self.active, context.client) else { return Ok(()) };
        let rate = active.settings.attempts_per_address;
        let requests: Vec<_> = from_address(client, rate, RateLimitKey::AttemptsFrom).collect();
        self.count(active, context, &requests)
    }

    /// The price of a proof of work. For a login at an account it depends on the failed attempts, also where the username has
    /// no user; without a username it is that of any account.
    ///
    /// # Errors
    /// `StoreUnavailable`; `CorruptRecord`.
    pub(in crate::domain) async fn price(&self, wanted: &WantedChallenge) -> Result<u8, Error> {
        match wanted {
            WantedChallenge::Register => Ok(0),
            WantedChallenge::Login(None) => Ok(price::STEPS_OF_ANY_ACCOUNT),
            WantedChallenge::Login(Some(username)) => {
                let attempts = self.consecutive_failures(username).await?;
                Ok(attempts.map_or(0, |attempts| price::of(price::failures(&attempts, self.store.now()))))
            }
        }
    }

    /// Counts a wrong client secret at the peer. The right secret is not limited, so that one client of a proxy cannot stop the
    /// others.
    ///
    /// # Errors
    /// `RateLimited`.
    pub(in crate::domain) fn count_wrong_client_secret(&self, context: &CallContext) -> Result<(), Error> {
        if let Some(active) = &self.active {
            let rate = active.settings.per_address;
            let requests = match context.peer {
                Peer::Ip(address) => {
                    from_address(address, rate, |prefix| RateLimitKey::ClientSecrets(Some(prefix))).collect()
                }
                Peer::Local { .. } => vec![LimitRequest::new(RateLimitKey::ClientSecrets(None), rate)],
            };
            self.count(active, context, &requests)?;
        }
        self.environment.note(&Event::ClientRefused { context });
        Ok(())
    }

    /// Counts a call with an access token that changes something in its session, whatever its outcome: each writes to the
    /// store and to the audit log without costing a hash.
    ///
    /// # Errors
    /// `RateLimited`.
    pub(in crate::domain) fn count_change(&self, context: &CallContext, session: SessionId) -> Result<(), Error> {
        self.count_in_session(context, RateLimitKey::SessionChanges(session))
    }

    /// Counts a refresh that exchanges the token of a session.
    ///
    /// # Errors
    /// `RateLimited`.
    pub(in crate::domain) fn count_refresh(&self, context: &CallContext, session: SessionId) -> Result<(), Error> {
        self.count_in_session(context, RateLimitKey::SessionRefreshes(session))
    }

    /// Counts a call with a refresh token, whatever its outcome.
    ///
    /// # Errors
    /// `RateLimited`.
    pub(in crate::domain) fn count_token_use(&self, context: &CallContext, secret_hash: [u8; 32]) -> Result<(), Error> {
        self.count_in_session(context, RateLimitKey::RefreshTokenUses(secret_hash))
    }

    fn count_in_session(&self, context: &CallContext, key: RateLimitKey) -> Result<(), Error> {
        let Some(active) = &self.active else { return Ok(()) };
        self.count(active, context, &[LimitRequest::new(key, active.settings.per_session)])
    }

    /// Counts an event at the keys of one limit.
    fn count(&self, active: &ActiveLimits, context: &CallContext, requests: &[LimitRequest]) -> Result<(), Error> {
        let [first, ..] = requests else { return Ok(()) };
        let counted = active.limiter.count(requests);
        counted.map_err(|wait| self.rate_limited(context, first.key.limit(), wait))
    }

    /// Clears the failed attempts of a username on this node, and in the store soon: it has a new password or a new user.
    pub(in crate::domain) async fn clear(&self, username: &Username) {
        let Some(active) = &self.active else { return };
        // Without the key ring no attempt was recorded, so there is nothing to clear.
        let Ok(ring) = self.keys.last_key_ring().await else { return };
        let (username, former_hashes) = (ring.username_hash(username), ring.former_username_hashes(username));
        if let Err(error) = self.stored_failures(username, &former_hashes).await {
            tracing::debug!(?error, "failed attempts of an older secret were not read, so they are not cleared");
        }
        active.counter.clear(username, self.store.now());
    }

    /// Clears the failed attempts of a username here and in the store.
    ///
    /// # Errors
    /// `OutcomeUnknown`: they are cleared here, and in the store later.
    pub(in crate::domain) async fn clear_in_store(&self, username: &Username) -> Result<(), Error> {
        let Some(active) = &self.active else { return Ok(()) };
        self.clear(username).await;
        let username = self.keys.last_key_ring().await?.username_hash(username);
        match active.counter.store_one(&*self.store, username).await {
            Ok(true) => Ok(()),
            Ok(false) => Err(Error::OutcomeUnknown),
            Err(error) => {
                self.environment.note(&Event::StoreFailed { error: &error });
                Err(Error::OutcomeUnknown)
            }
        }
    }
}
