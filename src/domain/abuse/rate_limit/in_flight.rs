//! Attempts in flight: a reservation counts while the attempt runs, and afterwards only if it is kept.

use std::{
    collections::{HashMap, hash_map::Entry},
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard},
    time::{Duration, Instant},
};

use tokio::sync::{Notify, futures::OwnedNotified};

use super::{RateLimitKey, TABLES, gcra::Rate, sketch::Sketch};
use crate::{
    common::lock::lock,
    domain::ports::{Clock, Sleep},
};

/// How long a call waits for attempts at its key that are in flight, any of which may succeed.
const WAIT_MAX: Duration = Duration::from_millis(300);

/// Calls that wait at one key; those beyond it are refused.
const WAITING_MAX: usize = 64;

/// The shortest and the longest time after which a call may come back that attempts in flight have refused. The second is the
/// default deadline of a call, by which those attempts have ended.
const RETRY_MIN: Duration = Duration::from_millis(100);
const RETRY_MAX: Duration = Duration::from_secs(5);

/// The same where no attempt has ended yet, so that it is not known how long one takes.
const RETRY_UNKNOWN: Duration = Duration::from_secs(1);

/// What all reservations of this node share.
pub(super) struct LimiterState {
    tables: Mutex<LimiterTables>,
    pub(super) clock: Arc<dyn Clock>,
}

/// GCRA states, and attempts in flight.
pub(super) struct LimiterTables {
    sketches: [Sketch; TABLES.len()],
    /// Attempts that have reserved and have not settled; each has a few entries.
    pub(super) in_flight: HashMap<RateLimitKey, AttemptsInFlight>,
}

/// The attempts in flight at one key.
pub(super) struct AttemptsInFlight {
    pub(super) count: u32,
    /// Since when there has been at least one, and how many have settled since.
    since: Instant,
    settled_count: u32,
    /// Wakes the calls that wait for one of them to settle.
    settled: Arc<Notify>,
}

/// A reservation at a rate-limit key. Dropped, it is released.
#[must_use]
pub(in crate::domain) struct Reservation {
    limiter: Arc<LimiterState>,
    key: RateLimitKey,
    /// The rate of a key with a GCRA state in a sketch.
    rate: Option<Rate>,
    is_kept: bool,
}

/// No reservation is possible now.
pub(in crate::domain) struct Exceeded {
    /// Where.
    pub(in crate::domain) key: RateLimitKey,
    pub(super) refusal: LimitRefusal,
    /// Ends when the next attempt in flight settles, which may release its reservation.
    pub(super) settled: Option<Pin<Box<OwnedNotified>>>,
}

/// Why no reservation is possible, and the wait until one is, if no other call is faster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::domain) enum LimitRefusal {
    /// Events that were counted use up the rate.
    RateExceeded(Duration),
    /// As many attempts are in flight as may still fail. None of them has failed so far, so this is no sign of an attack.
    AttemptsInFlight(Duration),
}

/// What is left of the time that a call waits for attempts in flight.
pub(in crate::domain) struct WaitBudget(Sleep);

impl LimiterState {
    pub(super) fn new(clock: Arc<dyn Clock>) -> Self {
        let sketches = TABLES.map(|cells| Sketch::new(cells, clock.monotonic()));
        let tables = LimiterTables { sketches, in_flight: HashMap::new() };
        Self { tables: Mutex::new(tables), clock }
    }

    pub(super) fn tables(&self) -> MutexGuard<'_, LimiterTables> {
        lock(&self.tables)
    }
}

impl LimiterTables {
    /// The GCRA state of a key.
    pub(super) fn state(&self, key: &RateLimitKey, now: Instant) -> Duration {
        self.sketches[key.table()].get(key, now)
    }

    /// Adds an event to the GCRA state of a key. It is never longer than the period.
    pub(super) fn add(&mut self, key: &RateLimitKey, rate: Rate, now: Instant) {
        let sketch = &mut self.sketches[key.table()];
        let state = sketch.get(key, now) + rate.increment();
        sketch.raise(key, now, state.min(rate.period));
    }
}

impl AttemptsInFlight {
    pub(super) fn new(now: Instant) -> Self {
        Self { count: 0, since: now, settled_count: 0, settled: Arc::default() }
    }

    /// The wait until the next attempt fits, after those that wait now: as fast as the attempts have settled so far.
    pub(super) fn wait(&self, now: Instant) -> Duration {
        if self.settled_count == 0 {
            return RETRY_UNKNOWN;
        }
        // The map holds one reference, each call that waits another.
        let waiting = u32::try_from(Arc::strong_count(&self.settled)).unwrap_or(u32::MAX);
        let so_far = now.saturating_duration_since(self.since);
        (so_far / self.settled_count).saturating_mul(waiting).clamp(RETRY_MIN, RETRY_MAX)
    }

    /// Ends when the next of them settles; `None` where too many calls wait already.
    pub(super) fn settled(&self) -> Option<Pin<Box<OwnedNotified>>> {
        // Each call that waits holds a reference.
        (Arc::strong_count(&self.settled) <= WAITING_MAX).then(|| {
            let mut settled = Box::pin(self.settled.clone().notified_owned());
            // Under the limiter's lock, so that no end is missed.
            settled.as_mut().enable();
            settled
        })
    }
}

impl WaitBudget {
    pub(super) fn new(clock: &dyn Clock) -> Self {
        Self(clock.sleep(WAIT_MAX))
    }

    /// Waits until another attempt settles; answers the refusal to report when that is of no use.
    pub(in crate::domain) async fn wait(&mut self, exceeded: Exceeded) -> Result<(), LimitRefusal> {
        let Some(settled) = exceeded.settled else { return Err(exceeded.refusal) };
        tokio::select! {
            () = settled => Ok(()),
            () = &mut self.0 => Err(exceeded.refusal),
        }
    }
}

impl Reservation {
    pub(super) fn new(limiter: Arc<LimiterState>, key: RateLimitKey, rate: Option<Rate>) -> Self {
        Self { limiter, key, rate, is_kept: false }
    }

    /// Counts the event from now on.
    pub(in crate::domain) fn keep(mut self) {
        self.is_kept = true;
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        let mut tables = self.limiter.tables();
        if let (Some(rate), true) = (self.rate, self.is_kept) {
            tables.add(&self.key, rate, self.limiter.clock.monotonic());
        }
        let Entry::Occupied(mut others) = tables.in_flight.entry(self.key) else { return };
        others.get_mut().count -= 1;
        others.get_mut().settled_count += 1;
        // A released reservation is for one waiting call. Only when no attempt is in flight any more do all of them wake:
        // more wake-ups would make a crowd that waits cost more than one that is refused.
        if others.get().count == 0 {
            others.remove().settled.notify_waiters();
        } else if !self.is_kept {
            others.get().settled.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ports::System;

    #[test]
    fn wait_for_attempts_in_flight_follows_how_fast_they_settled() {
        let (start, millis) = (System.monotonic(), Duration::from_millis);
        let mut attempts = AttemptsInFlight::new(start);
        assert_eq!(attempts.wait(start + millis(300)), RETRY_UNKNOWN, "none has settled");
        attempts.settled_count = 10;
        let _waiting: Vec<_> = (0..39).map(|_| attempts.settled().unwrap()).collect();
        assert_eq!(attempts.wait(start + millis(300)), millis(1_200), "39 that wait and this one, 30 ms each");
        assert_eq!(attempts.wait(start + millis(1)), RETRY_MIN);
        assert_eq!(attempts.wait(start + millis(60_000)), RETRY_MAX);
    }
}
