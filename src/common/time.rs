//! Times as they are stored and signed: whole milliseconds and whole seconds since 1970, in UTC. And the wait of the machine's
//! clock, which `domain` does not import from the runtime.

use std::{
    pin::Pin,
    time::{Duration, SystemTime},
};

/// `time` without the fraction of a millisecond, as documents keep it.
pub(crate) fn to_the_millisecond(time: SystemTime) -> SystemTime {
    let since_1970 = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    time - Duration::from_nanos(u64::from(since_1970.subsec_nanos() % 1_000_000))
}

/// Whole seconds since 1970; times before 1970 are 0.
pub(crate) fn unix_seconds(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// The time of a number of seconds since 1970.
pub(crate) fn from_unix_seconds(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
}

/// Ends after `duration`, by the runtime's clock.
pub(crate) fn sleep(duration: Duration) -> Pin<Box<dyn Future<Output = ()> + Send>> {
    Box::pin(tokio::time::sleep(duration))
}
