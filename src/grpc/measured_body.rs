//! A response body that ends its call's metrics.
//!
//! gRPC sends its status in the headers of an error and in the trailers of every other response. The call ends when the
//! status passes. If neither passes, the caller has cancelled the call.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{HeaderMap, Response};
use http_body::{Frame, SizeHint};
use tonic::{Code, Status, body::Body};

use super::status::CODE;
use crate::{
    api::{
        METHODS,
        call::{CallLabels, CallMetrics},
    },
    domain::Auth,
};

/// The label of an unknown method, as in OpenTelemetry. Callers must not choose the value of a label.
const OTHER: &str = "_OTHER";

/// The metrics of a gRPC call.
pub(super) struct RpcMetrics {
    metrics: CallMetrics,
    method: &'static str,
}

/// A response body; its end is the end of its call.
pub struct MeasuredBody {
    body: Body,
    call: Option<RpcMetrics>,
}

// === impl RpcMetrics ===

impl RpcMetrics {
    /// A call of `path` that begins now.
    pub(super) fn begin(auth: Arc<Auth>, path: &str) -> Self {
        let known = path.strip_prefix('/').and_then(|method| METHODS.binary_search(&method).ok());
        let method = known.map_or(OTHER, |at| METHODS[at]);
        Self { metrics: CallMetrics::begin(auth, labels(method, Code::Cancelled)), method }
    }

    /// Ends with the status in the headers, or with the body.
    pub(super) fn until_end_of(self, response: Response<Body>) -> Response<MeasuredBody> {
        let call = self.end_if_status(response.headers());
        response.map(|body| MeasuredBody { body, call })
    }

    /// Ends if `headers` hold the status; otherwise the call goes on.
    fn end_if_status(mut self, headers: &HeaderMap) -> Option<Self> {
        let Some(code) = headers.get(CODE) else { return Some(self) };
        self.metrics.labels = labels(self.method, Code::from_bytes(code.as_bytes()));
        None
    }
}

fn labels(method: &'static str, code: Code) -> CallLabels {
    CallLabels::Rpc { method, code: name(code) }
}

// === impl MeasuredBody ===

impl MeasuredBody {
    /// The response to a request that is not a call.
    pub(super) fn without_call(body: Body) -> Self {
        Self { body, call: None }
    }
}

impl http_body::Body for MeasuredBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        if let Some(Ok(frame)) = &frame
            && let Some(trailers) = frame.trailers_ref()
        {
            self.call = self.call.take().and_then(|call| call.end_if_status(trailers));
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The name of a code in the gRPC specification.
fn name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}
