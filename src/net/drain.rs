//! Ends all connections in step: one side says so, the other hears it.

use tokio::sync::watch;

/// Begins the drain.
#[derive(Debug)]
pub struct Drain(watch::Sender<bool>);

/// Hears that the drain began.
#[derive(Debug, Clone)]
pub struct Draining(watch::Receiver<bool>);

impl Drain {
    /// Makes both sides.
    pub fn new() -> (Drain, Draining) {
        let (begin, begun) = watch::channel(false);
        (Drain(begin), Draining(begun))
    }

    /// From now on nobody is accepted and connections are asked to go.
    pub fn begin(&self) {
        self.0.send_replace(true);
    }
}

impl Draining {
    /// Waits until the drain begins.
    pub async fn begun(&self) {
        // A drain that can no longer begin has begun: whoever could say so is gone.
        drop(self.0.clone().wait_for(|begun| *begun).await);
    }
}
