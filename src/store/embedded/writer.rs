//! The one thread that writes: takes all that waits and makes it one commit.
//!
//! A commit costs the same for one change as for ten. So while changes come thick and fast a commit waits for company,
//! until 30 ms after the last one at most, and no longer than until all have come who do: callers who make one change
//! after the other wait in vain only now and then. While changes come seldom none waits.
//!
//! Nobody is answered before the commit that holds his change is durable. When a commit fails nobody knows what of it
//! is on the disk: everyone in it is told so, the store is failed, and later writes were not executed.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread::{self, Thread},
    time::Duration,
};

use redb::Database;
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::Instant,
};

use super::{guarded, tables::Tables};
use crate::{
    domain::{Clock, StoreError, StoreHealth},
    store::document_store::{Change, Key, Outcome, Put, millis},
};

/// Changes that may wait for the writer; beyond it callers wait, each within its deadline.
const WRITES_WAITING_MAX: usize = 1_024;

/// Changes in one commit at most; bounds how long the first of them waits for the last.
const COMMIT_CHANGES_MAX: usize = 256;

/// While changes come fast, the time from one commit to the next at least.
const COMMIT_INTERVAL: Duration = Duration::from_millis(30);

/// Changes come fast when it takes less than this from one to the next, on average, divided by the cores: then commits take
/// a part of the machine that is worth a wait.
const FAST_ON_ONE_CORE: Duration = Duration::from_millis(16);

/// Of so many commits one waits its whole time, to see how many come in it; the others wait for as many as that.
const LOOK_EVERY: u32 = 32;

type Answer = oneshot::Sender<Result<Outcome, StoreError>>;

/// A change, and who waits for it.
pub(super) struct Write {
    pub(super) first: Vec<Put>,
    pub(super) key: Key,
    pub(super) change: Change,
    pub(super) answer: Answer,
}

/// The way to the writer; the writer ends when every copy of it is gone.
#[derive(Clone)]
pub(super) struct Writer {
    writes: mpsc::Sender<Write>,
    doze: Arc<Doze>,
    thread: Thread,
}

/// A writer that sleeps until there is company, or for so long. It is not woken for each of those who come.
struct Doze {
    /// How many it sleeps for; nobody can be so many when it does not sleep.
    company: AtomicUsize,
}

const AWAKE: usize = usize::MAX;

/// Starts the writer. When it has ended it says true.
pub(super) fn start(
    database: Arc<Database>,
    pulse: watch::Sender<StoreHealth>,
    clock: Arc<dyn Clock>,
) -> (Writer, watch::Receiver<bool>) {
    let (end, ended) = watch::channel(false);
    let (writes, mut waiting) = mpsc::channel(WRITES_WAITING_MAX);
    let doze = Arc::new(Doze { company: AtomicUsize::new(AWAKE) });
    let dozing = doze.clone();
    let thread = thread::Builder::new()
        .name("store-writer".into())
        .spawn(move || {
            run(&database, &mut waiting, &pulse, &*clock, &dozing);
            // The database is let go before anybody hears that it is.
            drop(database);
            end.send_replace(true);
        })
        .expect("a machine that cannot start a thread cannot serve");
    (Writer { writes, doze, thread: thread.thread().clone() }, ended)
}

impl Writer {
    /// Hands a change over.
    ///
    /// # Errors
    /// The writer is gone; nothing was executed.
    pub(super) async fn send(&self, write: Write) -> Result<(), StoreError> {
        self.writes.send(write).await.map_err(|_| StoreError::Unavailable)?;
        let waiting = self.writes.max_capacity() - self.writes.capacity();
        if waiting >= self.doze.company.load(Ordering::SeqCst) {
            self.thread.unpark();
        }
        Ok(())
    }
}

impl Doze {
    /// Sleeps until so many wait, or until then; that also bounds what a wake-up costs that somebody missed.
    fn sleep(&self, waiting: &mpsc::Receiver<Write>, company: usize, until: Instant) {
        self.company.store(company, Ordering::SeqCst);
        while waiting.len() < company && !waiting.is_closed() {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            thread::park_timeout(left);
        }
        self.company.store(AWAKE, Ordering::SeqCst);
    }
}

fn run(
    database: &Database,
    waiting: &mut mpsc::Receiver<Write>,
    pulse: &watch::Sender<StoreHealth>,
    clock: &dyn Clock,
    doze: &Doze,
) {
    let mut batch = Vec::new();
    let mut pace = Pace::of_this_machine();
    while let Some(first) = waiting.blocking_recv() {
        batch.push(first);
        if let Some((until, company)) = pace.wait() {
            doze.sleep(waiting, company - 1, until);
            pace.waited(batch.len() + waiting.len(), company);
        }
        while batch.len() < COMMIT_CHANGES_MAX
            && let Ok(next) = waiting.try_recv()
        {
            batch.push(next);
        }
        pace.commits(batch.len());
        if *pulse.borrow() == StoreHealth::Failed {
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
                pulse.send_replace(StoreHealth::Failed);
                answer_all(batch.drain(..), || Err(StoreError::OutcomeUnknown));
            }
        }
    }
}

/// How fast changes come.
struct Pace {
    /// Faster than this is fast.
    fast: Duration,
    last_commit: Option<Instant>,
    /// From one change to the next, on average.
    gap: Option<Duration>,
    /// How many came while a commit waited its whole time: when all who change something wait already, nobody will come.
    company: usize,
    /// Commits until the next that waits its whole time.
    look_in: u32,
}

impl Pace {
    fn of_this_machine() -> Self {
        let cores = thread::available_parallelism().map_or(1, |cores| u32::try_from(cores.get()).unwrap_or(u32::MAX));
        Self { fast: FAST_ON_ONE_CORE / cores, last_commit: None, gap: None, company: 1, look_in: 0 }
    }

    /// Until when the next commit waits for company, and for how many.
    fn wait(&self) -> Option<(Instant, usize)> {
        self.gap.filter(|gap| *gap < self.fast)?;
        let company = if self.look_in == 0 { COMMIT_CHANGES_MAX } else { self.company };
        Some((self.last_commit? + COMMIT_INTERVAL, company))
    }

    /// A commit of that many changes has waited for so many.
    fn waited(&mut self, changes: usize, company: usize) {
        if company == COMMIT_CHANGES_MAX {
            (self.company, self.look_in) = (changes.min(COMMIT_CHANGES_MAX), LOOK_EVERY);
        }
    }

    fn commits(&mut self, changes: usize) {
        let now = Instant::now();
        self.look_in = self.look_in.saturating_sub(1);
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
