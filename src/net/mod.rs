//! Sockets and connections: one accept loop for every listener, over TCP and Unix sockets, HTTP/1.1 and HTTP/2 without TLS.
//!
//! Guarantees that the number of connections is bounded, that a failing accept is retried and never ends the listener
//! (CVE-2024-47609), and that each connection ends (`connection.rs`), whatever its peer sends or does not read
//! (`limited_stream.rs`). A connection with many refused calls is read slower (`refusals.rs`). `drain.rs` ends all connections.
//! Does not know accounts or protocols above HTTP: it serves any tower service.

mod activity;
mod address;
mod connection;
mod drain;
mod frame_flood;
mod limited_stream;
mod listener;
mod log_limit;
mod refusals;
mod socket_stream;

use std::{convert::Infallible, io, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use rustix::io::Errno;
use tokio::{sync::Semaphore, task::JoinSet, time};
use tower::Service;

pub use self::{
    address::Address,
    drain::{Drain, Draining},
    listener::{Access, BindError, Listener},
};
use self::{log_limit::RateLimitedLog, refusals::ListenerRefusals};
use crate::common::host;

/// The pause after an accept that failed because a resource was exhausted, such as file descriptors. Ends early when a
/// connection ends.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// The time between two log lines about connections that were not served. An attacker controls their number.
const NOT_SERVED_LOG_INTERVAL: Duration = Duration::from_secs(1);

/// Refused calls per second on one connection, for each core. All connections together may have five times as many: at 25 µs
/// each they use a sixteenth of the cores.
const REFUSALS_PER_SECOND_AND_CORE: u32 = 500;

/// The limits of a listener and its connections.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Concurrent connections. More are closed as soon as they are accepted.
    pub connections_max: usize,
    /// Time for the first bytes. On HTTP/1 also for the headers of each request, including the wait for it.
    pub handshake: Duration,
    /// A connection with a write that is pending for one to two times this is cut.
    pub write_stall: Duration,
    /// An HTTP/2 connection without a request is closed after one to two times this.
    pub idle: Duration,
    /// The peer is asked to close (GOAWAY) at this age, plus or minus a tenth, so that clients spread over new nodes.
    pub age: Duration,
    /// Time for requests in flight after the peer was asked to close. Then the connection is cut.
    pub grace: Duration,
    /// Refused calls per second on one connection, and as many at once. With more it is read slower. If more than five
    /// connections have refused calls, they share the rate of five, down to a tenth of this each.
    pub refusals_per_second: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections_max: 10_000,
            handshake: Duration::from_secs(10),
            write_stall: Duration::from_secs(10),
            idle: Duration::from_secs(300),
            age: Duration::from_secs(1_800),
            grace: Duration::from_secs(30),
            refusals_per_second: u32::try_from(host::cores()).unwrap_or(1) * REFUSALS_PER_SECOND_AND_CORE,
        }
    }
}

/// Serves `service` on `listener` until the drain begins and every connection has ended.
///
/// Dropping the future cuts the connections that are left.
pub async fn serve<S, B>(listener: Listener, service: S, limits: Limits, draining: Draining)
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send + 'static,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let mut connections = JoinSet::new();
    let new_log = || RateLimitedLog::new(NOT_SERVED_LOG_INTERVAL);
    let (mut over_limit_log, mut accept_error_log) = (new_log(), new_log());
    let permits = Arc::new(Semaphore::new(limits.connections_max));
    let refusals = ListenerRefusals::new(limits.refusals_per_second, time::Instant::now());
    loop {
        let accepted = tokio::select! {
            () = draining.begun() => break,
            accepted = listener.accept() => accepted,
            // Removes ended connections from the set.
            Some(_) = connections.join_next() => continue,
        };
        match accepted {
            Ok((stream, peer)) => match permits.clone().try_acquire_owned() {
                Ok(permit) => {
                    let refusals = refusals.connection(time::Instant::now());
                    let served = connection::serve(stream, peer, service.clone(), limits, refusals, draining.clone());
                    connections.spawn(async move {
                        served.await;
                        drop(permit);
                    });
                }
                // Closed at once, so that a client connects to another node instead of waiting.
                Err(_) => {
                    if let Some(closed) = over_limit_log.count() {
                        tracing::warn!(
                            max = limits.connections_max,
                            closed,
                            "too many connections; new ones were closed"
                        );
                    }
                }
            },
            Err(cause) if is_exhausted(&cause) => {
                if let Some(failed) = accept_error_log.count() {
                    tracing::warn!(%cause, failed, "connection could not be accepted");
                }
                // A connection that ends frees the resource, so the next accept need not wait for the pause.
                tokio::select! {
                    Some(_) = connections.join_next() => {}
                    () = time::sleep(ACCEPT_PAUSE) => {}
                }
            }
            // The peer closed the connection before it was accepted.
            Err(cause) => tracing::debug!(%cause, "connection could not be accepted"),
        }
    }
    drop(listener);
    tracing::debug!(connections = connections.len(), "draining");
    while connections.join_next().await.is_some() {}
}

/// Whether the process or host has exhausted a resource, so that the next accept would fail too.
fn is_exhausted(cause: &io::Error) -> bool {
    let exhausted = [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM];
    Errno::from_io_error(cause).is_some_and(|errno| exhausted.contains(&errno))
}
