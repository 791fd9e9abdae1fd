//! The clock of the client, which tests can replace.

use std::{
    fmt::Debug,
    time::{Instant, SystemTime},
};

/// Where time comes from.
pub trait Clock: Debug + Send + Sync {
    /// The time of day, with which the times of tokens are compared.
    fn now(&self) -> SystemTime;

    /// Monotonic time, for ages and waits.
    fn monotonic(&self) -> Instant;
}

/// The clock of the host.
#[derive(Debug, Clone, Copy, Default)]
pub struct System;

impl Clock for System {
    #[expect(clippy::disallowed_methods, reason = "this is the clock of the client")]
    fn now(&self) -> SystemTime {
        SystemTime::now()
    }

    #[expect(clippy::disallowed_methods, reason = "this is the clock of the client")]
    fn monotonic(&self) -> Instant {
        Instant::now()
    }
}
