//! The limits of password attempts: which are asked before a password is verified, and what the outcome changes.
//!
//! Usernames without a user are limited like all others. A user under attack still gets in: from a familiar address, in a
//! session, or with proof of work; the account's own limit applies to none of these.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use super::{
    failure_counter::{AttemptState, FailureCounter},
    rate_limit::{
        AttemptSource, Exceeded, LimitRefusal, LimitRequest, Rate, RateLimitKey, RateLimitSettings, RateLimiter,
        Reservation,
    },
};
use crate::domain::{
    context::CallContext,
    error::{Error, Limit, StoreError},
    event::Event,
    model::{FailedAttempts, IpPrefix, SessionId, User, UserId, Username, UsernameHash},
    ports::{Environment, Store, StoreResult, Stored},
    token::KeyRingCache,
};

/// Attempts with proof of work at one account: as many as eleven machines of two cores can pay for. A victim finds room, and
/// no botnet finds more.
const PROVEN_PER_ACCOUNT: Rate = Rate { events: 100_000, period: Duration::from_secs(3_600) };

/// The limits of attempts on this node. Without settings nothing is limited.
pub(in crate::domain) struct AttemptLimits {
    pub(super) store: Arc<dyn Store>,
    pub(super) keys: Arc<KeyRingCache>,
    pub(super) environment: Environment,
    pub(super) active: Option<ActiveLimits>,
}

pub(super) struct ActiveLimits {
    pub(super) settings: RateLimitSettings,
    pub(super) limiter: RateLimiter,
    pub(super) counter: FailureCounter,
}

/// What an attempt holds in the limits until it settles. Dropped before that, it releases everything; dropped during
/// verification, by a client that disconnects, it counts at the address alone: it has cost one hash.
#[must_use]
pub(in crate::domain) struct LimitHold(Option<ActiveHold>);

struct ActiveHold {
    username: UsernameHash,
    former_hashes: Vec<UsernameHash>,
    source: Option<AttemptSource>,
    /// The reservation at the client's address.
    address: Option<Reservation>,
    reservations: Vec<Reservation>,
    /// What a failure adds to the account's GCRA state.
    gcra_increase: Duration,
    /// The failed attempts as they were read.
    read: Option<FailedAttempts>,
    state: AttemptState,
    /// Whether the attempt costs this node something from now on, whatever the client does.
    has_cost: bool,
}

/// Whether the right password opens the account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::domain) enum Lock {
    Open,
    /// Locked for all clients: too many failed attempts, and the lockout is strict.
    Locked,
}

/// What speaks for the client of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Evidence {
    None,
    ProofOfWork,
    /// A familiar address, or a session.
    Familiar,
}

enum Decision {
    Admitted(Lock),
    /// The account is locked: the password alone is not enough.
    MoreThanPassword,
    Exceeded(Exceeded),
}

impl AttemptLimits {
    pub(in crate::domain) fn new(
        store: Arc<dyn Store>,
        keys: Arc<KeyRingCache>,
        environment: Environment,
        settings: Option<RateLimitSettings>,
    ) -> Self {
        let active = settings.map(|settings| ActiveLimits {
            counter: FailureCounter::new(settings.per_account.period),
            limiter: RateLimiter::new(environment.clock.clone()),
            settings,
        });
        Self { store, keys, environment, active }
    }

    /// Begins an attempt at a username, in a session if there is one: asks the limit of the client's address.
    ///
    /// # Errors
    /// `RateLimited`, `Overloaded`; `StoreUnavailable`.
    pub(in crate::domain) async fn begin(
        &self,
        context: &CallContext,
        username: &Username,
        session: Option<SessionId>,
    ) -> Result<LimitHold, Error> {
        let Some(active) = &self.active else { return Ok(LimitHold(None)) };
        let ring = self.keys.key_ring().await?;
        let (username, former_hashes) = (ring.username_hash(username), ring.former_username_hashes(username));
        if !active.counter.has_capacity() {
            // The attempt could not be counted.
            return Err(StoreError::Unavailable).or_report(&self.environment);
        }
        let prefix = context.client.map(IpPrefix::of);
        let source = session.map(AttemptSource::Session).or(prefix.map(AttemptSource::Address));
        let address = match prefix {
            Some(prefix) => {
                let reserved = active.limiter.reserve(RateLimitKey::Address(prefix), active.settings.per_address).await;
                Some(reserved.map_err(|refusal| self.refused(context, Limit::Address, refusal))?)
            }
            None => None,
        };
        Ok(LimitHold(Some(ActiveHold {
            username,
            former_hashes,
            source,
            address,
            reservations: Vec::new(),
            gcra_increase: Duration::ZERO,
            read: None,
            state: AttemptState::default(),
            has_cost: false,
        })))
    }

    /// Asks the limit of the attempt's source at the account. With proof of work it is not asked.
    ///
    /// # Errors
    /// `RateLimited`, `Overloaded`.
    pub(in crate::domain) async fn reserve_at_account(
        &self,
        context: &CallContext,
        hold: &mut LimitHold,
    ) -> Result<(), Error> {
        let (Some(active), Some(held)) = (&self.active, &mut hold.0) else { return Ok(()) };
        let Some(source) = held.source else { return Ok(()) };
        let key = RateLimitKey::AddressAndAccount(source, held.username);
        let reserved = active.limiter.reserve(key, active.settings.per_address_and_account).await;
        let reserved = reserved.map_err(|refusal| self.refused(context, Limit::AddressAndAccount, refusal))?;
        held.reservations.push(reserved);
        Ok(())
    }

    /// The stored failed attempts of the username.
    pub(in crate::domain) async fn failed_attempts(
        &self,
        hold: &LimitHold,
    ) -> Result<Option<Stored<FailedAttempts>>, Error> {
        let Some(held) = &hold.0 else { return Ok(None) };
        self.stored_failures(held.username, &held.former_hashes).await.or_report(&self.environment)
    }

    /// Admits an attempt, given the user, if there is one, and the stored failed attempts. `None` says that the password
    /// alone is not enough.
    ///
    /// # Errors
    /// `RateLimited`, `Overloaded`; `StoreUnavailable`.
    pub(in crate::domain) async fn admit(
        &self,
        context: &CallContext,
        hold: &mut LimitHold,
        user: Option<&User>,
        mut attempts: Option<Stored<FailedAttempts>>,
        has_proof_of_work: bool,
    ) -> Result<Option<Lock>, Error> {
        let (Some(active), true) = (&self.active, hold.is_limited()) else { return Ok(Some(Lock::Open)) };
        // A missing user costs as much as an existing one.
        let prefix = context.client.map(IpPrefix::of);
        let hashes = match prefix {
            Some(prefix) => self.keys.key_ring().await?.address_hashes(user.map(|user| user.id), prefix),
            None => Vec::new(),
        };
        let is_familiar = user.is_some_and(|user| user.known_addresses.iter().any(|known| hashes.contains(known)));
        let evidence = match has_proof_of_work {
            true => Evidence::ProofOfWork,
            false if is_familiar || hold.is_in_session() => Evidence::Familiar,
            false => Evidence::None,
        };
        let mut budget = active.limiter.wait_budget();
        loop {
            let Some(held) = &mut hold.0 else { return Ok(Some(Lock::Open)) };
            let stored = attempts.as_ref().map(|attempts| &attempts.value);
            match active.decide(held, evidence, stored, self.store.now()) {
                Decision::Admitted(lock) => return Ok(Some(lock)),
                Decision::MoreThanPassword => return Ok(None),
                // Others at this account are in flight, any of which may have the right password.
                Decision::Exceeded(exceeded) => {
                    let settled = budget.wait(exceeded).await;
                    settled.map_err(|refusal| self.refused(context, Limit::Account, refusal))?;
                }
            }
            attempts = self.failed_attempts(hold).await?;
        }
    }

    /// Settles an attempt that failed.
    pub(in crate::domain) fn failed(&self, context: &CallContext, mut hold: LimitHold, user: Option<UserId>) {
        let (Some(active), Some(held)) = (&self.active, hold.0.take()) else { return };
        let ActiveHold { username, address, reservations, gcra_increase, read, .. } = held;
        // Counted before it stops being in flight, so that every reader sees it in one of the two.
        let consecutive = active.counter.failed(username, gcra_increase, read.as_ref(), self.store.now());
        address.into_iter().chain(reservations).for_each(Reservation::keep);
        if consecutive == active.settings.lockout_threshold {
            self.environment.note(&Event::LockoutThresholdReached { context, user });
        }
        let alert = active.settings.alert;
        let is_unusual = active.limiter.count(RateLimitKey::AllFailures, alert).is_err();
        // One alert in that time: more would fill the log.
        if is_unusual && active.limiter.count(RateLimitKey::AlertsSent, Rate { events: 1, ..alert }).is_ok() {
            self.environment.note(&Event::FailureAlert);
        }
    }

    /// Settles an attempt that succeeded. It resets the counter, unless the account is locked: only a new password or an
    /// operator ends a lockout.
    pub(in crate::domain) fn succeeded(&self, mut hold: LimitHold) {
        let (Some(active), Some(held)) = (&self.active, hold.0.take()) else { return };
        if (1..active.settings.lockout_threshold).contains(&held.state.count) {
            active.counter.succeeded(held.username, self.store.now());
        }
    }

    /// The error of a call that could not reserve. Attempts that are in flight are no security event: none has failed yet.
    pub(super) fn refused(&self, context: &CallContext, limit: Limit, refusal: LimitRefusal) -> Error {
        match refusal {
            LimitRefusal::RateExceeded(wait) => self.rate_limited(context, limit, wait),
            LimitRefusal::AttemptsInFlight(wait) => {
                self.environment.note(&Event::AttemptsInFlight);
                Error::Overloaded { retry_after: wait }
            }
        }
    }

    pub(super) fn rate_limited(&self, context: &CallContext, limit: Limit, retry_after: Duration) -> Error {
        self.environment.note(&Event::RateLimited { context, limit, retry_after });
        Error::RateLimited { limit, retry_after }
    }
}

impl ActiveLimits {
    /// Decides about an attempt with that evidence, given the stored failed attempts.
    fn decide(
        &self,
        held: &mut ActiveHold,
        evidence: Evidence,
        stored: Option<&FailedAttempts>,
        now: SystemTime,
    ) -> Decision {
        let (settings, username) = (&self.settings, held.username);
        loop {
            let state = self.counter.state(username, stored, now);
            (held.state, held.read) = (state, stored.copied());
            let is_over_threshold = state.count >= settings.lockout_threshold;
            let is_locked = is_over_threshold && settings.lockout_is_strict;
            let limit = match evidence {
                Evidence::None if is_over_threshold && !is_locked => return Decision::MoreThanPassword,
                Evidence::None => Some((RateLimitKey::Account(username), settings.per_account, Some(state.gcra))),
                Evidence::ProofOfWork => Some((RateLimitKey::ProofOfWork(username), PROVEN_PER_ACCOUNT, None)),
                // The limit of its source was asked before.
                Evidence::Familiar => None,
            };
            let request = limit.map(|(key, rate, stored)| LimitRequest { key, rate, stored });
            // No more in flight than may still fail before the lockout.
            let in_flight_max = if is_over_threshold { u32::MAX } else { settings.lockout_threshold - state.count };
            let in_flight = RateLimitKey::InFlight(username);
            let reserved = match self.limiter.try_reserve_in_flight(in_flight, in_flight_max, request) {
                Ok(reserved) => reserved,
                Err(exceeded) => return Decision::Exceeded(exceeded),
            };
            // An attempt that was in flight and failed before the reservation is counted by now.
            if self.counter.state(username, stored, now) == state {
                held.reservations.extend(reserved);
                let increments = evidence == Evidence::None;
                held.gcra_increase = if increments { settings.per_account.increment() } else { Duration::ZERO };
                return Decision::Admitted(if is_locked { Lock::Locked } else { Lock::Open });
            }
        }
    }
}

impl LimitHold {
    /// What an attempt holds that no limit applies to before it is verified.
    pub(in crate::domain) fn none() -> Self {
        Self(None)
    }

    fn is_limited(&self) -> bool {
        self.0.is_some()
    }

    fn is_in_session(&self) -> bool {
        let source = self.0.as_ref().and_then(|held| held.source);
        matches!(source, Some(AttemptSource::Session(_)))
    }

    /// Says whether the attempt has cost this node something that a client can cause again by disconnecting.
    pub(in crate::domain) fn set_cost(&mut self, has_cost: bool) {
        if let Some(held) = &mut self.0 {
            held.has_cost = has_cost;
        }
    }
}

impl Drop for LimitHold {
    fn drop(&mut self) {
        if let Some(ActiveHold { address, has_cost: true, .. }) = &mut self.0 {
            address.take().into_iter().for_each(Reservation::keep);
        }
    }
}
