//! Errors of calls that reach no method. They have no domain error, because no rule ran.

use tonic::{Code, Status};

use super::ErrorRow;
use crate::api::pb::ErrorReason;

/// The answer to an unknown service or method, or to an unknown compression.
pub fn unimplemented(text: &str) -> Status {
    ErrorRow::new(Code::Unimplemented, 404, ErrorReason::Unimplemented, text).into_status()
}

/// The answer to a unary call with more than one message. gRPC requires INTERNAL.
pub fn second_message() -> Status {
    ErrorRow::new(Code::Internal, 500, ErrorReason::InvalidField, "a unary call has one request message").into_status()
}

/// The answer to a health check of an unknown service. The health protocol requires NOT_FOUND.
pub fn unknown_health_service() -> Status {
    ErrorRow::new(Code::NotFound, 404, ErrorReason::Unimplemented, "unknown service").into_status()
}
