//! The one thread that writes: it takes the changes that wait and makes them one commit.
//!
//! Each change is answered after its commit is durable, and while the files are where they were (`folder_watch.rs`). When a
//! commit fails, it is unknown what of it is on the disk: all its changes are answered with that, the store has failed, and
//! later changes are not executed. When a commit should wait for more changes is `commit_delay.rs`. Does not know what
//! documents mean.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread::{self, Thread},
};

use redb::Database;
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::Instant,
};

use super::{
    commit_delay::{COMMIT_CHANGES_MAX, CommitDelay},
    folder_watch::FolderWatch,
    guarded,
    tables::CommitTables,
};
use crate::{
    domain::{Clock, StoreError, StoreHealth},
    store::document::{Change, ChangeOutcome, DocumentKey, UnconditionalWrite, unix_millis},
};

/// Changes in the queue at most; beyond it callers wait, each within its deadline.
const CHANGES_QUEUED_MAX: usize = 1_024;

/// A change, and where its caller waits for the outcome.
pub(super) struct QueuedChange {
    pub(super) first: Vec<UnconditionalWrite>,
    pub(super) key: DocumentKey,
    pub(super) change: Change,
    pub(super) answer: oneshot::Sender<Result<ChangeOutcome, StoreError>>,
}

/// Sends changes to the writer. The writer ends when every handle is dropped.
#[derive(Clone)]
pub(super) struct WriterHandle {
    changes: mpsc::Sender<QueuedChange>,
    wake_at: Arc<WakeThreshold>,
    thread: Thread,
}

/// How many queued changes wake the sleeping writer, so that it is not woken for each of them.
struct WakeThreshold(AtomicUsize);

/// No queue reaches this.
const AWAKE: usize = usize::MAX;

/// Starts the writer. The receiver becomes true when it has ended.
pub(super) fn start(
    database: Arc<Database>,
    health: watch::Sender<StoreHealth>,
    clock: Arc<dyn Clock>,
    folder: Option<FolderWatch>,
) -> (WriterHandle, watch::Receiver<bool>) {
    let (end, ended) = watch::channel(false);
    let (changes, mut queue) = mpsc::channel(CHANGES_QUEUED_MAX);
    let wake_at = Arc::new(WakeThreshold(AtomicUsize::new(AWAKE)));
    let writer_wake_at = wake_at.clone();
    let thread = thread::Builder::new()
        .name("store-writer".into())
        .spawn(move || {
            run(&database, &mut queue, &health, &*clock, folder.as_ref(), &writer_wake_at);
            // Else it could report a folder that is removed after the end.
            drop(folder);
            // Closed before the end is reported.
            drop(database);
            end.send_replace(true);
        })
        .expect("a machine that cannot start a thread cannot serve");
    (WriterHandle { changes, wake_at, thread: thread.thread().clone() }, ended)
}

impl WriterHandle {
    /// Queues a change.
    ///
    /// # Errors
    /// The writer has ended; nothing was executed.
    pub(super) async fn send(&self, change: QueuedChange) -> Result<(), StoreError> {
        self.changes.send(change).await.map_err(|_| StoreError::Unavailable)?;
        let queued = self.changes.max_capacity() - self.changes.capacity();
        if queued >= self.wake_at.0.load(Ordering::SeqCst) {
            self.thread.unpark();
        }
        Ok(())
    }
}

impl WakeThreshold {
    /// Sleeps until so many changes are queued, or until then, which also bounds the cost of a missed wake-up.
    fn sleep(&self, queue: &mpsc::Receiver<QueuedChange>, changes: usize, until: Instant) {
        self.0.store(changes, Ordering::SeqCst);
        while queue.len() < changes && !queue.is_closed() {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            thread::park_timeout(left);
        }
        self.0.store(AWAKE, Ordering::SeqCst);
    }
}

fn run(
    database: &Database,
    queue: &mut mpsc::Receiver<QueuedChange>,
    health: &watch::Sender<StoreHealth>,
    clock: &dyn Clock,
    folder: Option<&FolderWatch>,
    wake_at: &WakeThreshold,
) {
    let mut batch = Vec::new();
    let mut delay = CommitDelay::for_this_machine();
    while let Some(first) = queue.blocking_recv() {
        batch.push(first);
        if let Some((until, changes)) = delay.next_commit() {
            wake_at.sleep(queue, changes - 1, until);
            delay.waited(batch.len() + queue.len(), changes);
        }
        while batch.len() < COMMIT_CHANGES_MAX
            && let Ok(next) = queue.try_recv()
        {
            batch.push(next);
        }
        delay.commits(batch.len());
        let is_in_place = || folder.is_none_or(FolderWatch::is_in_place);
        if *health.borrow() == StoreHealth::Failed || !is_in_place() {
            answer_all(batch.drain(..), || Err(StoreError::Unavailable));
            continue;
        }
        match guarded(|| commit(database, &batch, unix_millis(clock.now()))) {
            Ok(_) if !is_in_place() => answer_all(batch.drain(..), || Err(StoreError::OutcomeUnknown)),
            Ok(outcomes) => {
                for (change, outcome) in batch.drain(..).zip(outcomes) {
                    // The caller may have gone; the change is durable all the same.
                    drop(change.answer.send(Ok(outcome)));
                }
            }
            Err(cause) => {
                tracing::error!(%cause, changes = batch.len(), "a commit failed; the store accepts no more writes");
                health.send_replace(StoreHealth::Failed);
                answer_all(batch.drain(..), || Err(StoreError::OutcomeUnknown));
            }
        }
    }
}

fn answer_all(changes: impl Iterator<Item = QueuedChange>, result: impl Fn() -> Result<ChangeOutcome, StoreError>) {
    for change in changes {
        drop(change.answer.send(result()));
    }
}

fn commit(database: &Database, batch: &[QueuedChange], now_millis: u64) -> Result<Vec<ChangeOutcome>, redb::Error> {
    let mut transaction = database.begin_write()?;
    // Implies two-phase commit: bytes that an attacker chooses cannot mislead the recovery's checksums.
    transaction.set_quick_repair(true);
    let mut changed = false;
    let mut outcomes = Vec::with_capacity(batch.len());
    {
        let mut tables = CommitTables::open(&transaction)?;
        for QueuedChange { first, key, change, answer: _ } in batch {
            let outcome = tables.apply(first, key, change)?;
            changed |= outcome == ChangeOutcome::Done || !first.is_empty();
            outcomes.push(outcome);
        }
        changed |= tables.delete_expired(now_millis)?;
    }
    if changed {
        transaction.commit()?;
    } else {
        transaction.abort()?;
    }
    Ok(outcomes)
}
