//! The one thread that writes: takes all that waits and makes it one commit.
//!
//! Nobody is answered before the commit that holds his change is durable. When a commit fails nobody knows what of it
//! is on the disk: everyone in it is told so, the store is failed, and later writes were not executed.

use std::{sync::Arc, thread};

use redb::Database;
use tokio::sync::{mpsc, oneshot, watch};

use super::{guarded, millis, tables::Tables};
use crate::{
    domain::{Clock, Pulse, StoreError},
    store::documents::{Change, Key, Outcome, Put},
};

/// Changes in one commit at most; bounds how long the first of them waits for the last.
const COMMIT_CHANGES_MAX: usize = 256;

type Answer = oneshot::Sender<Result<Outcome, StoreError>>;

/// A change, and who waits for it.
pub(super) struct Write {
    pub(super) first: Vec<Put>,
    pub(super) key: Key,
    pub(super) change: Change,
    pub(super) answer: Answer,
}

/// Starts the writer. It ends when every sender is gone, and then says true.
pub(super) fn start(
    database: Arc<Database>,
    mut waiting: mpsc::Receiver<Write>,
    pulse: watch::Sender<Pulse>,
    clock: Arc<dyn Clock>,
) -> watch::Receiver<bool> {
    let (end, ended) = watch::channel(false);
    thread::Builder::new()
        .name("store-writer".into())
        .spawn(move || {
            run(&database, &mut waiting, &pulse, &*clock);
            // The database is let go before anybody hears that it is.
            drop(database);
            end.send_replace(true);
        })
        .expect("a machine that cannot start a thread cannot serve");
    ended
}

fn run(database: &Database, waiting: &mut mpsc::Receiver<Write>, pulse: &watch::Sender<Pulse>, clock: &dyn Clock) {
    let mut batch = Vec::new();
    while let Some(first) = waiting.blocking_recv() {
        batch.push(first);
        while batch.len() < COMMIT_CHANGES_MAX
            && let Ok(next) = waiting.try_recv()
        {
            batch.push(next);
        }
        if *pulse.borrow() == Pulse::Failed {
            answer_all(batch.drain(..), || Err(StoreError::Unavailable));
            continue;
        }
        match guarded(|| commit(database, &batch, millis(clock.now()))) {
            Ok(outcomes) => {
                for (write, outcome) in batch.drain(..).zip(outcomes) {
                    // The caller may have gone meanwhile; the change stands.
                    drop(write.answer.send(Ok(outcome)));
                }
            }
            Err(cause) => {
                tracing::error!(%cause, changes = batch.len(), "a commit failed; the store takes no more writes");
                pulse.send_replace(Pulse::Failed);
                answer_all(batch.drain(..), || Err(StoreError::OutcomeUnknown));
            }
        }
    }
}

fn answer_all(writes: impl Iterator<Item = Write>, result: impl Fn() -> Result<Outcome, StoreError>) {
    for write in writes {
        drop(write.answer.send(result()));
    }
}

fn commit(database: &Database, batch: &[Write], now_millis: u64) -> Result<Vec<Outcome>, redb::Error> {
    let mut transaction = database.begin_write()?;
    // Implies two-phase commit: the bytes that attackers choose cannot fool the recovery's checksums.
    transaction.set_quick_repair(true);
    let mut changed = false;
    let mut outcomes = Vec::with_capacity(batch.len());
    {
        let mut tables = Tables::open(&transaction)?;
        for write in batch {
            let outcome = tables.apply(&write.first, &write.key, &write.change)?;
            changed |= outcome == Outcome::Done || !write.first.is_empty();
            outcomes.push(outcome);
        }
        changed |= tables.forget(now_millis)?;
    }
    if changed {
        transaction.commit()?;
    } else {
        transaction.abort()?;
    }
    Ok(outcomes)
}
