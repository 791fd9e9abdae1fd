//! The limits of password attempts: which are asked before a password is verified, and what the outcome changes.
//!
//! Usernames without a user are limited like all others. A user under attack still gets in: from a familiar address, in a
//! session, or with proof of work. Failed attempts of each of these kinds have limits of their own, and do not pass through
//! those of the address and of the account. The limits on all attempts, right or wrong, apply to every kind.

use std::{sync::Arc, time::Duration};

use super::{
    failure_counter::{AttemptState, FailureCounter},
    pending_attempts::Changes,
    price,
    rate_limit::{
        Exceeded, LimitRefusal, LimitRequest, Rate, RateLimitKey, RateLimitSettings, RateLimiter, Reservation, Total,
        from_address,
    },
};
use crate::domain::{
    context::CallContext,
    error::{Error, Limit, StoreError},
    event::Event,
    model::{ByEvidence, Evidence, FailedAttempts, IpPrefix, SessionId, User, UserId, Username, UsernameHash},
    password::HashBegun,
    ports::{Environment, Store, StoreResult, Stored},
    token::KeyRingCache,
};

/// The part of an account's attempts with proof of work that one address may use.
const PROOF_OF_WORK_PART_OF_ADDRESS: u32 = 10;

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

/// What an attempt holds in the limits until it settles. Dropped before that, it releases everything, unless it has a cost.
#[must_use]
pub(in crate::domain) struct LimitHold(Option<ActiveHold>);

struct ActiveHold {
    limits: Arc<AttemptLimits>,
    context: CallContext,
    username: UsernameHash,
    former_hashes: Vec<UsernameHash>,
    session: Option<SessionId>,
    /// The user, once it was looked for and if there is one.
    user: Option<UserId>,
    /// They count once the attempt has a cost, right or wrong.
    attempts: Vec<Reservation>,
    /// Failed attempts without evidence from the client's address, or why none is possible.
    address: Result<Vec<Reservation>, LimitRefusal>,
    /// They count if the attempt fails.
    failures: Vec<Reservation>,
    evidence: Evidence,
    /// What a failure adds to the account's GCRA state.
    gcra_increase: Duration,
    /// The failed attempts as they were read.
    read: Option<FailedAttempts>,
    state: AttemptState,
    cost: AttemptCost,
}

/// What an attempt has cost this node, whatever the client does from now on.
#[derive(Debug, Clone)]
pub(in crate::domain) enum AttemptCost {
    Nothing,
    /// The check of a solution that is not valid.
    Solution,
    /// A hash, once it has begun.
    Hash(HashBegun),
}

/// Whether the right password opens the account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::domain) enum Lock {
    Open,
    /// Locked for all clients: too many failed attempts, and the lockout is strict.
    Locked,
}

enum Decision {
    Admitted(Lock),
    /// The password alone is not enough, or the proof of work was too cheap.
    MoreThanPassword,
    /// The limit of the client's address.
    AddressExceeded(LimitRefusal),
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
            counter: FailureCounter::new(&settings),
            limiter: RateLimiter::new(environment.clock.clone()),
            settings,
        });
        Self { store, keys, environment, active }
    }

    /// Begins an attempt at a username, in a session if there is one: asks the limit of all attempts of the client's address.
    ///
    /// # Errors
    /// `RateLimited`, `Overloaded`; `StoreUnavailable`.
    pub(in crate::domain) async fn begin(
        self: &Arc<Self>,
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
        let (mut attempts, mut address) = (Vec::new(), Ok(Vec::new()));
        if let Some(client) = context.client {
            let all: Vec<_> =
                from_address(client, active.settings.attempts_per_address, RateLimitKey::AttemptsFrom).collect();
            let reserved = active.limiter.reserve(&all).await;
            attempts = reserved.map_err(|refusal| self.refused(context, Limit::AddressAttempts, refusal))?;
            if session.is_none() {
                // Whether the limit applies is not known before the proof of work and the user.
                let failures: Vec<_> =
                    from_address(client, active.settings.per_address, RateLimitKey::FailuresFrom).collect();
                address = active.limiter.reserve(&failures).await;
            }
        }
        Ok(LimitHold(Some(ActiveHold {
            limits: self.clone(),
            context: context.clone(),
            username,
            former_hashes,
            session,
            user: None,
            attempts,
            address,
            failures: Vec::new(),
            evidence: Evidence::None,
            gcra_increase: Duration::ZERO,
            read: None,
            state: AttemptState::default(),
            cost: AttemptCost::Nothing,
        })))
    }

    /// Asks the limit of the attempt's source at the account; `false` says that it needs proof of work, because too many
    /// attempts fail and nothing tells their sources apart. With proof of work this is not asked.
    ///
    /// # Errors
    /// `RateLimited`, `Overloaded`.
    pub(in crate::domain) async fn reserve_at_account(
        &self,
        context: &CallContext,
        hold: &mut LimitHold,
    ) -> Result<bool, Error> {
        let (Some(active), Some(held)) = (&self.active, &mut hold.0) else { return Ok(true) };
        let rate = active.settings.per_address_and_account;
        let username = held.username;
        let requests: Vec<_> = match (held.session, context.client) {
            (Some(session), _) => vec![LimitRequest::new(RateLimitKey::FailuresInSession(session), rate)],
            (None, Some(client)) => {
                from_address(client, rate, |prefix| RateLimitKey::FailuresFromAt(prefix, username)).collect()
            }
            (None, None) => {
                let reserved = active.reserve_without_source();
                if reserved.is_none() && active.is_alert_due(Total::FailureAlerts, active.settings.alert) {
                    self.environment.note(&Event::FailureAlert);
                }
                held.failures = reserved.unwrap_or_default();
                return Ok(!held.failures.is_empty() || !active.settings.asks_unknown_for_work);
            }
        };
        let reserved = active.limiter.reserve(&requests).await;
        held.failures = reserved.map_err(|refusal| self.refused(context, Limit::AddressAndAccount, refusal))?;
        Ok(true)
    }

    /// The stored failed attempts of the username.
    pub(in crate::domain) async fn failed_attempts(
        &self,
        hold: &LimitHold,
    ) -> Result<Option<Stored<FailedAttempts>>, Error> {
        let Some(held) = &hold.0 else { return Ok(None) };
        self.stored_failures(held.username, &held.former_hashes).await.or_report(&self.environment)
    }

    /// Admits an attempt, given the user, if there is one, and the stored failed attempts. `price` is that of its proof of
    /// work. `None` says that the password alone is not enough.
    ///
    /// # Errors
    /// `RateLimited`, `Overloaded`; `StoreUnavailable`.
    pub(in crate::domain) async fn admit(
        &self,
        context: &CallContext,
        hold: &mut LimitHold,
        user: Option<&User>,
        mut attempts: Option<Stored<FailedAttempts>>,
        price: Option<u8>,
    ) -> Result<Option<Lock>, Error> {
        let (Some(active), true) = (&self.active, hold.is_limited()) else { return Ok(Some(Lock::Open)) };
        // A missing user costs as much as an existing one.
        let hashes = match context.client.map(IpPrefix::of) {
            Some(prefix) => self.keys.key_ring().await?.address_hashes(user.map(|user| user.id), prefix),
            None => Vec::new(),
        };
        let is_familiar = user.is_some_and(|user| user.known_addresses.iter().any(|known| hashes.contains(known)));
        let evidence = match price {
            Some(_) => Evidence::ProofOfWork,
            None if is_familiar || hold.is_in_session() => Evidence::Familiar,
            None => Evidence::None,
        };
        let mut budget = active.limiter.wait_budget();
        loop {
            let Some(held) = &mut hold.0 else { return Ok(Some(Lock::Open)) };
            held.user = user.map(|user| user.id);
            let stored = attempts.as_ref().map(|attempts| &attempts.value);
            match active.decide(held, evidence, price, stored) {
                Decision::Admitted(lock) => return Ok(Some(lock)),
                Decision::MoreThanPassword => return Ok(None),
                Decision::AddressExceeded(refusal) => return Err(self.refused(context, Limit::Address, refusal)),
                // Others at this account are in flight, any of which may have the right password.
                Decision::Exceeded(exceeded) => {
                    let key = exceeded.key;
                    if let Err(refusal) = budget.wait(exceeded).await {
                        return match (key, refusal) {
                            // Where no address is known none is familiar, and any client can use up the limit.
                            (RateLimitKey::FailuresAt(_, Evidence::None), LimitRefusal::RateExceeded(_))
                                if context.client.is_none() && active.settings.asks_unknown_for_work =>
                            {
                                Ok(None)
                            }
                            (key, refusal) => Err(self.refused(context, key.limit(), refusal)),
                        };
                    }
                }
            }
            attempts = self.failed_attempts(hold).await?;
        }
    }

    /// Settles an attempt that failed.
    pub(in crate::domain) fn failed(&self, context: &CallContext, mut hold: LimitHold) {
        if let (Some(active), Some(held)) = (&self.active, hold.0.take()) {
            self.count_failure(active, context, held);
        }
    }

    fn count_failure(&self, active: &ActiveLimits, context: &CallContext, held: ActiveHold) {
        let ActiveHold { username, user, evidence, attempts, address, failures, gcra_increase, read, .. } = held;
        let settings = &active.settings;
        // Counted before it stops being in flight, so that every reader sees it in one of the two.
        let now = self.store.now();
        let is_lasting = settings.lockout_is_strict && user.is_some();
        let failure = Changes::failure(evidence, gcra_increase, is_lasting, now);
        let [before, after] = active.counter.failed(username, failure, read.as_ref(), now);
        let address = address.unwrap_or_default();
        attempts.into_iter().chain(address).chain(failures).for_each(Reservation::keep);
        if !settings.is_locked(&before, evidence) && settings.is_locked(&after, evidence) {
            self.environment.note(&Event::LockoutThresholdReached { context, user });
        }
        if active.is_unusual(Total::Failures, Total::FailureAlerts, settings.alert) {
            self.environment.note(&Event::FailureAlert);
        }
    }

    /// Settles an attempt that succeeded. It resets the counters, unless the account is locked: only a new password or an
    /// operator ends a lockout. The price of a proof of work stays, or each login of the user would make an attack cheap again,
    /// and show the attacker that there is a user. A strict lockout counts all evidence together, so there it falls.
    pub(in crate::domain) fn succeeded(&self, mut hold: LimitHold) {
        let (Some(active), Some(held)) = (&self.active, hold.0.take()) else { return };
        let ActiveHold { username, attempts, state, .. } = held;
        attempts.into_iter().for_each(Reservation::keep);
        let settings = &active.settings;
        let keeps_price = !settings.lockout_is_strict && state.price_failures > 0;
        let reset = ByEvidence::each(|evidence| {
            let is_price = evidence == Evidence::ProofOfWork && keeps_price;
            !is_price && !settings.is_locked(&state.failures, evidence)
        });
        if state.failures.total() > 0 && reset.values().any(|is_reset| *is_reset) {
            active.counter.succeeded(username, reset, self.store.now());
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
        price: Option<u8>,
        stored: Option<&FailedAttempts>,
    ) -> Decision {
        let (settings, username) = (&self.settings, held.username);
        loop {
            let now = held.limits.store.now();
            let state = self.counter.state(username, stored, now);
            (held.state, held.read) = (state, stored.copied());
            let is_strict = settings.lockout_is_strict;
            // A familiar address from which too many attempts failed is like any other.
            let is_unfamiliar =
                evidence == Evidence::Familiar && !is_strict && settings.is_locked(&state.failures, evidence);
            let evidence = if is_unfamiliar { Evidence::None } else { evidence };
            let is_locked = settings.is_locked(&state.failures, evidence);
            let left_at_price = price.and_then(|price| price::left(price, state.price_failures));
            if is_locked && !is_strict || left_at_price == Some(0) {
                return Decision::MoreThanPassword;
            }
            if let (Err(refusal), Evidence::None) = (&held.address, evidence) {
                return Decision::AddressExceeded(*refusal);
            }
            let (attempts, failures) = self.requests(held, evidence, &state);
            // A strict lockout counts attempts with any evidence together.
            let in_flight = RateLimitKey::InFlight(username, if is_strict { Evidence::None } else { evidence });
            let requests = [attempts, failures.clone()].concat();
            let in_flight_max = self.in_flight_max(&state, evidence).min(left_at_price.unwrap_or(u32::MAX));
            let reserved = self.limiter.try_reserve_in_flight(in_flight, in_flight_max, &requests);
            let (mut reserved, others) = match reserved {
                Ok(reserved) => reserved,
                Err(exceeded) => return Decision::Exceeded(exceeded),
            };
            // An attempt that was in flight and failed before the reservation is counted by now.
            if self.counter.state(username, stored, now) == state {
                held.failures.extend(reserved.split_off(requests.len() - failures.len()));
                held.attempts.extend(reserved);
                held.evidence = evidence;
                if evidence != Evidence::None {
                    // It has limits of its own.
                    held.address = Ok(Vec::new());
                }
                held.gcra_increase = settings.at_account(evidence).map_or(Duration::ZERO, Rate::increment);
                // Waiting for those in flight would reveal that older failures still count, which are forgotten for names
                // without a user.
                let may_exceed = state.failures.lasting.saturating_add(others) >= settings.lockout_threshold;
                let is_locked = is_locked || is_strict && may_exceed;
                return Decision::Admitted(if is_locked { Lock::Locked } else { Lock::Open });
            }
        }
    }

    /// What an attempt asks for at the account: what counts in any case, and what counts if it fails.
    fn requests(
        &self,
        held: &ActiveHold,
        evidence: Evidence,
        state: &AttemptState,
    ) -> (Vec<LimitRequest>, Vec<LimitRequest>) {
        let (settings, username) = (&self.settings, held.username);
        let attempts = vec![LimitRequest::new(RateLimitKey::AttemptsAt(username), settings.attempts_per_account)];
        let mut failures = Vec::new();
        if let Some(rate) = settings.at_account(evidence) {
            let key = RateLimitKey::FailuresAt(username, evidence);
            failures.push(LimitRequest { key, rate, stored: Some(*state.gcra.of(evidence)) });
        }
        if let (Evidence::ProofOfWork, Some(client)) = (evidence, held.context.client) {
            let rate = settings.proof_of_work_per_account.part(PROOF_OF_WORK_PART_OF_ADDRESS);
            failures
                .extend(from_address(client, rate, |prefix| RateLimitKey::ProofOfWorkFailuresFromAt(prefix, username)));
        }
        (attempts, failures)
    }

    /// No more in flight than may still fail before the lockout.
    fn in_flight_max(&self, state: &AttemptState, evidence: Evidence) -> u32 {
        match self.settings.left_before_lockout(&state.failures.by_evidence, evidence) {
            // Locked: no password is right.
            None | Some(0) => u32::MAX,
            Some(left) => left,
        }
    }

    /// Reserves a place among failed attempts from unknown sources. `None`: too many fail, or are in flight and may.
    fn reserve_without_source(&self) -> Option<Vec<Reservation>> {
        let rate = self.settings.alert;
        let request = LimitRequest::new(RateLimitKey::Total(Total::FailuresWithoutSource), rate);
        let is_exceeded = self.limiter.is_exceeded(RateLimitKey::Total(Total::Failures), rate);
        (!is_exceeded).then(|| self.limiter.try_reserve(&[request])).flatten()
    }

    /// Counts an event of all clients, and answers whether there are unusually many and an alert is due.
    pub(super) fn is_unusual(&self, total: Total, alerts: Total, rate: Rate) -> bool {
        let counted = self.limiter.count(&[LimitRequest::new(RateLimitKey::Total(total), rate)]);
        counted.is_err() && self.is_alert_due(alerts, rate)
    }

    /// Whether no alert was sent in the period, in which case one is now. More would fill the log.
    fn is_alert_due(&self, alerts: Total, rate: Rate) -> bool {
        let once = Rate { events: 1, ..rate };
        self.limiter.count(&[LimitRequest::new(RateLimitKey::Total(alerts), once)]).is_ok()
    }

    /// Whether calls that nothing tells apart need proof of work now.
    pub(super) fn asks_for_work(&self, total: Total, rate: Rate) -> bool {
        self.settings.asks_unknown_for_work && self.limiter.is_exceeded(RateLimitKey::Total(total), rate)
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
        self.0.as_ref().is_some_and(|held| held.session.is_some())
    }

    /// Says what the attempt has cost this node by now. A client that disconnects must not get it for nothing.
    pub(in crate::domain) fn set_cost(&mut self, cost: AttemptCost) {
        if let Some(held) = &mut self.0 {
            held.cost = cost;
        }
    }
}

/// A client that goes away before its attempt settles must not get for nothing what it has caused.
impl Drop for LimitHold {
    fn drop(&mut self) {
        let Some(held) = self.0.take() else { return };
        match &held.cost {
            AttemptCost::Nothing => {}
            AttemptCost::Solution => held.attempts.into_iter().for_each(Reservation::keep),
            AttemptCost::Hash(begun) if !begun.is_set() => {}
            AttemptCost::Hash(_) => {
                let (limits, context) = (held.limits.clone(), held.context.clone());
                if let Some(active) = &limits.active {
                    limits.count_failure(active, &context, held);
                    limits.environment.note(&Event::AttemptAbandoned { context: &context });
                }
            }
        }
    }
}
