//! The gRPC form of a row: a `tonic::Status` with `google.rpc` details.
//!
//! A wait is sent twice: as `RetryInfo`, and in milliseconds as `grpc-retry-pushback-ms`, which the retry logic of
//! clients reads (gRFC A6).

use std::time::Duration;

use bytes::Bytes;
use prost::Message;
use tonic::{
    Status,
    metadata::{MetadataMap, MetadataValue},
};

use super::{ErrorRow, error_row};
use crate::{
    api::{DOMAIN, PUSHBACK, rpc},
    domain::Error,
};

/// The gRPC form of an error.
pub fn status(error: &Error) -> Status {
    error_row(error).into_status()
}

impl ErrorRow {
    pub(super) fn into_status(self) -> Status {
        let mut details = vec![any("ErrorInfo", &self.error_info())];
        if !self.violations.is_empty() {
            details.push(any("BadRequest", &rpc::BadRequest { field_violations: self.violations }));
        }
        if let Some(violation) = self.precondition {
            details.push(any("PreconditionFailure", &rpc::PreconditionFailure { violations: vec![violation] }));
        }
        let mut metadata = MetadataMap::new();
        if let Some(after) = self.retry_after {
            let delay = prost_types::Duration::try_from(after).expect("a wait of seconds fits");
            details.push(any("RetryInfo", &rpc::RetryInfo { retry_delay: Some(delay) }));
            metadata.insert(PUSHBACK, MetadataValue::from(millis(after)));
        }
        let packed = rpc::Status { code: self.code.into(), message: self.text.clone(), details };
        #[expect(clippy::disallowed_methods, reason = "the error table builds every status")]
        Status::with_details_and_metadata(self.code, self.text, Bytes::from(packed.encode_to_vec()), metadata)
    }

    fn error_info(&self) -> rpc::ErrorInfo {
        let error_id = self.error_id.map(|id| ("error_id".to_owned(), id.to_string()));
        let limit = self.limit.map(|limit| ("limit".to_owned(), limit.name().to_owned()));
        rpc::ErrorInfo {
            reason: self.reason.into(),
            domain: DOMAIN.into(),
            metadata: error_id.into_iter().chain(limit).collect(),
        }
    }
}

fn millis(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis()).unwrap_or(u32::MAX)
}

fn any(name: &str, message: &impl Message) -> prost_types::Any {
    prost_types::Any { type_url: format!("type.googleapis.com/google.rpc.{name}"), value: message.encode_to_vec() }
}
