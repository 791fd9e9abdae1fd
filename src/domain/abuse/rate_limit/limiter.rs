//! The rate limiter: GCRA states of all keys in one sketch, and the reservations that are in flight.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use super::{
    RateLimitKey,
    gcra::Rate,
    in_flight::{Exceeded, InFlight, Reservation, WaitBudget},
    sketch::Sketch,
};
use crate::{common::lock::lock, domain::ports::Clock};

/// The wait that is answered where as many attempts are in flight as may be.
const IN_FLIGHT_WAIT: Duration = Duration::from_secs(1);

/// The rate limits of this node.
pub(in crate::domain) struct RateLimiter {
    state: Mutex<State>,
    pub(super) clock: Arc<dyn Clock>,
}

pub(super) struct State {
    pub(super) sketch: Sketch,
    /// Attempts that have reserved and have not settled; each has a few entries.
    pub(super) in_flight: HashMap<RateLimitKey, InFlight>,
}

/// A reservation to make.
pub(in crate::domain) struct LimitRequest {
    pub(in crate::domain) key: RateLimitKey,
    pub(in crate::domain) rate: Rate,
    /// The GCRA state where it is kept elsewhere, without the attempts that are in flight.
    pub(in crate::domain) stored: Option<Duration>,
}

impl RateLimiter {
    pub(in crate::domain) fn new(clock: Arc<dyn Clock>) -> Self {
        let state = State { sketch: Sketch::new(clock.monotonic()), in_flight: HashMap::new() };
        Self { state: Mutex::new(state), clock }
    }

    /// How long a call may wait for attempts that are in flight.
    pub(in crate::domain) fn wait_budget(&self) -> WaitBudget {
        WaitBudget::new(&*self.clock)
    }

    /// Reserves at `key`, or answers the wait until that is possible. Waits a little for attempts that are in flight.
    pub(in crate::domain) async fn reserve(
        self: &Arc<Self>,
        key: RateLimitKey,
        rate: Rate,
    ) -> Result<Reservation, Duration> {
        let mut budget = self.wait_budget();
        loop {
            match self.try_reserve(key, rate) {
                Ok(reservation) => return Ok(reservation),
                Err(exceeded) => budget.wait(exceeded).await?,
            }
        }
    }

    fn try_reserve(self: &Arc<Self>, key: RateLimitKey, rate: Rate) -> Result<Reservation, Exceeded> {
        self.reserve_in(&mut self.state(), LimitRequest { key, rate, stored: None })
    }

    /// Reserves at `request`'s key and among the attempts in flight at `account`, of which at most `in_flight_max` may be.
    /// Without a request only their number is bounded.
    pub(in crate::domain) fn try_reserve_in_flight(
        self: &Arc<Self>,
        account: RateLimitKey,
        in_flight_max: u32,
        request: Option<LimitRequest>,
    ) -> Result<Vec<Reservation>, Exceeded> {
        let mut state = self.state();
        if state.count_in_flight(&account) >= in_flight_max {
            return Err(state.exceeded(&account, IN_FLIGHT_WAIT));
        }
        let limited = request.map(|request| self.reserve_in(&mut state, request)).transpose()?;
        let counted = self.reservation(&mut state, account, None);
        Ok(limited.into_iter().chain([counted]).collect())
    }

    fn reserve_in(
        self: &Arc<Self>,
        state: &mut State,
        LimitRequest { key, rate, stored }: LimitRequest,
    ) -> Result<Reservation, Exceeded> {
        let settled = stored.unwrap_or_else(|| state.sketch.get(&key, self.clock.monotonic()));
        let in_flight = rate.increment().saturating_mul(state.count_in_flight(&key));
        if let Some(wait) = rate.wait(settled.saturating_add(in_flight)) {
            return Err(state.exceeded(&key, wait));
        }
        Ok(self.reservation(state, key, stored.is_none().then_some(rate)))
    }

    fn reservation(self: &Arc<Self>, state: &mut State, key: RateLimitKey, rate: Option<Rate>) -> Reservation {
        state.in_flight.entry(key).or_default().count += 1;
        Reservation::new(self.clone(), key, rate)
    }

    /// Counts one event at `key`, or answers the wait until one may be counted.
    pub(in crate::domain) fn count(self: &Arc<Self>, key: RateLimitKey, rate: Rate) -> Result<(), Duration> {
        self.try_reserve(key, rate).map(Reservation::keep).map_err(|exceeded| exceeded.wait)
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

impl State {
    fn count_in_flight(&self, key: &RateLimitKey) -> u32 {
        self.in_flight.get(key).map_or(0, |others| others.count)
    }

    fn exceeded(&self, key: &RateLimitKey, wait: Duration) -> Exceeded {
        Exceeded { wait, settled: self.in_flight.get(key).and_then(InFlight::settled) }
    }
}
