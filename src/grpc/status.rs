//! Replaces errors that tonic answers itself by rows of the error table.
//!
//! tonic refuses some requests before a method runs: with OUT_OF_RANGE a message over the limit, with INTERNAL bytes
//! that are not a protobuf message, both without an ErrorInfo. Other gRPC servers answer RESOURCE_EXHAUSTED to the first,
//! and the second is an invalid argument.

use http::Response;
use tonic::{Code, Status, body::Body};

use crate::{
    api::errors,
    domain::{Error, Reason, Violation},
};

pub(super) const CODE: &str = "grpc-status";
const MESSAGE: &str = "grpc-message";
const DETAILS: &str = "grpc-status-details-bin";

/// Adds the details to an error without details. Other responses stay as they are.
pub(super) fn complete(mut response: Response<Body>) -> Response<Body> {
    // An error before the first message is in the headers. Unary calls have no other errors.
    let headers = response.headers();
    if headers.contains_key(DETAILS) {
        return response;
    }
    let Some(code) = headers.get(CODE).map(|code| Code::from_bytes(code.as_bytes())) else { return response };
    // tonic sends the accepted encodings only when it refuses a compression.
    let compressed = headers.contains_key("grpc-accept-encoding");
    if let Some(status) = replacement(code, compressed) {
        response.headers_mut().remove(MESSAGE);
        // `grpc-accept-encoding` stays.
        response.headers_mut().extend(status.into_http::<Body>().into_parts().0.headers);
    }
    response
}

/// The same for an error inside a stream, which is sent in the trailers.
pub(super) fn completed(status: Status) -> Status {
    replacement(status.code(), false).unwrap_or(status)
}

/// The error of a call without a message that its method takes.
pub(super) fn malformed() -> Status {
    errors::status(&Violation::new("request", Reason::Malformed, "is not a message that this method takes").into())
}

fn replacement(code: Code, compressed: bool) -> Option<Status> {
    match code {
        Code::OutOfRange | Code::ResourceExhausted => Some(errors::status(&Error::RequestTooLarge)),
        Code::Internal | Code::InvalidArgument | Code::Unknown => Some(malformed()),
        Code::Unimplemented if compressed => Some(errors::unimplemented("messages must not be compressed")),
        Code::Unimplemented => Some(errors::unimplemented("unknown method")),
        // Neither this service nor tonic answers these without details, except to a stream whose client is gone.
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
