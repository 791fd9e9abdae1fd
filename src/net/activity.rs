//! The activity of one connection: requests in flight, and writes that wait for the peer to read.
//!
//! A peer that closes its flow-control window or does not read makes the node keep its responses in memory (CVE-2019-9511,
//! CVE-2019-9517). A write that waits longer than a limit ends the connection.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use bytes::Bytes;
use http_body::{Body, Frame};
use http_body_util::{BodyExt, combinators::MapFrame};
use tokio::time;

/// The activity of one connection. Clones share it.
#[derive(Debug, Clone, Default)]
pub(super) struct ConnectionActivity(Arc<ActivityCounts>);

#[derive(Debug, Default)]
struct ActivityCounts {
    requests_in_flight: AtomicUsize,
    requests_begun: AtomicUsize,
    /// Pending writes by the period in which they began: two periods alternate.
    pending_writes: [AtomicUsize; 2],
    /// The current period, 0 or 1.
    period: AtomicUsize,
}

/// One request in flight. Dropped at the end of its response.
pub(super) struct RequestGuard(ConnectionActivity);

/// A write that waits for the peer to read. Dropped when the bytes are written.
#[derive(Debug)]
pub(super) struct PendingWrite {
    counts: Arc<ActivityCounts>,
    period: usize,
}

/// A part of a response body. It is pending until hyper and h2 have written and dropped it.
struct PendingBytes {
    bytes: Bytes,
    _pending: PendingWrite,
}

// === impl ConnectionActivity ===

impl ConnectionActivity {
    pub(super) fn begin_request(&self) -> RequestGuard {
        self.0.requests_in_flight.fetch_add(1, Relaxed);
        self.0.requests_begun.fetch_add(1, Relaxed);
        RequestGuard(self.clone())
    }

    /// Requests that have begun so far.
    pub(super) fn requests_begun(&self) -> usize {
        self.0.requests_begun.load(Relaxed)
    }

    pub(super) fn pending_write(&self) -> PendingWrite {
        let period = self.0.period.load(Relaxed);
        self.0.pending_writes[period].fetch_add(1, Relaxed);
        PendingWrite { counts: self.0.clone(), period }
    }

    /// Waits until no request was in flight and none began for `limit`.
    pub(super) async fn idle_for(&self, limit: Duration) {
        let mut begun_before = None;
        loop {
            let begun = self.requests_begun();
            let idle = self.0.requests_in_flight.load(Relaxed) == 0;
            if idle && begun_before == Some(begun) {
                return;
            }
            begun_before = idle.then_some(begun);
            time::sleep(limit).await;
        }
    }

    /// Waits until a write was pending for one to two times `limit`.
    pub(super) async fn write_stalled_for(&self, limit: Duration) {
        loop {
            time::sleep(limit).await;
            // Writes that are left from the previous use of this period have waited through all of the other period.
            let period = 1 - self.0.period.load(Relaxed);
            self.0.period.store(period, Relaxed);
            if self.0.pending_writes[period].load(Relaxed) > 0 {
                return;
            }
        }
    }
}

// === impl RequestGuard ===

impl RequestGuard {
    /// Keeps the request in flight until `body` ends, and counts its parts as pending writes.
    pub(super) fn hold_until_end_of<B: Body<Data = Bytes>>(
        self,
        body: B,
    ) -> MapFrame<B, impl FnMut(Frame<Bytes>) -> Frame<Bytes>> {
        // The body owns the closure, and the closure owns the guard.
        body.map_frame(move |frame| {
            frame.map_data(|bytes| Bytes::from_owner(PendingBytes { bytes, _pending: self.0.pending_write() }))
        })
    }
}

impl Drop for RequestGuard {
    fn drop(&mut self) {
        self.0.0.requests_in_flight.fetch_sub(1, Relaxed);
    }
}

impl AsRef<[u8]> for PendingBytes {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for PendingWrite {
    fn drop(&mut self) {
        self.counts.pending_writes[self.period].fetch_sub(1, Relaxed);
    }
}
