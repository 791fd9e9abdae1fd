//! One connection's life: its protocol's limits, and the five ways in which it ends.
//!
//! The other side closes it or breaks the rules; it does not take its answers; it is idle; it is old; the node drains. The
//! last three ask first (GOAWAY, or `connection: close`) and cut after a grace, so that no request in flight is lost to
//! politeness without end.

use std::{convert::Infallible, time::Duration};

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

use super::{Draining, Limits, guarded::Guarded, in_flight::InFlight, listener::Stream};
use crate::{common::jitter::jittered, domain::Peer};

/// Requests at once on one connection.
const STREAMS_MAX: u32 = 128;

/// Bytes of a request's headers.
const HEADER_BYTES_MAX: u32 = 16 * 1024;

/// Bytes that a peer may send ahead of our reading, on one stream and on all of a connection: no message is larger
/// than the first, and the second bounds what a crowd of stalled peers can make us keep.
const STREAM_WINDOW_BYTES: u32 = 64 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 256 * 1024;

/// How often a silent HTTP/2 peer is asked whether it is there, and how long it may take to say so.
const PING_INTERVAL: Duration = Duration::from_secs(30);
const PING_TIMEOUT: Duration = Duration::from_secs(20);

/// Serves one connection until it ends.
pub(super) async fn serve<S, B>(stream: Stream, peer: Peer, service: S, limits: Limits, draining: Draining)
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send + 'static,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let requests = InFlight::default();
    let counted = requests.clone();
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(peer);
        let (service, guard) = (service.clone(), counted.enter());
        async move {
            let response = service.oneshot(request).await?;
            Ok::<_, Infallible>(response.map(|body| guard.until_the_end_of(body)))
        }
    });
    let builder = protocol(&limits);
    let io = TokioIo::new(Guarded::new(stream, limits.handshake, requests.clone()));
    let connection = builder.serve_connection(io, service);
    pin!(connection);

    tokio::select! {
        ended = connection.as_mut() => return log(ended),
        () = requests.untaken_for(limits.untaken) => {
            return tracing::debug!("a connection did not take its answers and was cut");
        }
        () = draining.begun() => {}
        () = requests.idle_for(limits.idle) => {}
        () = time::sleep(spread_age(limits.age)) => {}
    }
    connection.as_mut().graceful_shutdown();
    match time::timeout(limits.grace, connection).await {
        Ok(ended) => log(ended),
        Err(_) => tracing::debug!("a connection did not end in time and was cut"),
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

/// Whatever went wrong, it went wrong on the other side: garbage, a reset, silence.
fn log(ended: Result<(), Box<dyn std::error::Error + Send + Sync>>) {
    if let Err(cause) = ended {
        tracing::debug!(cause, "a connection ended badly");
    }
}

/// `age`, up to a tenth shorter or longer, so that connections that came together do not leave together.
fn spread_age(age: Duration) -> Duration {
    let mut byte = [0];
    // Without randomness all connections have the same age.
    let random = if getrandom::fill(&mut byte).is_ok() { byte[0] } else { 127 };
    jittered(age * 9 / 10, age / 5, random)
}
