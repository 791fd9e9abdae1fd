//! How long a hash takes on this machine: moving averages, from which the queue estimates a wait.

use std::time::Duration;

use crate::domain::model::Cost;

/// The assumed duration of a hash of the default cost before the first measurement.
const HASH_TIME_INITIAL: Duration = Duration::from_millis(10);

/// An average above this, of hashes of the default cost, does not refuse a call by itself, because the machine may have been
/// suspended.
const HASH_TIME_TRUSTED_MAX: Duration = Duration::from_millis(50);

/// The same for any cost. Below every deadline that leaves time for a hash.
const COSTLY_HASH_TIME_TRUSTED_MAX: Duration = Duration::from_secs(1);

/// One hash changes the average by at most this many times the average, for the same reason.
const HASH_TIME_OUTLIER_FACTOR: u32 = 4;

/// The averages of one pool.
#[derive(Debug)]
pub(super) struct HashTime {
    /// The moving average of the duration of one hash.
    recent: Duration,
    /// The moving average over more hashes, so that a few fast hashes do not admit too many jobs.
    usual: Duration,
    /// The average up to which a call may be refused.
    trusted_max: Duration,
}

impl HashTime {
    /// The expectations of hashes of this cost.
    pub(super) fn of(cost: Cost) -> Self {
        let initial = HASH_TIME_INITIAL.saturating_mul(cost.times_default());
        let trusted_max = HASH_TIME_TRUSTED_MAX.saturating_mul(cost.times_default()).min(COSTLY_HASH_TIME_TRUSTED_MAX);
        Self { recent: initial.min(trusted_max), usual: initial.min(trusted_max), trusted_max }
    }

    /// The recent average.
    pub(super) fn recent(&self) -> Duration {
        self.recent
    }

    /// The time that a hash takes at least, as far as the average may refuse a call.
    pub(super) fn trusted(&self) -> Duration {
        self.recent.min(self.trusted_max)
    }

    /// The time after which so many hashes have ended, one after the other.
    pub(super) fn of_hashes(&self, count: usize) -> Duration {
        self.recent.max(self.usual).saturating_mul(u32::try_from(count).unwrap_or(u32::MAX))
    }

    /// Updates the averages.
    pub(super) fn learn(&mut self, took: Duration) {
        let took = took.min(self.recent * HASH_TIME_OUTLIER_FACTOR);
        self.recent = (self.recent * 7 + took) / 8;
        self.usual = (self.usual * 63 + took.min(self.trusted_max)) / 64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expectations_follow_the_cost_of_a_hash() {
        let time = |memory_kib, passes| HashTime::of(Cost { memory_kib, passes, lanes: 1 });
        let times = |time: &HashTime| [time.recent, time.usual, time.trusted_max];
        let millis = |times: [u64; 3]| times.map(Duration::from_millis);
        assert_eq!(times(&time(19_456, 2)), millis([10, 10, 50]));
        assert_eq!(times(&time(64, 1)), millis([10, 10, 50]), "never less");
        let mut costly = time(65_536, 4);
        assert_eq!(times(&costly), millis([70, 70, 350]));
        assert_eq!(times(&time(262_144, 16)), millis([1_000, 1_000, 1_000]));
        for _ in 0..1_000 {
            costly.learn(Duration::from_millis(200));
        }
        let three = costly.of_hashes(3);
        assert!(three > Duration::from_millis(590), "three hashes of 200 ms: {three:?}");
    }
}
