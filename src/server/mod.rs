//! Sockets. Knows nothing about users: it would serve any tower service.
//!
//! One accept loop for every door, over TCP and Unix sockets, HTTP/1.1 and HTTP/2 without TLS. Connections are
//! counted and bounded; a failing accept is waited out, never the end (CVE-2024-47609). How one connection lives is
//! `connection.rs`, what its peer may cost `guarded.rs`, how all of them end `drain.rs`.

mod connection;
mod drain;
mod frames;
mod guarded;
mod in_flight;
mod listener;

use std::{convert::Infallible, io, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use rustix::io::Errno;
use tokio::{sync::Semaphore, task::JoinSet, time};
use tower::Service;

pub use self::{
    drain::{Drain, Draining},
    listener::{Access, Address, BindError, Listener},
};

/// A pause after an accept that failed for want of something, such as file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Between two log lines about connections that were turned away: their number is the attacker's choice.
const TURNED_AWAY_LOG_INTERVAL: Duration = Duration::from_secs(1);

/// What a listener allows.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Connections at once; more are closed as soon as they are accepted.
    pub connections_max: usize,
    /// Time for the first bytes; on HTTP/1 also for the head of each request, the wait for it included.
    pub handshake: Duration,
    /// A connection whose peer took nothing of something for one to two times this is cut.
    pub untaken: Duration,
    /// An HTTP/2 connection without a request is closed after one to two times this.
    pub idle: Duration,
    /// A connection is asked to go (GOAWAY) at this age, give or take a tenth, so that clients spread over new nodes.
    pub age: Duration,
    /// Time for requests in flight after the connection was asked to go; then it is cut.
    pub grace: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections_max: 10_000,
            handshake: Duration::from_secs(10),
            untaken: Duration::from_secs(10),
            idle: Duration::from_secs(300),
            age: Duration::from_secs(1_800),
            grace: Duration::from_secs(30),
        }
    }
}

/// Serves `service` on `listener` until the drain begins and every connection has ended.
///
/// Dropping the future cuts what is left.
pub async fn serve<S, B>(listener: Listener, service: S, limits: Limits, draining: Draining)
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send + 'static,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let mut connections = JoinSet::new();
    let mut turned_away = TurnedAway::default();
    let room = Arc::new(Semaphore::new(limits.connections_max));
    loop {
        let accepted = tokio::select! {
            () = draining.begun() => break,
            accepted = listener.accept() => accepted,
            // Reaps what has ended, so that the set holds living connections only.
            Some(_) = connections.join_next() => continue,
        };
        match accepted {
            Ok((stream, peer)) => match room.clone().try_acquire_owned() {
                Ok(permit) => {
                    let served = connection::serve(stream, peer, service.clone(), limits, draining.clone());
                    connections.spawn(async move {
                        served.await;
                        drop(permit);
                    });
                }
                // Closed at once: an honest caller tries another node instead of waiting in a line without end.
                Err(_) => turned_away.add(limits.connections_max),
            },
            Err(cause) if is_shortage(&cause) => {
                tracing::warn!(%cause, "a connection could not be accepted");
                time::sleep(ACCEPT_PAUSE).await;
            }
            // The peer's own affair: it was gone before it was accepted.
            Err(cause) => tracing::debug!(%cause, "a connection could not be accepted"),
        }
    }
    drop(listener);
    tracing::debug!(connections = connections.len(), "draining");
    while connections.join_next().await.is_some() {}
}

/// Whether this process or machine lacks what an accept needs; the next one would fail too.
fn is_shortage(cause: &io::Error) -> bool {
    let shortages = [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM];
    Errno::from_io_error(cause).is_some_and(|errno| shortages.contains(&errno))
}

/// Connections that found no room, counted until the next log line.
#[derive(Default)]
struct TurnedAway {
    connections: u64,
    logged: Option<time::Instant>,
}

impl TurnedAway {
    fn add(&mut self, max: usize) {
        self.connections += 1;
        if self.logged.is_none_or(|logged| logged.elapsed() >= TURNED_AWAY_LOG_INTERVAL) {
            tracing::warn!(max, closed = self.connections, "too many connections; closed new ones");
            *self = Self { connections: 0, logged: Some(time::Instant::now()) };
        }
    }
}
