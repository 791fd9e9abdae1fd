//! The rate limiter: GCRA states in one sketch for each kind of limit, and the reservations that are in flight.

use std::{
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    RateLimitKey,
    gcra::Rate,
    in_flight::{AttemptsInFlight, Exceeded, LimitRefusal, LimiterState, LimiterTables, Reservation, WaitBudget},
};
use crate::domain::{model::IpPrefix, ports::Clock};

/// The rate limits of this node.
pub(in crate::domain) struct RateLimiter(Arc<LimiterState>);

/// A reservation to make.
#[derive(Debug, Clone, Copy)]
pub(in crate::domain) struct LimitRequest {
    pub(in crate::domain) key: RateLimitKey,
    pub(in crate::domain) rate: Rate,
    /// The GCRA state where it is kept elsewhere, without the attempts that are in flight.
    pub(in crate::domain) stored: Option<Duration>,
}

impl LimitRequest {
    pub(in crate::domain) fn new(key: RateLimitKey, rate: Rate) -> Self {
        Self { key, rate, stored: None }
    }
}

impl RateLimiter {
    pub(in crate::domain) fn new(clock: Arc<dyn Clock>) -> Self {
        Self(Arc::new(LimiterState::new(clock)))
    }

    /// How long a call may wait for attempts that are in flight.
    pub(in crate::domain) fn wait_budget(&self) -> WaitBudget {
        WaitBudget::new(&*self.0.clock)
    }

    /// Reserves what all of these ask for. Waits a little for attempts that are in flight.
    pub(in crate::domain) async fn reserve(&self, requests: &[LimitRequest]) -> Result<Vec<Reservation>, LimitRefusal> {
        let mut budget = self.wait_budget();
        loop {
            let reserved = self.reserve_in(&mut self.0.tables(), requests);
            match reserved {
                Ok(reservations) => return Ok(reservations),
                Err(exceeded) => budget.wait(exceeded).await?,
            }
        }
    }

    /// Reserves what all of these ask for, if that is possible now.
    pub(in crate::domain) fn try_reserve(&self, requests: &[LimitRequest]) -> Option<Vec<Reservation>> {
        self.reserve_in(&mut self.0.tables(), requests).ok()
    }

    /// Reserves what these ask for, and among the attempts in flight at `account`, of which at most `in_flight_max` may be.
    /// Answers also how many others are.
    pub(in crate::domain) fn try_reserve_in_flight(
        &self,
        account: RateLimitKey,
        in_flight_max: u32,
        requests: &[LimitRequest],
    ) -> Result<(Vec<Reservation>, u32), Exceeded> {
        let mut tables = self.0.tables();
        let others = tables.count_in_flight(&account);
        if others >= in_flight_max {
            return Err(tables.exceeded(&account, self.0.clock.monotonic()));
        }
        let mut reservations = self.reserve_in(&mut tables, requests)?;
        reservations.push(self.reservation(&mut tables, account, None));
        Ok((reservations, others))
    }

    /// Reserves at all keys or at none. The keys differ.
    fn reserve_in(&self, tables: &mut LimiterTables, requests: &[LimitRequest]) -> Result<Vec<Reservation>, Exceeded> {
        let now = self.0.clock.monotonic();
        for LimitRequest { key, rate, stored } in requests {
            let settled = stored.unwrap_or_else(|| tables.state(key, now));
            if let Some(wait) = rate.wait(settled) {
                // An attempt in flight that succeeds does not change that, so waiting for it is of no use.
                return Err(Exceeded { key: *key, refusal: LimitRefusal::RateExceeded(wait), settled: None });
            }
            let in_flight = rate.increment().saturating_mul(tables.count_in_flight(key));
            if rate.wait(settled.saturating_add(in_flight)).is_some() {
                return Err(tables.exceeded(key, now));
            }
        }
        let reserved = requests.iter().map(|LimitRequest { key, rate, stored }| {
            self.reservation(tables, *key, stored.is_none().then_some(*rate))
        });
        Ok(reserved.collect())
    }

    fn reservation(&self, tables: &mut LimiterTables, key: RateLimitKey, rate: Option<Rate>) -> Reservation {
        let now = self.0.clock.monotonic();
        tables.in_flight.entry(key).or_insert_with(|| AttemptsInFlight::new(now)).count += 1;
        Reservation::new(self.0.clone(), key, rate)
    }

    /// Counts one event at each key, or answers the wait until one may be counted.
    pub(in crate::domain) fn count(&self, requests: &[LimitRequest]) -> Result<(), Duration> {
        // In one step, so that no call is in flight at such a key.
        let (mut tables, now) = (self.0.tables(), self.0.clock.monotonic());
        let waits = requests.iter().filter_map(|request| request.rate.wait(tables.state(&request.key, now)));
        if let Some(wait) = waits.max() {
            return Err(wait);
        }
        requests.iter().for_each(|request| tables.add(&request.key, request.rate, now));
        Ok(())
    }

    /// Whether no event may be counted at `key` now.
    pub(in crate::domain) fn is_exceeded(&self, key: RateLimitKey, rate: Rate) -> bool {
        let state = self.0.tables().state(&key, self.0.clock.monotonic());
        rate.wait(state).is_some()
    }
}

/// The requests that limit what comes from an address: one for each prefix that can be one client.
pub(in crate::domain) fn from_address(
    address: IpAddr,
    rate: Rate,
    key: impl Fn(IpPrefix) -> RateLimitKey,
) -> impl Iterator<Item = LimitRequest> {
    IpPrefix::levels(address).map(move |(prefix, multiple)| LimitRequest::new(key(prefix), rate.times(multiple)))
}

impl LimiterTables {
    fn count_in_flight(&self, key: &RateLimitKey) -> u32 {
        self.in_flight.get(key).map_or(0, |others| others.count)
    }

    /// The attempts in flight at `key` reach the limit.
    fn exceeded(&self, key: &RateLimitKey, now: Instant) -> Exceeded {
        let others = self.in_flight.get(key);
        let wait = others.map_or(Duration::ZERO, |others| others.wait(now));
        let settled = others.and_then(AttemptsInFlight::settled);
        Exceeded { key: *key, refusal: LimitRefusal::AttemptsInFlight(wait), settled }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use super::*;
    use crate::domain::ports::System;

    const USERS: u8 = 200;

    /// An attacker with an IPv6 /32 sends four calls, which cost no hash and count at the keys of `flood`, from each /48. Then
    /// each user logs in from an address of their own. Answers how many logins are refused.
    fn refused_after(limiter: &RateLimiter, flood: fn(IpPrefix) -> RateLimitKey) -> usize {
        let flood_rate = Rate { events: 60, period: Duration::from_secs(3_600) };
        for network in 0..=u16::MAX {
            let address = Ipv6Addr::new(0x2001, 0xdb8, network, 0, 0, 0, 0, 1).into();
            let requests: Vec<_> = from_address(address, flood_rate, flood).collect();
            for _ in 0..4 {
                assert_eq!(limiter.count(&requests), Ok(()), "{address}");
            }
        }
        let attempts = Rate { events: 1_000, period: Duration::from_secs(60) };
        let users = (0..USERS).map(|user| IpAddr::from(Ipv4Addr::new(192, 0, 2, user)));
        let logins = users.map(|user| from_address(user, attempts, RateLimitKey::AttemptsFrom).collect::<Vec<_>>());
        logins.filter(|login| limiter.count(login).is_err()).count()
    }

    #[test]
    fn registrations_from_many_networks_refuse_no_login() {
        assert_eq!(refused_after(&RateLimiter::new(Arc::new(System)), RateLimitKey::Registrations), 0);
    }

    /// The control: what a flood does that counts in the table of the logins.
    #[test]
    fn control_flood_in_the_table_of_the_logins_refuses_them() {
        let refused = refused_after(&RateLimiter::new(Arc::new(System)), RateLimitKey::AttemptsFrom);
        assert!(refused > usize::from(USERS) / 2, "the control refused {refused}");
    }
}
