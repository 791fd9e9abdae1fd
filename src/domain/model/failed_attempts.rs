//! The consecutive failed attempts of a username, as they are stored.

use std::time::{Duration, SystemTime};

/// How long a count of one is kept, and how long any is at most.
const KEPT_FOR: Duration = Duration::from_secs(3_600);
const KEPT_FOR_MAX: Duration = Duration::from_secs(90 * 86_400);

/// What is stored of a name's failures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FailedAttempts {
    /// In a row.
    pub count: u32,
    /// When the last one was.
    pub last_time: SystemTime,
    /// Until when the account's backlog lasts (`throttle/`).
    pub clear_time: SystemTime,
}

impl FailedAttempts {
    /// When they are of no more use.
    pub fn forget_time(&self) -> SystemTime {
        let kept_for = KEPT_FOR.saturating_mul(self.count.saturating_mul(self.count)).min(KEPT_FOR_MAX);
        (self.last_time + kept_for).max(self.clear_time)
    }
}
