//! Times as they are stored and signed: whole milliseconds and whole seconds since 1970, in UTC; and which of them can be
//! right. And the wait of the machine's clock, which `domain` does not import from the runtime.

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

/// How far ahead of the store's clock a stored or signed time may be: more than synchronized clocks differ. A later one was
/// written while a clock was wrong, and is not believed.
pub(crate) const CLOCK_TOLERANCE: Duration = Duration::from_secs(60);

/// Whether something can have happened at `time`, if it is `now`.
pub(crate) fn is_credible(time: SystemTime, now: SystemTime) -> bool {
    time <= now + CLOCK_TOLERANCE
}

/// When something happened by a stored time: a time that is not credible counts as now.
pub(crate) fn credible_or_now(time: SystemTime, now: SystemTime) -> SystemTime {
    if is_credible(time, now) { time } else { now }
}

/// Whether what ends at `end` can have begun by now, if it lasts for `longest` at most.
pub(crate) fn is_credible_end(end: SystemTime, longest: Duration, now: SystemTime) -> bool {
    end <= now + longest + CLOCK_TOLERANCE
}

/// Ends after `duration`, by the runtime's clock.
pub(crate) fn sleep(duration: Duration) -> Pin<Box<dyn Future<Output = ()> + Send>> {
    Box::pin(tokio::time::sleep(duration))
}
