//! Refusals of the client itself, in the form of a refusal of the server.

use std::time::Duration;

use prost::Message;
use tonic::{
    Code, Status,
    metadata::{MetadataMap, MetadataValue},
};

use crate::api::{DOMAIN, PUSHBACK, pb::ErrorReason, rpc};

/// A refusal with an `ErrorInfo`.
pub(in crate::client) fn status(code: Code, reason: ErrorReason, text: &str) -> Status {
    let reason = reason.as_str_name().trim_start_matches("ERROR_REASON_").into();
    packed(code, &rpc::ErrorInfo { reason, domain: DOMAIN.into(), ..Default::default() }, text)
}

/// Adds the time after which to retry (gRFC A6).
pub(in crate::client) fn with_retry(mut status: Status, after: Duration) -> Status {
    let millis = i32::try_from(after.as_millis()).unwrap_or(i32::MAX);
    status.metadata_mut().insert(PUSHBACK, MetadataValue::from(millis));
    status
}

/// A response that violates the contract.
pub(in crate::client) fn invalid_response(text: &str) -> Status {
    status(Code::Internal, ErrorReason::Internal, text)
}

pub(in crate::client) fn packed(code: Code, info: &rpc::ErrorInfo, text: &str) -> Status {
    let type_url = "type.googleapis.com/google.rpc.ErrorInfo".into();
    let details = vec![prost_types::Any { type_url, value: info.encode_to_vec() }];
    let packed = rpc::Status { code: code.into(), message: text.into(), details }.encode_to_vec();
    #[expect(
        clippy::disallowed_methods,
        reason = "the one place where the client creates a Status; each has its ErrorInfo"
    )]
    Status::with_details_and_metadata(code, text, packed.into(), MetadataMap::new())
}
