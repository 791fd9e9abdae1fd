//! The price of a proof of work at an account: it doubles with each hundred consecutive failed attempts with one.
//!
//! A price is a number of doublings of the basic work (`common/altcha.rs`). Pure functions.

use std::time::Duration;

use crate::domain::model::{ByEvidence, Evidence};

/// Failed attempts with proof of work at one account after which the price doubles.
const FAILURES_FOR_A_STEP: u32 = 100;

/// Doublings at most: an hour of two cores. More would be a lockout, which has its own setting.
pub(super) const STEPS_MAX: u8 = 12;

/// Doublings of a challenge that is for no account, because it is valid for any.
pub(super) const STEPS_OF_ANY_ACCOUNT: u8 = 2;

/// How long a challenge is valid up to this price. Above it the time doubles with each step. Two cores need a fifth of it.
const LIFETIME: Duration = Duration::from_secs(300);
const LIFETIME_STEPS: u8 = 6;

/// The price of an attempt at an account with so many failed attempts.
pub(super) fn of(failures: &ByEvidence<u32>) -> u8 {
    let steps = *failures.of(Evidence::ProofOfWork) / FAILURES_FOR_A_STEP;
    u8::try_from(steps).unwrap_or(STEPS_MAX).min(STEPS_MAX)
}

/// Whether a solution of this price opens the account. The price may have risen by one step since the challenge was created.
pub(super) fn is_enough(price: u8, failures: &ByEvidence<u32>) -> bool {
    price + 1 >= of(failures)
}

/// How long a challenge of this price is valid.
pub(super) fn lifetime(price: u8) -> Duration {
    LIFETIME * (1 << price.saturating_sub(LIFETIME_STEPS))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failures(count: u32) -> ByEvidence<u32> {
        let mut failures = ByEvidence::default();
        *failures.of_mut(Evidence::ProofOfWork) = count;
        failures
    }

    #[test]
    fn price_doubles_with_each_hundred_failures_up_to_the_maximum() {
        let prices = [0, 99, 100, 250, 1_000, 1_200, 100_000].map(|count| of(&failures(count)));
        assert_eq!(prices, [0, 0, 1, 2, 10, 12, 12]);
    }

    #[test]
    fn solution_may_be_one_step_too_cheap_and_no_more() {
        assert!(is_enough(0, &failures(150)) && !is_enough(0, &failures(200)) && is_enough(2, &failures(300)));
    }
}
