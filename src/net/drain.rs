//! The signal that begins a drain: [`Drain`] sends it, and each listener and connection waits on a [`Draining`].

use tokio::sync::watch;

/// Begins a drain.
#[derive(Debug)]
pub struct Drain(watch::Sender<bool>);

/// Waits for the drain. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Draining(watch::Receiver<bool>);

impl Drain {
    /// Creates both ends.
    pub fn new() -> (Drain, Draining) {
        let (begin, begun) = watch::channel(false);
        (Drain(begin), Draining(begun))
    }

    /// Begins the drain: no connection is accepted any more, and peers are asked to close theirs.
    pub fn begin(&self) {
        self.0.send_replace(true);
    }
}

impl Draining {
    /// Waits until the drain begins.
    pub async fn begun(&self) {
        // An error says that the `Drain` was dropped; that also begins the drain.
        drop(self.0.clone().wait_for(|begun| *begun).await);
    }
}
