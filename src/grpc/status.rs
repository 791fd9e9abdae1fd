//! Brings what tonic answers by itself to the error table.
//!
//! tonic refuses some requests before any method of ours runs: a message over the limit is OUT_OF_RANGE there, bytes
//! that are no protobuf message are INTERNAL, and neither has an ErrorInfo. gRPC's other servers answer
//! RESOURCE_EXHAUSTED for the first, and the second is the caller's mistake.

use http::{HeaderName, HeaderValue, Response};
use tonic::{Code, body::Body};

use crate::{
    domain::{Error, Reason, Violation},
    wire::error,
};

const CODE: &str = "grpc-status";
const MESSAGE: &str = "grpc-message";
const DETAILS: &str = "grpc-status-details-bin";

/// Gives an error without details the ones it should have; leaves every other answer alone.
pub(super) fn complete(response: Response<Body>) -> Response<Body> {
    // Errors before the first message are in the headers; there are no others on unary calls.
    let Some(code) = response.headers().get(CODE).map(|code| Code::from_bytes(code.as_bytes())) else {
        return response;
    };
    if response.headers().contains_key(DETAILS) {
        return response;
    }
    match code {
        Code::OutOfRange | Code::ResourceExhausted => replace(response, &Error::RequestTooLarge),
        Code::Internal | Code::InvalidArgument | Code::Unknown => {
            let violation = Violation::new("request", Reason::Malformed, "is not a message that this method takes");
            replace(response, &violation.into())
        }
        Code::Unimplemented => {
            // A header of ours tells an unknown compression from an unknown method.
            let text = if response.headers().contains_key("grpc-accept-encoding") {
                "messages must not be compressed"
            } else {
                "unknown method"
            };
            with_status(response, error::unimplemented(text))
        }
        // Health answers NOT_FOUND as its own protocol defines it.
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
        | Code::Unauthenticated => response,
    }
}

fn replace(response: Response<Body>, error: &Error) -> Response<Body> {
    with_status(response, error::status(error))
}

/// The response with another status; headers such as `grpc-accept-encoding` stay.
fn with_status(mut response: Response<Body>, status: tonic::Status) -> Response<Body> {
    for name in [CODE, MESSAGE] {
        response.headers_mut().remove(name);
    }
    let fresh = status.into_http::<Body>();
    let headers: Vec<(HeaderName, HeaderValue)> =
        fresh.headers().iter().map(|(name, value)| (name.clone(), value.clone())).collect();
    response.headers_mut().extend(headers);
    response
}
