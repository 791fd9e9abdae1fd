//! Spreads waits, so that clients that were refused or disconnected together do not return together.

use std::time::Duration;

/// `base` plus a part of `spread` that the random byte chooses: 0 adds nothing, 255 adds almost all of it.
pub(crate) fn jittered(base: Duration, spread: Duration, random: u8) -> Duration {
    base + spread / 256 * u32::from(random)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jittered_wait_lies_between_base_and_base_plus_spread() {
        let [base, spread] = [Duration::from_secs(9), Duration::from_secs(2)];
        assert_eq!(jittered(base, spread, 0), base);
        let greatest = jittered(base, spread, 255);
        assert!(greatest > base + spread / 100 * 99 && greatest < base + spread, "{greatest:?}");
    }
}
