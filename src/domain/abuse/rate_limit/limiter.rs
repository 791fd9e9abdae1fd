//! The rate limiter: GCRA states of all keys in one sketch, and the reservations that are in flight.

use std::{sync::Arc, time::Duration};

use super::{
    RateLimitKey,
    gcra::Rate,
    in_flight::{AttemptsInFlight, Exceeded, LimiterState, LimiterTables, Reservation, WaitBudget},
};
use crate::domain::ports::Clock;

/// The wait that is answered where as many attempts are in flight as may be.
const IN_FLIGHT_WAIT: Duration = Duration::from_secs(1);

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

    /// Reserves at `key`, or answers the wait until that is possible. Waits a little for attempts that are in flight.
    pub(in crate::domain) async fn reserve(&self, key: RateLimitKey, rate: Rate) -> Result<Reservation, Duration> {
        let mut budget = self.wait_budget();
        loop {
            match self.try_reserve(key, rate) {
                Ok(reservation) => return Ok(reservation),
                Err(exceeded) => budget.wait(exceeded).await?,
            }
        }
    }

    fn try_reserve(&self, key: RateLimitKey, rate: Rate) -> Result<Reservation, Exceeded> {
        self.reserve_in(&mut self.0.tables(), LimitRequest { key, rate, stored: None })
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
            return Err(tables.exceeded(&account, IN_FLIGHT_WAIT));
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
        let settled = stored.unwrap_or_else(|| tables.sketch.get(&key, self.0.clock.monotonic()));
        let in_flight = rate.increment().saturating_mul(tables.count_in_flight(&key));
        if let Some(wait) = rate.wait(settled.saturating_add(in_flight)) {
            return Err(tables.exceeded(&key, wait));
        }
        Ok(self.reservation(tables, key, stored.is_none().then_some(rate)))
    }

    fn reservation(&self, tables: &mut LimiterTables, key: RateLimitKey, rate: Option<Rate>) -> Reservation {
        tables.in_flight.entry(key).or_default().count += 1;
        Reservation::new(self.0.clone(), key, rate)
    }

    /// Counts one event at `key`, or answers the wait until one may be counted.
    pub(in crate::domain) fn count(&self, key: RateLimitKey, rate: Rate) -> Result<(), Duration> {
        self.try_reserve(key, rate).map(Reservation::keep).map_err(|exceeded| exceeded.wait)
    }
}

impl LimiterTables {
    fn count_in_flight(&self, key: &RateLimitKey) -> u32 {
        self.in_flight.get(key).map_or(0, |others| others.count)
    }

    fn exceeded(&self, key: &RateLimitKey, wait: Duration) -> Exceeded {
        Exceeded { wait, settled: self.in_flight.get(key).and_then(AttemptsInFlight::settled) }
    }
}
