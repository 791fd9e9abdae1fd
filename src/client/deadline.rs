//! Gives every call a deadline, and holds the answer to it.
//!
//! tonic alone looks at the time until an answer's head is there, and calls what is late CANCELLED. Here the body counts
//! too, and what is late is DEADLINE_EXCEEDED, as the server itself says it.

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

/// The longest time that the header can say in milliseconds: eight digits.
const MILLIS_MAX: u64 = 99_999_999;

/// A channel on which every call has a deadline: its own, or else the client's.
#[derive(Clone)]
pub struct Calls {
    channel: Channel,
    timeout: HeaderValue,
}

// === impl Calls ===

impl Calls {
    pub(super) fn over(channel: Channel, timeout: Duration) -> Self {
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
        // One that cannot be read is for the server to refuse.
        let timeout = timeout.to_str().ok().and_then(timeout::parse).unwrap_or(Duration::from_millis(MILLIS_MAX));
        let deadline = Instant::now() + timeout;
        let answer = self.channel.call(request);
        Box::pin(async move {
            match timeout_at(deadline, answer).await {
                Ok(Ok(answer)) => {
                    Ok(answer.map(|body| Body::new(InTime { body, ends: Box::pin(sleep_until(deadline)) })))
                }
                Ok(Err(error)) if !is_timeout(&error) => Err(error),
                Ok(Err(_)) | Err(_) => Ok(too_late().into_http()),
            }
        })
    }
}

fn too_late() -> Status {
    refusal::status(Code::DeadlineExceeded, ErrorReason::DeadlineExceeded, "the deadline passed before the answer")
}

/// tonic's own clock runs beside ours, and may be the first.
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

/// An answer's body that ends with the deadline.
struct InTime {
    body: Body,
    ends: Pin<Box<Sleep>>,
}

impl http_body::Body for InTime {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        match Pin::new(&mut self.body).poll_frame(cx) {
            Poll::Pending => {
                ready!(self.ends.as_mut().poll(cx));
                Poll::Ready(Some(Err(too_late())))
            }
            frame => frame,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }
}
