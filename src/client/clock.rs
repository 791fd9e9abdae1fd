//! Time as a parameter, so that tests move it by hand.

use std::{
    fmt::Debug,
    time::{Instant, SystemTime},
};

/// Where time comes from.
pub trait Clock: Debug + Send + Sync {
    /// The time of day, which tokens are compared with.
    fn now(&self) -> SystemTime;

    /// Time that never goes back, for ages and waits.
    fn monotonic(&self) -> Instant;
}

/// The machine's own clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct System;

impl Clock for System {
    #[expect(clippy::disallowed_methods, reason = "this is the clock that everybody else asks")]
    fn now(&self) -> SystemTime {
        SystemTime::now()
    }

    #[expect(clippy::disallowed_methods, reason = "this is the clock that everybody else asks")]
    fn monotonic(&self) -> Instant {
        Instant::now()
    }
}
