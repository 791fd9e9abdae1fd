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

/// A pause after an accept that failed for want of something, such as file descriptors, unless a connection ends sooner.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Between two log lines about connections that were not served: their number is the attacker's choice.
const NOT_SERVED_LOG_INTERVAL: Duration = Duration::from_secs(1);

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
    let (mut turned_away, mut not_accepted) = (Seldom::default(), Seldom::default());
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
                Err(_) => {
                    if let Some(closed) = turned_away.is_due() {
                        tracing::warn!(max = limits.connections_max, closed, "too many connections; closed new ones");
                    }
                }
            },
            Err(cause) if is_shortage(&cause) => {
                if let Some(failed) = not_accepted.is_due() {
                    tracing::warn!(%cause, failed, "a connection could not be accepted");
                }
                // One that ends leaves what was wanted; so those who went while they waited are got through quickly.
                tokio::select! {
                    Some(_) = connections.join_next() => {}
                    () = time::sleep(ACCEPT_PAUSE) => {}
                }
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

/// Counts what is logged once in a while.
#[derive(Default)]
struct Seldom {
    times: u64,
    logged: Option<time::Instant>,
}

impl Seldom {
    /// Counts one more; the number of them since the last log line when it is time for the next.
    fn is_due(&mut self) -> Option<u64> {
        self.times += 1;
        let is_due = self.logged.is_none_or(|logged| logged.elapsed() >= NOT_SERVED_LOG_INTERVAL);
        is_due.then(|| {
            self.logged = Some(time::Instant::now());
            std::mem::take(&mut self.times)
        })
    }
}
