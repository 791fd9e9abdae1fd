//! Attempts in flight: a reservation counts while the attempt runs, and afterwards only if it failed.

use std::{
    collections::{HashMap, hash_map::Entry},
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use tokio::sync::{Notify, futures::OwnedNotified};

use super::{RateLimitKey, gcra::Rate, sketch::Sketch};
use crate::{
    common::lock::lock,
    domain::ports::{Clock, Sleep},
};

/// How long a call waits for attempts at its key that are in flight, any of which may succeed.
const WAIT_MAX: Duration = Duration::from_millis(300);

/// Calls that wait at one key; those beyond it are refused.
const WAITING_MAX: usize = 64;

/// What all reservations of this node share.
pub(super) struct LimiterState {
    tables: Mutex<LimiterTables>,
    pub(super) clock: Arc<dyn Clock>,
}

/// GCRA states, and attempts in flight.
pub(super) struct LimiterTables {
    pub(super) sketch: Sketch,
    /// Attempts that have reserved and have not settled; each has a few entries.
    pub(super) in_flight: HashMap<RateLimitKey, AttemptsInFlight>,
}

/// The attempts in flight at one key.
#[derive(Default)]
pub(super) struct AttemptsInFlight {
    pub(super) count: u32,
    /// Wakes the calls that wait for one of them to settle.
    settled: Arc<Notify>,
}

/// A reservation at a rate-limit key. Dropped, it is released.
#[must_use]
pub(in crate::domain) struct Reservation {
    limiter: Arc<LimiterState>,
    key: RateLimitKey,
    /// The rate of a key with a GCRA state in the sketch.
    rate: Option<Rate>,
    is_kept: bool,
}

/// No reservation is possible now.
pub(in crate::domain) struct Exceeded {
    /// Until one is possible, if no other call is faster.
    pub(in crate::domain) wait: Duration,
    /// Ends when the next attempt in flight settles, which may release its reservation.
    pub(super) settled: Option<Pin<Box<OwnedNotified>>>,
}

/// What is left of the time that a call waits for attempts in flight.
pub(in crate::domain) struct WaitBudget(Sleep);

impl LimiterState {
    pub(super) fn new(clock: Arc<dyn Clock>) -> Self {
        let tables = LimiterTables { sketch: Sketch::new(clock.monotonic()), in_flight: HashMap::new() };
        Self { tables: Mutex::new(tables), clock }
    }

    pub(super) fn tables(&self) -> MutexGuard<'_, LimiterTables> {
        lock(&self.tables)
    }
}

impl AttemptsInFlight {
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

    /// Waits until another attempt settles; answers the wait to report when that is of no use.
    pub(in crate::domain) async fn wait(&mut self, exceeded: Exceeded) -> Result<(), Duration> {
        let Some(settled) = exceeded.settled else { return Err(exceeded.wait) };
        tokio::select! {
            () = settled => Ok(()),
            () = &mut self.0 => Err(exceeded.wait),
        }
    }
}

impl Reservation {
    pub(super) fn new(limiter: Arc<LimiterState>, key: RateLimitKey, rate: Option<Rate>) -> Self {
        Self { limiter, key, rate, is_kept: false }
    }

    /// Counts it: the attempt failed.
    pub(in crate::domain) fn keep(mut self) {
        self.is_kept = true;
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        let mut tables = self.limiter.tables();
        let LimiterTables { sketch, in_flight } = &mut *tables;
        let Entry::Occupied(mut others) = in_flight.entry(self.key) else { return };
        others.get_mut().count -= 1;
        if let (Some(rate), true) = (self.rate, self.is_kept) {
            let now = self.limiter.clock.monotonic();
            let gcra_state = sketch.get(&self.key, now);
            sketch.raise(&self.key, now, gcra_state + rate.increment());
        }
        // A released reservation is for one waiting call. Only when no attempt is in flight any more do all of them wake:
        // more wake-ups would make a crowd that waits cost more than one that is refused.
        if others.get().count == 0 {
            others.remove().settled.notify_waiters();
        } else if !self.is_kept {
            others.get().settled.notify_one();
        }
    }
}
