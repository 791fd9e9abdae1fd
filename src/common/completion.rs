//! Runs work to completion although its caller has gone.
//!
//! Work that changes the store and then reports it runs in a task of its own: a client that disconnects at the right moment
//! must not cause a change that nothing reports. The number of such tasks is bounded; beyond it callers wait.

use std::sync::Arc;

use tokio::sync::Semaphore;

/// Tasks at once.
const TASKS_MAX: usize = 1_024;

/// Runs work in bounded tasks of its own.
#[derive(Clone)]
pub(crate) struct Completion(Arc<Semaphore>);

impl Completion {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Semaphore::new(TASKS_MAX)))
    }

    /// Runs `work`. Once it has begun, it ends even if this future is dropped.
    pub(crate) async fn run<T: Send + 'static>(&self, work: impl Future<Output = T> + Send + 'static) -> T {
        let permit = self.0.clone().acquire_owned().await.expect("the semaphore is never closed");
        let task = tokio::spawn(async move {
            let _permit = permit;
            work.await
        });
        // The task is never cancelled, so it can only have panicked; the panic guard of the call answers.
        task.await.unwrap_or_else(|ended| std::panic::resume_unwind(ended.into_panic()))
    }
}
