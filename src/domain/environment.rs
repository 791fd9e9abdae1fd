//! Time and chance as parameters.
//!
//! Nothing in `domain` reads a clock or draws a random number by itself: tests move time by hand.

use std::{
    fmt::Debug,
    time::{Duration, Instant, SystemTime},
};

/// Where time comes from.
pub trait Clock: Debug + Send + Sync {
    /// The time of day, for what is stored.
    fn now(&self) -> SystemTime;

    /// Time that never goes back, for deadlines and waits.
    fn monotonic(&self) -> Instant;
}

/// A time as it is stored.
pub(crate) fn to_the_millisecond(time: SystemTime) -> SystemTime {
    let since_1970 = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    time - Duration::from_nanos(u64::from(since_1970.subsec_nanos() % 1_000_000))
}

/// Where chance comes from. Must be fit for secrets.
pub trait Entropy: Debug + Send + Sync {
    /// Fills `bytes` with random bytes.
    fn fill(&self, bytes: &mut [u8]);
}

/// The machine's own clock and random numbers.
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

impl Entropy for System {
    fn fill(&self, bytes: &mut [u8]) {
        getrandom::fill(bytes).expect("a machine without random numbers cannot keep a secret");
    }
}
