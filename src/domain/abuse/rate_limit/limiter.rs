//! The rate limiter: GCRA states of all keys in one sketch, and the reservations that are in flight.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    RateLimitKey,
    gcra::Rate,
    in_flight::{AttemptsInFlight, Exceeded, LimitRefusal, LimiterState, LimiterTables, Reservation, WaitBudget},
};
use crate::domain::ports::Clock;

/// The rate limits of this node.
pub(in crate::domain) struct RateLimiter(Arc<LimiterState>);

/// A reservation to make.
pub(in crate::domain) struct LimitRequest {
    pub(in crate::domain) key: RateLimitKey,
    pub(in crate::domain) rate: Rate,
    /// The GCRA state where it is kept elsewhere, without the attempts that are in flight.
    pub(in crate::domain) stored: Option<Duration>,
}

impl RateLimiter {
    pub(in crate::domain) fn new(clock: Arc<dyn Clock>) -> Self {
        Self(Arc::new(LimiterState::new(clock)))
    }

    /// How long a call may wait for attempts that are in flight.
    pub(in crate::domain) fn wait_budget(&self) -> WaitBudget {
        WaitBudget::new(&*self.0.clock)
    }

    /// Reserves at `key`. Waits a little for attempts that are in flight.
    pub(in crate::domain) async fn reserve(&self, key: RateLimitKey, rate: Rate) -> Result<Reservation, LimitRefusal> {
        let mut budget = self.wait_budget();
        loop {
            let request = LimitRequest { key, rate, stored: None };
            let reserved = self.reserve_in(&mut self.0.tables(), request);
            match reserved {
                Ok(reservation) => return Ok(reservation),
                Err(exceeded) => budget.wait(exceeded).await?,
            }
        }
    }

    /// Reserves at `request`'s key and among the attempts in flight at `account`, of which at most `in_flight_max` may be.
    /// Without a request only their number is bounded.
    pub(in crate::domain) fn try_reserve_in_flight(
        &self,
        account: RateLimitKey,
        in_flight_max: u32,
        request: Option<LimitRequest>,
    ) -> Result<Vec<Reservation>, Exceeded> {
        let mut tables = self.0.tables();
        if tables.count_in_flight(&account) >= in_flight_max {
            return Err(tables.exceeded(&account, self.0.clock.monotonic()));
        }
        let limited = request.map(|request| self.reserve_in(&mut tables, request)).transpose()?;
        let counted = self.reservation(&mut tables, account, None);
        Ok(limited.into_iter().chain([counted]).collect())
    }

    fn reserve_in(
        &self,
        tables: &mut LimiterTables,
        LimitRequest { key, rate, stored }: LimitRequest,
    ) -> Result<Reservation, Exceeded> {
        let now = self.0.clock.monotonic();
        let settled = stored.unwrap_or_else(|| tables.sketch.get(&key, now));
        if let Some(wait) = rate.wait(settled) {
            // An attempt in flight that succeeds does not change that, so waiting for it is of no use.
            return Err(Exceeded { refusal: LimitRefusal::RateExceeded(wait), settled: None });
        }
        let in_flight = rate.increment().saturating_mul(tables.count_in_flight(&key));
        if rate.wait(settled.saturating_add(in_flight)).is_some() {
            return Err(tables.exceeded(&key, now));
        }
        Ok(self.reservation(tables, key, stored.is_none().then_some(rate)))
    }

    fn reservation(&self, tables: &mut LimiterTables, key: RateLimitKey, rate: Option<Rate>) -> Reservation {
        let now = self.0.clock.monotonic();
        tables.in_flight.entry(key).or_insert_with(|| AttemptsInFlight::new(now)).count += 1;
        Reservation::new(self.0.clone(), key, rate)
    }

    /// Counts one event at `key`, or answers the wait until one may be counted.
    pub(in crate::domain) fn count(&self, key: RateLimitKey, rate: Rate) -> Result<(), Duration> {
        // In one step, so that no call is in flight at such a key.
        let (mut tables, now) = (self.0.tables(), self.0.clock.monotonic());
        let gcra_state = tables.sketch.get(&key, now);
        match rate.wait(gcra_state) {
            Some(wait) => Err(wait),
            None => {
                tables.sketch.raise(&key, now, gcra_state + rate.increment());
                Ok(())
            }
        }
    }
}

impl LimiterTables {
    fn count_in_flight(&self, key: &RateLimitKey) -> u32 {
        self.in_flight.get(key).map_or(0, |others| others.count)
    }

    /// The attempts in flight at `key` leave no room for another.
    fn exceeded(&self, key: &RateLimitKey, now: Instant) -> Exceeded {
        let others = self.in_flight.get(key);
        let wait = others.map_or(Duration::ZERO, |others| others.wait(now));
        let settled = others.and_then(AttemptsInFlight::settled);
        Exceeded { refusal: LimitRefusal::AttemptsInFlight(wait), settled }
    }
}
