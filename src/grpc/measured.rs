//! Measures every call, from its head until its status is on its way.
//!
//! The status is in the headers of an error and in the trailers of everything else, which are looked at as they pass.
//! A call that ends without either was given up by its caller.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Instant,
};

use bytes::Bytes;
use http::{HeaderMap, Response};
use http_body::{Frame, SizeHint};
use tonic::{Code, Status, body::Body};

use super::status::CODE;
use crate::{
    api::METHODS,
    domain::{Auth, Event},
};

/// What OpenTelemetry calls a method that nobody knows: whoever calls must not choose a label's value.
const OTHER: &str = "_OTHER";

/// A call under way; told when it is dropped.
pub(super) struct Call {
    rules: Arc<Auth>,
    method: &'static str,
    began: Instant,
    code: Code,
}

/// An answer, whose end is the end of its call.
pub struct Measured {
    body: Body,
    call: Option<Call>,
}

// === impl Call ===

impl Call {
    /// A call of `path`.
    pub(super) fn begun(rules: Arc<Auth>, path: &str) -> Self {
        let known = path.strip_prefix('/').and_then(|method| METHODS.binary_search(&method).ok());
        let began = rules.environment().clock.monotonic();
        Self { rules, method: known.map_or(OTHER, |at| METHODS[at]), began, code: Code::Cancelled }
    }

    /// Ends with its status, or with its answer.
    pub(super) fn until_the_end_of(self, response: Response<Body>) -> Response<Measured> {
        let call = self.ended(response.headers());
        response.map(|body| Measured { body, call })
    }

    /// Ends when `headers` say how; the call, when they do not.
    fn ended(mut self, headers: &HeaderMap) -> Option<Self> {
        let Some(code) = headers.get(CODE) else { return Some(self) };
        self.code = Code::from_bytes(code.as_bytes());
        None
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        let environment = self.rules.environment();
        let took = environment.since(self.began);
        environment.note(&Event::CallEnded { method: self.method, code: name(self.code), took });
    }
}

// === impl Measured ===

impl Measured {
    /// The answer to something that is no call.
    pub(super) fn not(body: Body) -> Self {
        Self { body, call: None }
    }
}

impl http_body::Body for Measured {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        if let Some(Ok(frame)) = &frame
            && let Some(trailers) = frame.trailers_ref()
        {
            self.call = self.call.take().and_then(|call| call.ended(trailers));
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

/// A code as the protocol's own documents write it.
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
