//! The consecutive failed attempts of a username, as they are stored.

use std::time::{Duration, SystemTime};

use crate::common::time::credible_or_now;

/// How long a count of one is kept, and the maximum for any count.
const KEPT_FOR: Duration = Duration::from_secs(3_600);
const KEPT_FOR_MAX: Duration = Duration::from_secs(90 * 86_400);

/// The stored failed attempts of a username.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FailedAttempts {
    /// Consecutive failed attempts.
    pub count: u32,
    /// The time of the last one.
    pub last_time: SystemTime,
    /// When the GCRA state of the account is empty (`abuse/rate_limit/`).
    pub clear_time: SystemTime,
}

impl FailedAttempts {
    /// The failed attempts without a time that a wrong clock wrote: an attempt in the future counts as one of now.
    /// Whether the GCRA state is credible depends on the settings (`abuse/failure_counter.rs`).
    pub(crate) fn with_credible_times(self, now: SystemTime) -> Self {
        // Every field by name, so that a new time is not forgotten.
        let Self { count, last_time, clear_time } = self;
        Self { count, last_time: credible_or_now(last_time, now), clear_time }
    }

    /// When the count is no longer needed.
    pub fn forget_time(&self) -> SystemTime {
        let kept_for = KEPT_FOR.saturating_mul(self.count.saturating_mul(self.count)).min(KEPT_FOR_MAX);
        (self.last_time + kept_for).max(self.clear_time)
    }
}
