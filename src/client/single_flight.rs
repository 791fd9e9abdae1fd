//! Runs one job at a time, for all callers that wait for it.
//!
//! The job runs in its own task and runs to completion although its callers have gone. It is started exactly once if three
//! things happen under the same lock: the owner checks whether the job is needed, the owner joins, and the job stores its
//! result.

use tokio::sync::watch;

/// The job that is running, if any.
#[derive(Debug, Default)]
pub(super) struct SingleFlight(Option<watch::Receiver<()>>);

/// Waits for the end of a job.
#[derive(Debug)]
pub(super) struct FlightEnd(watch::Receiver<()>);

impl SingleFlight {
    /// Joins the running job, or starts this one. Needs a tokio runtime.
    pub(super) fn join(&mut self, job: impl Future<Output = ()> + Send + 'static) -> FlightEnd {
        if let Some(running) = self.running() {
            return running;
        }
        let (ends, running) = watch::channel(());
        tokio::spawn(async move {
            job.await;
            drop(ends);
        });
        self.0 = Some(running.clone());
        FlightEnd(running)
    }

    /// The end of the running job. A job can end at any time, so ask once and use the answer.
    pub(super) fn running(&self) -> Option<FlightEnd> {
        // Nothing is sent: the channel closes when the job ends, also by a panic.
        let running = self.0.as_ref().filter(|running| running.has_changed().is_ok());
        running.cloned().map(FlightEnd)
    }
}

impl FlightEnd {
    pub(super) async fn wait(mut self) {
        while self.0.changed().await.is_ok() {}
    }
}
