//! When a call's answer is of no more use: the caller's `grpc-timeout`, within our bounds.

use std::time::{Duration, Instant};

use http::HeaderMap;

use crate::domain::{Clock, DEADLINE_DEFAULT, Reason, Violation};

/// For callers that name a longer one.
const MAX: Duration = Duration::from_secs(30);

/// Taken off, so that our answer is there before the caller's own timer ends the call without one.
const MARGIN: Duration = Duration::from_millis(5);

/// Reads the deadline of a call.
pub(super) fn of(headers: &HeaderMap, clock: &dyn Clock) -> Result<Instant, Violation> {
    let timeout = match headers.get("grpc-timeout") {
        None => DEADLINE_DEFAULT,
        Some(value) => {
            let timeout = value.to_str().ok().and_then(parse).ok_or_else(|| {
                Violation::new("grpc-timeout", Reason::Malformed, "is not 1 to 8 digits and a unit of H, M, S, m, u, n")
            })?;
            timeout.saturating_sub(MARGIN.min(timeout / 10))
        }
    };
    Ok(clock.monotonic() + timeout.min(MAX))
}

fn parse(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if !(1..=8).contains(&digits.len()) || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let number: u64 = digits.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_secs(number * 3_600)),
        "M" => Some(Duration::from_secs(number * 60)),
        "S" => Some(Duration::from_secs(number)),
        "m" => Some(Duration::from_millis(number)),
        "u" => Some(Duration::from_micros(number)),
        "n" => Some(Duration::from_nanos(number)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_are_read_as_the_protocol_defines_them() {
        assert_eq!(parse("100m"), Some(Duration::from_millis(100)));
        assert_eq!(parse("99999999H"), Some(Duration::from_secs(99_999_999 * 3_600)));
        for malformed in ["", "S", "1", "-1S", "1 S", "123456789S", "1s", "é", "1é"] {
            assert_eq!(parse(malformed), None, "{malformed:?}");
        }
    }
}
