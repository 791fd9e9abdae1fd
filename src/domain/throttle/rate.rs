//! A rate, held to by the generic cell rate algorithm.
//!
//! Each event adds its share of time to a backlog that drains by itself; while the backlog has room for one more share the
//! event may happen. So the rate holds for every stretch of time, and how long to wait is known to the nanosecond (ITU-T
//! I.371, GCRA).

use std::time::Duration;

/// So many events in so much time: all at once, and then one in each share of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Events; at least one.
    pub most: u32,
    /// The time.
    pub per: Duration,
}

impl Rate {
    /// What one event adds to the backlog.
    pub(in crate::domain) fn share(self) -> Duration {
        self.per / self.most.max(1)
    }

    /// How long to wait until one more event has room.
    pub(super) fn wait(self, backlog: Duration) -> Option<Duration> {
        let wait = (backlog + self.share()).saturating_sub(self.per);
        (!wait.is_zero()).then_some(wait)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEN_IN_FIVE_MINUTES: Rate = Rate { most: 10, per: Duration::from_secs(300) };

    #[test]
    fn so_many_at_once_then_one_in_each_share() {
        let seconds = Duration::from_secs;
        assert_eq!(TEN_IN_FIVE_MINUTES.share(), seconds(30));
        assert_eq!(TEN_IN_FIVE_MINUTES.wait(seconds(270)), None, "nine have been");
        assert_eq!(TEN_IN_FIVE_MINUTES.wait(seconds(300)), Some(seconds(30)), "ten have been");
        assert_eq!(TEN_IN_FIVE_MINUTES.wait(seconds(271)), Some(seconds(1)));
    }
}
