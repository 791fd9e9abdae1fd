//! Brings what tonic answers by itself to the error table.
//!
//! tonic refuses some requests before any method of ours runs: a message over the limit is OUT_OF_RANGE there, bytes
//! that are no protobuf message are INTERNAL, and neither has an ErrorInfo. gRPC's other servers answer
//! RESOURCE_EXHAUSTED for the first, and the second is the caller's mistake.

use http::Response;
use tonic::{Code, Status, body::Body};

use crate::{
    api::error,
    domain::{Error, Reason, Violation},
};

pub(super) const CODE: &str = "grpc-status";
const MESSAGE: &str = "grpc-message";
const DETAILS: &str = "grpc-status-details-bin";

/// Gives an error without details the ones it should have; leaves every other answer alone.
pub(super) fn complete(mut response: Response<Body>) -> Response<Body> {
    // Errors before the first message are in the headers; there are no others on unary calls.
    let headers = response.headers();
    if headers.contains_key(DETAILS) {
        return response;
    }
    let Some(code) = headers.get(CODE).map(|code| Code::from_bytes(code.as_bytes())) else { return response };
    // tonic names what it accepts when it refuses a compression, and only then.
    let compressed = headers.contains_key("grpc-accept-encoding");
    if let Some(status) = replacement(code, compressed) {
        response.headers_mut().remove(MESSAGE);
        // Replaces what both have; `grpc-accept-encoding` stays.
        response.headers_mut().extend(status.into_http::<Body>().into_parts().0.headers);
    }
    response
}

/// The same for an error inside a stream, which travels in the trailers.
pub(super) fn completed(status: Status) -> Status {
    replacement(status.code(), false).unwrap_or(status)
}

fn replacement(code: Code, compressed: bool) -> Option<Status> {
    match code {
        Code::OutOfRange | Code::ResourceExhausted => Some(error::status(&Error::RequestTooLarge)),
        Code::Internal | Code::InvalidArgument | Code::Unknown => {
            let violation = Violation::new("request", Reason::Malformed, "is not a message that this method takes");
            Some(error::status(&violation.into()))
        }
        Code::Unimplemented if compressed => Some(error::unimplemented("messages must not be compressed")),
        Code::Unimplemented => Some(error::unimplemented("unknown method")),
        // Nothing of ours or tonic's answers these without details, but for a stream whose client has gone.
        Code::Ok
        | Code::NotFound
        | Code::Cancelled
        | Code::DeadlineExceeded
        | Code::AlreadyExists
        | Code::PermissionDenied
        | Code::FailedPrecondition
        | Code::Aborted
        | Code::Unavailable
        | Code::DataLoss
        | Code::Unauthenticated => None,
    }
}
