//! Serves one connection: protocol limits, timeouts, and graceful shutdown.
//!
//! A connection ends for one of five reasons: the peer closes it or violates the protocol; the peer does not read its
//! responses; it is idle; it reaches its maximum age; the node drains. In the last three cases the peer is asked to close
//! (GOAWAY, or `connection: close`), and the connection is cut after a grace period.

use std::{convert::Infallible, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
};
use tokio::{pin, time};
use tower::{Service, ServiceExt};

use super::{
    Draining, Limits, activity::ConnectionActivity, limited_stream::LimitedStream, refusals::ConnectionRefusals,
    socket_stream::SocketStream,
};
use crate::{common::jitter::jittered, domain::Peer};

/// Concurrent requests on one connection.
const STREAMS_MAX: u32 = 128;

/// Bytes of the headers of one request.
const HEADER_BYTES_MAX: u32 = 16 * 1024;

/// Flow-control windows: bytes that a peer may send before they are read, on one stream and on the connection. No message is
/// larger than the first. The second bounds the memory that stalled peers can occupy.
const STREAM_WINDOW_BYTES: u32 = 64 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 256 * 1024;

/// An idle HTTP/2 peer is pinged at this interval, and must answer within the timeout.
const PING_INTERVAL: Duration = Duration::from_secs(30);
const PING_TIMEOUT: Duration = Duration::from_secs(20);

/// Serves one connection until it ends.
pub(super) async fn serve<S, B>(
    stream: SocketStream,
    peer: Peer,
    service: S,
    limits: Limits,
    refusals: Arc<ConnectionRefusals>,
    draining: Draining,
) where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send + 'static,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let activity = ConnectionActivity::default();
    let requests = activity.clone();
    let counted = refusals.clone();
    let local = stream.local_address();
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(peer);
        if let Some(local) = local {
            request.extensions_mut().insert(local);
        }
        let (service, guard, counted) = (service.clone(), requests.begin_request(), counted.clone());
        async move {
            let response = service.oneshot(request).await?;
            counted.count(&response, time::Instant::now());
            Ok::<_, Infallible>(response.map(|body| guard.hold_until_end_of(body)))
        }
    });
    let builder = protocol(&limits);
    let io = TokioIo::new(LimitedStream::new(stream, limits.handshake, activity.clone(), refusals));
    let connection = builder.serve_connection(io, service);
    pin!(connection);

    tokio::select! {
        // In this order: GOAWAY is sent before the streams that end with the drain, or clients repeat them here.
        biased;
        () = draining.begun() => {}
        ended = connection.as_mut() => return log(ended),
        () = activity.write_stalled_for(limits.write_stall) => {
            return tracing::debug!("peer did not read its responses; connection cut");
        }
        () = activity.idle_for(limits.idle) => {}
        () = time::sleep(jittered_age(limits.age)) => {}
    }
    connection.as_mut().graceful_shutdown();
    match time::timeout(limits.grace, connection).await {
        Ok(ended) => log(ended),
        Err(_) => tracing::debug!("connection did not close within the grace period; connection cut"),
    }
}

fn protocol(limits: &Limits) -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.handshake)
        .max_buf_size(HEADER_BYTES_MAX as usize);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_MAX)
        .max_header_list_size(HEADER_BYTES_MAX)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT);
    builder
}

/// At debug level: the cause is the peer (invalid bytes, a reset, a timeout), and peers can cause any number of them.
fn log(ended: Result<(), Box<dyn std::error::Error + Send + Sync>>) {
    if let Err(cause) = ended {
        tracing::debug!(cause, "connection error");
    }
}

/// `age`, up to a tenth shorter or longer, so that connections that were opened together do not close together.
fn jittered_age(age: Duration) -> Duration {
    let mut byte = [0];
    // Without randomness all connections have the same age.
    let random = if getrandom::fill(&mut byte).is_ok() { byte[0] } else { 127 };
    jittered(age * 9 / 10, age / 5, random)
}
