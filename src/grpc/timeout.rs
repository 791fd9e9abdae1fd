//! The timeout that a gRPC caller names in `grpc-timeout`. Its bounds are those of every protocol: `api/call.rs`.

use std::time::Duration;

use http::HeaderMap;

use crate::{
    api::timeout,
    domain::{Reason, Violation},
};

/// Reads the timeout of a call; `None` if the caller names none.
pub(super) fn read(headers: &HeaderMap) -> Result<Option<Duration>, Violation> {
    let Some(value) = headers.get("grpc-timeout") else { return Ok(None) };
    let timeout = value.to_str().ok().and_then(timeout::parse).ok_or_else(|| {
        Violation::new("grpc-timeout", Reason::Malformed, "is not 1 to 8 digits and a unit of H, M, S, m, u, n")
    })?;
    Ok(Some(timeout))
}
