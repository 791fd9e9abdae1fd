//! The one thread that writes: takes all that waits and makes it one commit.
//!
//! A commit costs the same for one change as for ten. So while changes come thick and fast a commit waits for company,
//! for a few milliseconds that nobody notices beside a hash; a lone change never waits, and one caller who makes one change
//! after the other waits only now and then, to see whether he is still alone.
//!
//! Nobody is answered before the commit that holds his change is durable. When a commit fails nobody knows what of it
//! is on the disk: everyone in it is told so, the store is failed, and later writes were not executed.

use std::{sync::Arc, thread, time::Duration};

use redb::Database;
use tokio::{
    runtime::Handle,
    sync::{mpsc, oneshot, watch},
    time::{Instant, timeout_at},
};

use super::{guarded, tables::Tables};
use crate::{
    domain::{Clock, Pulse, StoreError},
    store::documents::{Change, Key, Outcome, Put, millis},
};

/// Changes in one commit at most; bounds how long the first of them waits for the last.
const COMMIT_CHANGES_MAX: usize = 256;

/// While changes come fast, the time from one commit to the next at least.
const COMMIT_INTERVAL: Duration = Duration::from_millis(20);

/// Changes come fast when it takes less than this from one to the next, on average, divided by the cores: then commits take
/// a part of the machine that is worth a wait.
const FAST_ON_ONE_CORE: Duration = Duration::from_millis(16);

/// For how many times the average from one change to the next a commit waits for another one.
const PATIENCE_GAPS: u32 = 4;
const PATIENCE_MIN: Duration = Duration::from_millis(1);

/// Commits that do not wait after one that waited in vain.
const ALONE_FOR: u32 = 64;

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
    let runtime = Handle::current();
    thread::Builder::new()
        .name("store-writer".into())
        .spawn(move || {
            run(&database, &mut waiting, &pulse, &*clock, &runtime);
            // The database is let go before anybody hears that it is.
            drop(database);
            end.send_replace(true);
        })
        .expect("a machine that cannot start a thread cannot serve");
    ended
}

fn run(
    database: &Database,
    waiting: &mut mpsc::Receiver<Write>,
    pulse: &watch::Sender<Pulse>,
    clock: &dyn Clock,
    runtime: &Handle,
) {
    let mut batch = Vec::new();
    let mut pace = Pace::of_this_machine();
    while let Some(first) = waiting.blocking_recv() {
        batch.push(first);
        if let Some((until, patience)) = pace.wait() {
            let between = runtime.block_on(gather(&mut batch, waiting, until, patience));
            pace.waited(batch.len(), between);
        }
        while batch.len() < COMMIT_CHANGES_MAX
            && let Ok(next) = waiting.try_recv()
        {
            batch.push(next);
        }
        pace.commits(batch.len());
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

/// Adds what comes until then, and while something comes: when all who change something wait here, nobody will.
/// Answers the time from one that came to the next, on average.
async fn gather(
    batch: &mut Vec<Write>,
    waiting: &mut mpsc::Receiver<Write>,
    until: Instant,
    patience: Duration,
) -> Option<Duration> {
    let (begun, before) = (Instant::now(), batch.len());
    let mut last = begun;
    while batch.len() < COMMIT_CHANGES_MAX
        && let Ok(Some(next)) = timeout_at(until.min(last + patience), waiting.recv()).await
    {
        batch.push(next);
        last = Instant::now();
    }
    let came = u32::try_from(batch.len() - before).unwrap_or(u32::MAX);
    (came > 0).then(|| (last - begun) / came)
}

/// How fast changes come.
struct Pace {
    /// Faster than this is fast.
    fast: Duration,
    last_commit: Option<Instant>,
    /// From one change to the next, on average.
    gap: Option<Duration>,
    /// The same among those that came while a commit waited: callers who wait for their answers come right after it, and then
    /// no more.
    between: Duration,
    /// Commits that will not wait.
    alone_for: u32,
}

impl Pace {
    fn of_this_machine() -> Self {
        let cores = thread::available_parallelism().map_or(1, |cores| u32::try_from(cores.get()).unwrap_or(u32::MAX));
        Self { fast: FAST_ON_ONE_CORE / cores, last_commit: None, gap: None, between: COMMIT_INTERVAL, alone_for: 0 }
    }

    /// Until when the next commit waits for company, and for how long after the last that came.
    fn wait(&self) -> Option<(Instant, Duration)> {
        self.gap.filter(|gap| *gap < self.fast && self.alone_for == 0)?;
        Some((self.last_commit? + COMMIT_INTERVAL, (self.between * PATIENCE_GAPS).max(PATIENCE_MIN)))
    }

    /// A commit of that many changes has waited; so much time was between those that came meanwhile.
    fn waited(&mut self, changes: usize, between: Option<Duration>) {
        match between {
            Some(between) => self.between = (self.between * 3 + between) / 4,
            None if changes == 1 => self.alone_for = ALONE_FOR,
            None => {}
        }
    }

    fn commits(&mut self, changes: usize) {
        let now = Instant::now();
        self.alone_for = self.alone_for.saturating_sub(1);
        if let Some(last) = self.last_commit.replace(now) {
            let gap = (now - last) / u32::try_from(changes).unwrap_or(u32::MAX);
            self.gap = Some(self.gap.map_or(gap, |average| (average * 3 + gap) / 4));
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
