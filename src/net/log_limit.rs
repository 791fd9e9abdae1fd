//! Limits log lines about events whose number an attacker controls.

use std::{mem, time::Duration};

use tokio::time::Instant;

/// Counts events, of which one in each interval is logged.
pub(super) struct RateLimitedLog {
    interval: Duration,
    events: u64,
    logged: Option<Instant>,
}

impl RateLimitedLog {
    pub(super) fn new(interval: Duration) -> Self {
        Self { interval, events: 0, logged: None }
    }

    /// Counts one event. When a log line is due, returns the number of events since the last line.
    pub(super) fn count(&mut self) -> Option<u64> {
        self.events += 1;
        let is_due = self.logged.is_none_or(|logged| logged.elapsed() >= self.interval);
        is_due.then(|| {
            self.logged = Some(Instant::now());
            mem::take(&mut self.events)
        })
    }
}
