//! The price of a proof of work at an account: it doubles with each hundred consecutive failed attempts with one, and falls
//! with each hour without one.
//!
//! A price is a number of doublings of the basic work (`common/altcha.rs`). Pure functions.

use std::time::{Duration, SystemTime};

use crate::domain::model::{Evidence, FailedAttempts, FailureCount, KEPT_FOR};

/// Failed attempts with proof of work at one account after which the price doubles.
const FAILURES_FOR_A_STEP: u32 = 100;

/// Doublings at most: about an hour of a browser. More would be a lockout, which has its own setting.
pub(super) const STEPS_MAX: u8 = 12;

/// Doublings of a challenge that is for no account, because it is valid for any.
pub(super) const STEPS_OF_ANY_ACCOUNT: u8 = 2;

/// How long a challenge is valid up to this price. Above it the time doubles with each step. A browser needs a fifth of it.
const LIFETIME: Duration = Duration::from_secs(300);
const LIFETIME_STEPS: u8 = 6;

/// How many failed attempts set the price: the consecutive ones with proof of work, and no more than the hours until they are
/// forgotten. Each failed attempt adds an hour, so after a time of calm the price is lower.
pub(super) fn failures(attempts: &FailedAttempts, now: SystemTime) -> u32 {
    let FailureCount { consecutive, forget_time, .. } = *attempts.counts.of(Evidence::ProofOfWork);
    let left = forget_time.duration_since(now).unwrap_or_default();
    let hours_left = u32::try_from(left.as_millis().div_ceil(KEPT_FOR.as_millis())).unwrap_or(u32::MAX);
    consecutive.min(hours_left)
}

/// The price of an attempt after so many of these failures.
pub(super) fn of(failures: u32) -> u8 {
    u8::try_from(failures / FAILURES_FOR_A_STEP).unwrap_or(STEPS_MAX).min(STEPS_MAX)
}

/// How many attempts with a solution of this price may still fail before it no longer opens the account; `None`: any number.
/// The price may have risen by one step since the challenge was created.
pub(super) fn left(price: u8, failures: u32) -> Option<u32> {
    let too_cheap_for = price + 2;
    (too_cheap_for <= STEPS_MAX).then(|| (u32::from(too_cheap_for) * FAILURES_FOR_A_STEP).saturating_sub(failures))
}

/// How long a challenge of this price is valid.
pub(super) fn lifetime(price: u8) -> Duration {
    LIFETIME * (1 << price.saturating_sub(LIFETIME_STEPS))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn price_doubles_with_each_hundred_failures_up_to_the_maximum() {
        assert_eq!([0, 99, 100, 250, 1_000, 1_200, 100_000].map(of), [0, 0, 1, 2, 10, 12, 12]);
    }

    #[test]
    fn solution_may_be_one_step_too_cheap_and_no_more() {
        assert_eq!([0, 150, 199, 200, 500].map(|failures| left(0, failures)), [200, 50, 1, 0, 0].map(Some));
        assert_eq!((left(2, 300), left(10, 1_150)), (Some(100), Some(50)));
        assert_eq!((left(11, 1_200), left(12, 100_000)), (None, None), "no price is higher by two steps");
    }
}
