//! A rate, enforced by the generic cell rate algorithm (ITU-T I.371, GCRA).
//!
//! Each event adds its increment to a state that drains with time; an event may happen while one more increment fits. So the
//! rate holds over every stretch of time, and the wait until the next event is known exactly.

use std::time::Duration;

/// So many events in a period: all at once, and then one in each increment of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Events; at least one.
    pub events: u32,
    /// The period.
    pub period: Duration,
}

impl Rate {
    /// What one event adds to the state.
    pub(in crate::domain) fn increment(self) -> Duration {
        self.period / self.events.max(1)
    }

    /// So many times the events in the same period.
    pub(in crate::domain) fn times(self, multiple: u32) -> Self {
        Self { events: self.events.saturating_mul(multiple), ..self }
    }

    /// One of so many parts of the events, at least one, in the same period.
    pub(in crate::domain) fn part(self, of: u32) -> Self {
        Self { events: (self.events / of).max(1), ..self }
    }

    /// The wait until one more event is allowed.
    pub(in crate::domain::abuse) fn wait(self, state: Duration) -> Option<Duration> {
        let wait = (state + self.increment()).saturating_sub(self.period);
        (!wait.is_zero()).then_some(wait)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEN_IN_FIVE_MINUTES: Rate = Rate { events: 10, period: Duration::from_secs(300) };

    #[test]
    fn burst_is_allowed_then_one_event_per_increment() {
        let seconds = Duration::from_secs;
        assert_eq!(TEN_IN_FIVE_MINUTES.increment(), seconds(30));
        assert_eq!(TEN_IN_FIVE_MINUTES.wait(seconds(270)), None, "nine have been");
        assert_eq!(TEN_IN_FIVE_MINUTES.wait(seconds(300)), Some(seconds(30)), "ten have been");
        assert_eq!(TEN_IN_FIVE_MINUTES.wait(seconds(271)), Some(seconds(1)));
    }
}
