//! The one thread that writes: takes all that waits and makes it one commit.
//!
//! Nobody is answered before the commit that holds his change is durable. When a commit fails nobody knows what of it
//! is on the disk: everyone in it is told so, the store is failed, and later writes were not executed.

use std::{sync::Arc, thread};

use redb::{Database, ReadableTable, Table};
use tokio::sync::{mpsc, oneshot, watch};

use super::{IDS, USERS, guarded};
use crate::domain::{Pulse, StoreError};

/// Changes in one commit at most; bounds how long the first of them waits for the last.
const COMMIT_CHANGES_MAX: usize = 256;

/// A change, and who waits for it.
pub(super) struct Write {
    pub(super) change: Change,
    pub(super) answer: oneshot::Sender<Result<Outcome, StoreError>>,
}

/// What to change. Each is decided by one document alone.
pub(super) enum Change {
    /// Stores a new user, unless the name is taken.
    Claim { username: Box<str>, id: String, document: Vec<u8> },
    /// Stores the document, if the present one is `seen`.
    Replace { username: Box<str>, seen: Box<[u8]>, document: Vec<u8> },
}

/// What became of a change.
pub(super) enum Outcome {
    Done,
    /// Not as asked; the present document, empty when there is none.
    Refused(Vec<u8>),
}

/// Starts the writer. It ends when every sender is gone, and then says true.
pub(super) fn start(
    database: Arc<Database>,
    mut waiting: mpsc::Receiver<Write>,
    pulse: watch::Sender<Pulse>,
) -> watch::Receiver<bool> {
    let (end, ended) = watch::channel(false);
    thread::Builder::new()
        .name("store-writer".into())
        .spawn(move || {
            run(&database, &mut waiting, &pulse);
            // The database is let go before anybody hears that it is.
            drop(database);
            end.send_replace(true);
        })
        .expect("a machine that cannot start a thread cannot serve");
    ended
}

fn run(database: &Database, waiting: &mut mpsc::Receiver<Write>, pulse: &watch::Sender<Pulse>) {
    let mut batch = Vec::new();
    while let Some(first) = waiting.blocking_recv() {
        batch.push(first);
        while batch.len() < COMMIT_CHANGES_MAX
            && let Ok(next) = waiting.try_recv()
        {
            batch.push(next);
        }
        if *pulse.borrow() == Pulse::Failed {
            answer_all(batch.drain(..).map(|write| write.answer), || Err(StoreError::Unavailable));
            continue;
        }
        let (answers, changes): (Vec<_>, Vec<_>) = batch.drain(..).map(|write| (write.answer, write.change)).unzip();
        match guarded(|| commit(database, &changes)) {
            Ok(outcomes) => {
                for (answer, outcome) in answers.into_iter().zip(outcomes) {
                    // The caller may have gone meanwhile; the change stands.
                    drop(answer.send(Ok(outcome)));
                }
            }
            Err(cause) => {
                tracing::error!(%cause, changes = changes.len(), "a commit failed; the store takes no more writes");
                pulse.send_replace(Pulse::Failed);
                answer_all(answers.into_iter(), || Err(StoreError::OutcomeUnknown));
            }
        }
    }
}

fn answer_all(
    answers: impl Iterator<Item = oneshot::Sender<Result<Outcome, StoreError>>>,
    result: impl Fn() -> Result<Outcome, StoreError>,
) {
    for answer in answers {
        drop(answer.send(result()));
    }
}

fn commit(database: &Database, changes: &[Change]) -> Result<Vec<Outcome>, redb::Error> {
    let mut transaction = database.begin_write()?;
    // Implies two-phase commit: the bytes that attackers choose cannot fool the recovery's checksums.
    transaction.set_quick_repair(true);
    let outcomes = {
        let mut users = transaction.open_table(USERS)?;
        let mut ids = transaction.open_table(IDS)?;
        changes.iter().map(|change| apply(change, &mut users, &mut ids)).collect::<Result<Vec<_>, _>>()?
    };
    if outcomes.iter().any(|outcome| matches!(outcome, Outcome::Done)) {
        transaction.commit()?;
    } else {
        transaction.abort()?;
    }
    Ok(outcomes)
}

fn apply(
    change: &Change,
    users: &mut Table<'_, &str, &[u8]>,
    ids: &mut Table<'_, &str, &str>,
) -> Result<Outcome, redb::Error> {
    match change {
        Change::Claim { username, id, document } => {
            if let Some(existing) = users.get(&**username)? {
                return Ok(Outcome::Refused(existing.value().to_vec()));
            }
            ids.insert(id.as_str(), &**username)?;
            users.insert(&**username, document.as_slice())?;
        }
        Change::Replace { username, seen, document } => {
            let present = users.get(&**username)?.map(|present| present.value().to_vec()).unwrap_or_default();
            if present != **seen {
                return Ok(Outcome::Refused(present));
            }
            users.insert(&**username, document.as_slice())?;
        }
    }
    Ok(Outcome::Done)
}
