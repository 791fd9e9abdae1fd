//! What is under way on one connection: requests until the end of their answers, and bytes that its peer has yet to take.
//!
//! A peer that closes its window, or reads nothing at all, makes us keep its answers (CVE-2019-9511, CVE-2019-9517): a
//! peer that took nothing of what has waited for it for a while is not worth its memory.

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

/// One connection's counts.
#[derive(Debug, Clone, Default)]
pub(super) struct InFlight(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    now: AtomicUsize,
    begun: AtomicUsize,
    /// Pieces that wait for the peer, by the half of the time in which they began to; and the present half, 0 or 1.
    untaken: [AtomicUsize; 2],
    half: AtomicUsize,
}

/// One request; dropped at the end of its answer.
pub(super) struct Guard(InFlight);

/// Something that waits for the peer to take it.
#[derive(Debug)]
pub(super) struct Untaken {
    counts: Arc<Counts>,
    half: usize,
}

/// A piece of an answer: waits until it is written, wherever hyper and h2 keep it meanwhile.
struct Piece {
    bytes: Bytes,
    _untaken: Untaken,
}

// === impl InFlight ===

impl InFlight {
    pub(super) fn enter(&self) -> Guard {
        self.0.now.fetch_add(1, Relaxed);
        self.0.begun.fetch_add(1, Relaxed);
        Guard(self.clone())
    }

    /// Requests that have begun so far.
    pub(super) fn begun(&self) -> usize {
        self.0.begun.load(Relaxed)
    }

    pub(super) fn untaken(&self) -> Untaken {
        let half = self.0.half.load(Relaxed);
        self.0.untaken[half].fetch_add(1, Relaxed);
        Untaken { counts: self.0.clone(), half }
    }

    /// Waits until nothing was in flight and nothing began for `limit`.
    pub(super) async fn idle_for(&self, limit: Duration) {
        let mut begun_before = None;
        loop {
            let begun = self.begun();
            let idle = self.0.now.load(Relaxed) == 0;
            if idle && begun_before == Some(begun) {
                return;
            }
            begun_before = idle.then_some(begun);
            time::sleep(limit).await;
        }
    }

    /// Waits until something was not taken for one to two times `limit`.
    pub(super) async fn untaken_for(&self, limit: Duration) {
        loop {
            time::sleep(limit).await;
            // What is left of the half that begins anew has waited through all of the other.
            let half = 1 - self.0.half.load(Relaxed);
            self.0.half.store(half, Relaxed);
            if self.0.untaken[half].load(Relaxed) > 0 {
                return;
            }
        }
    }
}

// === impl Guard ===

impl Guard {
    pub(super) fn until_the_end_of<B: Body<Data = Bytes>>(
        self,
        body: B,
    ) -> MapFrame<B, impl FnMut(Frame<Bytes>) -> Frame<Bytes>> {
        // The body owns the closure, and the closure the guard.
        body.map_frame(move |frame| {
            frame.map_data(|bytes| Bytes::from_owner(Piece { bytes, _untaken: self.0.untaken() }))
        })
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.0.now.fetch_sub(1, Relaxed);
    }
}

impl AsRef<[u8]> for Piece {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Untaken {
    fn drop(&mut self) {
        self.counts.untaken[self.half].fetch_sub(1, Relaxed);
    }
}
