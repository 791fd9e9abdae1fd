//! Gives every call a deadline, which also limits the response body.
//!
//! tonic itself applies a timeout only until the response headers arrive, and then returns CANCELLED. Here the deadline
//! includes the body, and a late call returns DEADLINE_EXCEEDED, as from the server.

use std::{
    error::Error,
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Request, Response};
use http_body::Frame;
use tokio::time::{Instant, Sleep, sleep_until, timeout_at};
use tonic::{
    Code, Status, TimeoutExpired,
    body::Body,
    transport::{self, Channel},
};
use tower::Service;

use super::refusal;
use crate::api::{pb::ErrorReason, timeout};

const GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");

/// The longest time in milliseconds that the header can hold: eight digits.
const MILLIS_MAX: u64 = 99_999_999;

/// A channel on which every call has a deadline: its own, or the default of the client.
#[derive(Clone)]
pub struct Calls {
    channel: Channel,
    timeout: HeaderValue,
}

// === impl Calls ===

impl Calls {
    pub(super) fn new(channel: Channel, timeout: Duration) -> Self {
        let millis = timeout.as_millis().clamp(1, MILLIS_MAX.into());
        let timeout = HeaderValue::from_str(&format!("{millis}m")).expect("digits and a letter are a header value");
        Self { channel, timeout }
    }
}

impl fmt::Debug for Calls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Calls")
    }
}

impl Service<Request<Body>> for Calls {
    type Response = Response<Body>;
    type Error = transport::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, transport::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.channel.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let timeout = request.headers_mut().entry(GRPC_TIMEOUT).or_insert_with(|| self.timeout.clone());
        // The server refuses a value that cannot be parsed.
        let timeout = timeout.to_str().ok().and_then(timeout::parse).unwrap_or(Duration::from_millis(MILLIS_MAX));
        let deadline = Instant::now() + timeout;
        let response = self.channel.call(request);
        Box::pin(async move {
            match timeout_at(deadline, response).await {
                Ok(Ok(response)) => Ok(response
                    .map(|body| Body::new(BodyWithDeadline { body, deadline: Box::pin(sleep_until(deadline)) }))),
                Ok(Err(error)) if !is_timeout(&error) => Err(error),
                Ok(Err(_)) | Err(_) => Ok(deadline_exceeded().into_http()),
            }
        })
    }
}

fn deadline_exceeded() -> Status {
    refusal::status(Code::DeadlineExceeded, ErrorReason::DeadlineExceeded, "the deadline passed before the response")
}

/// Whether tonic's own timeout, which runs in parallel, was first.
fn is_timeout(error: &transport::Error) -> bool {
    let mut cause = error.source();
    while let Some(error) = cause {
        if error.is::<TimeoutExpired>() {
            return true;
        }
        cause = error.source();
    }
    false
}

/// A response body that ends with an error at the deadline.
struct BodyWithDeadline {
    body: Body,
    deadline: Pin<Box<Sleep>>,
}

impl http_body::Body for BodyWithDeadline {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        match Pin::new(&mut self.body).poll_frame(cx) {
            Poll::Pending => {
                ready!(self.deadline.as_mut().poll(cx));
                Poll::Ready(Some(Err(deadline_exceeded())))
            }
            frame => frame,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }
}
