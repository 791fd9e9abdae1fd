//! When a call's answer is of no more use: the caller's `grpc-timeout`, within our bounds.

use std::time::{Duration, Instant};

use http::HeaderMap;

use crate::{
    api::timeout,
    domain::{Clock, DEADLINE_DEFAULT, Reason, Violation},
};

/// For callers that name a longer one.
const MAX: Duration = Duration::from_secs(30);

/// Taken off, so that our answer is there before the caller's own timer ends the call without one.
const MARGIN: Duration = Duration::from_millis(5);

/// Reads the deadline of a call.
pub(super) fn of(headers: &HeaderMap, clock: &dyn Clock) -> Result<Instant, Violation> {
    let timeout = match headers.get("grpc-timeout") {
        None => DEADLINE_DEFAULT,
        Some(value) => {
            let timeout = value.to_str().ok().and_then(timeout::parse).ok_or_else(|| {
                Violation::new("grpc-timeout", Reason::Malformed, "is not 1 to 8 digits and a unit of H, M, S, m, u, n")
            })?;
            timeout.saturating_sub(MARGIN.min(timeout / 10))
        }
    };
    Ok(clock.monotonic() + timeout.min(MAX))
}
