//! Time as a parameter: nothing in the rules reads a clock by itself, so tests move time by hand.

use std::{
    fmt::Debug,
    pin::Pin,
    time::{Duration, Instant, SystemTime},
};

use crate::common::time;

/// The source of time.
pub trait Clock: Debug + Send + Sync {
    /// The time of day, for what is stored.
    fn now(&self) -> SystemTime;

    /// Monotonic time, for deadlines and waits.
    fn monotonic(&self) -> Instant;

    /// Ends after `duration`.
    fn sleep(&self, duration: Duration) -> Sleep;
}

/// A wait of a [`Clock`].
pub type Sleep = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A wait that took longer than its limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Elapsed;

impl dyn Clock + '_ {
    /// What `work` answers, if it answers within `limit`.
    ///
    /// # Errors
    /// `Elapsed`; `work` is dropped then.
    pub async fn timeout<T>(&self, limit: Duration, work: impl Future<Output = T>) -> Result<T, Elapsed> {
        tokio::select! {
            biased;
            done = work => Ok(done),
            () = self.sleep(limit) => Err(Elapsed),
        }
    }
}

/// The clock and the CSPRNG of the host.
#[derive(Debug, Clone, Copy, Default)]
pub struct System;

impl Clock for System {
    #[expect(clippy::disallowed_methods, reason = "this is the clock of the service")]
    fn now(&self) -> SystemTime {
        SystemTime::now()
    }

    #[expect(clippy::disallowed_methods, reason = "this is the clock of the service")]
    fn monotonic(&self) -> Instant {
        Instant::now()
    }

    fn sleep(&self, duration: Duration) -> Sleep {
        time::sleep(duration)
    }
}
