//! When a commit waits for more changes, and for how many.
//!
//! A commit costs the same for one change as for ten. While changes follow each other quickly, a commit waits until 30 ms
//! after the last one at most, and no longer than until all changes are queued that are expected: callers that make one
//! change after the other rarely wait in vain. While changes are rare, no commit waits. Does not know what is committed.

use std::{thread, time::Duration};

use tokio::time::Instant;

/// Changes in one commit at most; bounds how long the first of them waits for the last.
pub(super) const COMMIT_CHANGES_MAX: usize = 256;

/// While changes are frequent, the time from one commit to the next at least.
const COMMIT_INTERVAL: Duration = Duration::from_millis(30);

/// Changes are frequent when the mean time from one to the next is below this divided by the number of cores: then commits
/// take a share of the machine that is worth a wait.
const FREQUENT_ON_ONE_CORE: Duration = Duration::from_millis(16);

/// One of so many commits waits the whole interval, to count how many changes come in it; the others wait for that many.
const SAMPLE_EVERY: u32 = 32;

/// How quickly changes follow each other.
pub(super) struct CommitDelay {
    /// Changes are frequent below this.
    frequent: Duration,
    last_commit: Option<Instant>,
    /// The mean time from one change to the next.
    gap: Option<Duration>,
    /// How many changes came while a commit waited the whole interval. When that many are queued, no more are expected.
    expected: usize,
    /// Commits until the next sample.
    sample_in: u32,
}

impl CommitDelay {
    pub(super) fn for_this_machine() -> Self {
        let cores = thread::available_parallelism().map_or(1, |cores| u32::try_from(cores.get()).unwrap_or(u32::MAX));
        Self { frequent: FREQUENT_ON_ONE_CORE / cores, last_commit: None, gap: None, expected: 1, sample_in: 0 }
    }

    /// Until when the next commit waits, and for how many changes; `None` when it does not wait.
    pub(super) fn next_commit(&self) -> Option<(Instant, usize)> {
        self.gap.filter(|gap| *gap < self.frequent)?;
        let changes = if self.sample_in == 0 { COMMIT_CHANGES_MAX } else { self.expected };
        Some((self.last_commit? + COMMIT_INTERVAL, changes))
    }

    /// A commit has waited for `awaited` changes, and `changes` came.
    pub(super) fn waited(&mut self, changes: usize, awaited: usize) {
        if awaited == COMMIT_CHANGES_MAX {
            (self.expected, self.sample_in) = (changes.min(COMMIT_CHANGES_MAX), SAMPLE_EVERY);
        }
    }

    /// A commit of so many changes begins.
    pub(super) fn commits(&mut self, changes: usize) {
        let now = Instant::now();
        self.sample_in = self.sample_in.saturating_sub(1);
        if let Some(last) = self.last_commit.replace(now) {
            let gap = (now - last) / u32::try_from(changes).unwrap_or(u32::MAX);
            self.gap = Some(self.gap.map_or(gap, |average| (average * 3 + gap) / 4));
        }
    }
}
