//! One job at a time, for all who wait for it.
//!
//! The job is a task of its own: a caller who goes away takes nothing with him. Whoever has the flight behind a lock, looks
//! whether the job is needed and joins under that same lock, and whose job leaves its result behind that lock too, starts
//! it exactly once: a job that runs has not left its result yet.

use tokio::sync::watch;

/// The job that runs, if one does.
#[derive(Debug, Default)]
pub(super) struct Flight(Option<watch::Receiver<()>>);

/// The end of a job.
#[derive(Debug)]
pub(super) struct Landing(watch::Receiver<()>);

impl Flight {
    /// The end of the job that runs, or else of this one, which starts. Needs a tokio runtime.
    pub(super) fn join(&mut self, job: impl Future<Output = ()> + Send + 'static) -> Landing {
        if let Some(running) = self.0.as_ref().filter(|_| self.is_flying()) {
            return Landing(running.clone());
        }
        let (ends, running) = watch::channel(());
        tokio::spawn(async move {
            job.await;
            drop(ends);
        });
        self.0 = Some(running.clone());
        Landing(running)
    }

    pub(super) fn is_flying(&self) -> bool {
        // Nothing is ever sent: the channel closes when the job has ended, were it by a panic.
        self.0.as_ref().is_some_and(|running| running.has_changed().is_ok())
    }
}

impl Landing {
    pub(super) async fn wait(mut self) {
        while self.0.changed().await.is_ok() {}
    }
}
