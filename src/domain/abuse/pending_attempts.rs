//! What this node knows of the failed attempts of a username and the store does not, and how the two are merged.
//!
//! Pure values. `failure_counter.rs` keeps one for each username that waits to be stored. Changes are merged exactly,
//! however long they wait: as if each had been stored when it happened. Three exceptions: whether a count is forgotten is
//! decided when it is stored; a reset also takes what other nodes stored since the success; and after a lost answer a change
//! counts twice if another node wrote meanwhile.

use std::time::{Duration, SystemTime};

use crate::{
    common::time::{credible_or_now, to_the_millisecond},
    domain::model::{ByEvidence, Evidence, FailedAttempts, FailureCount, KEPT_FOR, KEPT_FOR_MAX},
};

/// What of one username is not stored yet.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct PendingAttempts {
    /// What was sent to the store, until it is known that the store has it.
    sent: Option<Sent>,
    /// What happened since.
    changes: Changes,
    /// What was stored a moment ago: a caller that read the store before that must not miss it.
    floor: Option<FailedAttempts>,
}

/// What was sent to the store. A caller that reads it there must not add it again, even when the answer was lost.
#[derive(Debug, Clone, Copy)]
struct Sent {
    merged: Option<FailedAttempts>,
    /// What of it was new.
    changes: Changes,
}

/// What to do to the failed attempts of a username. Any number of changes are one.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Changes {
    /// What of the earlier counts is void.
    void: Void,
    /// Failed attempts since then.
    counts: ByEvidence<u32>,
    /// Those of them that are never forgotten.
    lasting: u32,
    /// When the others are.
    forget: ByEvidence<Delay>,
    /// The GCRA states of the account.
    gcra: ByEvidence<Delay>,
    /// The time of the last failed attempt; `None` without one.
    last_time: Option<SystemTime>,
}

/// What of the earlier counts no longer counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Void {
    #[default]
    Nothing,
    /// An attempt succeeded: these counters are reset.
    Counts(ByEvidence<bool>),
    /// There is a new password: the GCRA states are void too.
    All,
}

/// What events do to a time that each of them delays: at `now` it becomes the later of itself and `now`, plus `by`. Any number
/// of events are one such value, and the order in which they are merged with those of other nodes shortens no delay.
#[derive(Debug, Clone, Copy)]
struct Delay {
    by: Duration,
    /// The delayed time is at least this.
    least: SystemTime,
}

impl Default for Delay {
    fn default() -> Self {
        Self { by: Duration::ZERO, least: SystemTime::UNIX_EPOCH }
    }
}

impl Delay {
    fn event(now: SystemTime, by: Duration) -> Self {
        if by.is_zero() { Self::default() } else { Self { by, least: now + by } }
    }

    fn then(self, later: Self) -> Self {
        Self { by: self.by + later.by, least: later.least.max(self.least + later.by) }
    }

    fn applied(self, time: SystemTime) -> SystemTime {
        self.least.max(time + self.by)
    }
}

impl Void {
    /// Whether all counters are reset, and so is what lasts. Then nothing is left to forget.
    fn is_of_all_counts(self) -> bool {
        self.counts().values().all(|is_reset| *is_reset)
    }

    /// Which counters are reset.
    fn counts(self) -> ByEvidence<bool> {
        match self {
            Void::Nothing => ByEvidence::each(|_| false),
            Void::Counts(counts) => counts,
            Void::All => ByEvidence::each(|_| true),
        }
    }

    fn then(self, later: Self) -> Self {
        match (self, later) {
            (Void::All, _) | (_, Void::All) => Void::All,
            (earlier, Void::Nothing) => earlier,
            (earlier, Void::Counts(reset)) => Void::Counts(earlier.counts().zip(&reset, |one, other| *one || *other)),
        }
    }
}

impl Changes {
    /// An attempt failed, which adds so much to the account's GCRA state and, if it `is_lasting`, is not forgotten.
    pub(super) fn failure(evidence: Evidence, gcra_increase: Duration, is_lasting: bool, now: SystemTime) -> Self {
        let mut failure = Self { last_time: Some(now), lasting: u32::from(is_lasting), ..Self::default() };
        *failure.counts.of_mut(evidence) = 1;
        *failure.forget.of_mut(evidence) = Delay::event(now, KEPT_FOR);
        *failure.gcra.of_mut(evidence) = Delay::event(now, gcra_increase);
        failure
    }

    /// An attempt succeeded, which resets these counters.
    pub(super) fn reset(counts: ByEvidence<bool>) -> Self {
        Self { void: Void::Counts(counts), ..Self::default() }
    }

    /// There is a new password, or an operator unlocked the account.
    pub(super) fn clear() -> Self {
        Self { void: Void::All, ..Self::default() }
    }

    fn is_nothing(&self) -> bool {
        self.void == Void::Nothing && self.last_time.is_none()
    }

    /// These changes and then `later` ones.
    fn then(self, later: Self) -> Self {
        if later.void == Void::All {
            return later;
        }
        let lasting = if later.void.is_of_all_counts() { 0 } else { self.lasting };
        let is_reset = later.void.counts();
        let counts = self.counts.zip(&is_reset, |count, is_reset| if *is_reset { 0 } else { *count });
        let forget = self.forget.zip(&is_reset, |delay, is_reset| if *is_reset { Delay::default() } else { *delay });
        Self {
            void: self.void.then(later.void),
            counts: counts.zip(&later.counts, |one, other| one.saturating_add(*other)),
            lasting: lasting.saturating_add(later.lasting),
            forget: forget.zip(&later.forget, |one, other| one.then(*other)),
            gcra: self.gcra.zip(&later.gcra, |one, other| one.then(*other)),
            last_time: self.last_time.max(later.last_time),
        }
    }

    /// The changes without times that a wrong clock wrote: see [`FailedAttempts::with_credible_times`].
    fn with_credible_times(self, now: SystemTime) -> Self {
        let Some(last_time) = self.last_time else { return self };
        let credible = credible_or_now(last_time, now);
        if credible == last_time {
            return self;
        }
        let moved = |delay: &Delay| {
            let least = credible + delay.least.duration_since(last_time).unwrap_or_default();
            Delay { least, ..*delay }
        };
        let [forget, gcra] = [self.forget, self.gcra].map(|all| ByEvidence::each(|evidence| moved(all.of(evidence))));
        Self { forget, gcra, last_time: Some(credible), ..self }
    }

    /// What is left of `before` after the changes; `None` when it is nothing.
    fn applied(self, before: Option<FailedAttempts>) -> Option<FailedAttempts> {
        let before = before.filter(|_| self.void != Void::All);
        let last_time = self.last_time.max(before.map(|before| before.last_time)).map(to_the_millisecond)?;
        let never = SystemTime::UNIX_EPOCH;
        let nothing = FailureCount { consecutive: 0, forget_time: never, clear_time: never };
        let counts = before.map_or(ByEvidence::each(|_| nothing), |before| before.counts);
        let counts = counts.zip(&self.void.counts(), |count, is_reset| match is_reset {
            true => FailureCount { clear_time: count.clear_time, ..nothing },
            false => *count,
        });
        let counts = ByEvidence::each(|evidence| {
            let count = counts.of(evidence);
            let [forget_time, clear_time] = [(&self.forget, count.forget_time), (&self.gcra, count.clear_time)]
                .map(|(delays, time)| to_the_millisecond(delays.of(evidence).applied(time)).max(last_time));
            FailureCount {
                consecutive: count.consecutive.saturating_add(*self.counts.of(evidence)),
                forget_time: forget_time.min(last_time + KEPT_FOR_MAX),
                clear_time,
            }
        });
        let lasting = before.filter(|_| !self.void.is_of_all_counts()).map_or(0, |before| before.lasting);
        Some(FailedAttempts { last_time, counts, lasting: lasting.saturating_add(self.lasting) })
    }
}

impl PendingAttempts {
    /// Whether it holds anything that may not be stored.
    pub(super) fn is_pending(&self) -> bool {
        self.sent.is_some() || !self.changes.is_nothing()
    }

    /// Adds changes.
    pub(super) fn change(&mut self, changes: Changes, now: SystemTime) {
        self.correct_times(now);
        self.changes = self.changes.then(changes);
    }

    /// This merged with what is stored; `None` when nothing is left.
    pub(super) fn merged(&mut self, stored: Option<&FailedAttempts>, now: SystemTime) -> Option<FailedAttempts> {
        self.correct_times(now);
        let floor = self.floor.map(|floor| floor.without_forgotten(now));
        self.not_in(stored, now).applied(greater(stored.copied(), floor))
    }

    /// What to store over what is stored: the value, or that there is none. `None` when the store has everything.
    pub(super) fn begin_write(
        &mut self,
        stored: Option<&FailedAttempts>,
        now: SystemTime,
    ) -> Option<Option<FailedAttempts>> {
        self.correct_times(now);
        let changes = self.not_in(stored, now);
        let merged = changes.applied(stored.copied()).filter(|merged| merged.is_kept(now));
        self.sent = Some(Sent { merged, changes });
        self.changes = Changes::default();
        if changes.is_nothing() || merged.as_ref() == stored {
            self.end_write();
            return None;
        }
        Some(merged)
    }

    /// The store has what was sent.
    pub(super) fn end_write(&mut self) {
        if let Some(sent) = self.sent.take() {
            self.floor = sent.merged;
        }
    }

    /// The store refused what was sent, because another node was faster. Its value may be the same all the same.
    pub(super) fn refuse_write(&mut self) {
        if let Some(sent) = self.sent.take() {
            self.changes = sent.changes.then(self.changes);
        }
    }

    /// Corrects times that a wrong clock wrote, for good: what is corrected again and again would never end.
    fn correct_times(&mut self, now: SystemTime) {
        self.changes = self.changes.with_credible_times(now);
        self.floor = self.floor.map(|floor| floor.with_credible_times(now));
        if let Some(sent) = &mut self.sent {
            sent.changes = sent.changes.with_credible_times(now);
        }
    }

    /// The changes that `stored` does not have.
    fn not_in(&self, stored: Option<&FailedAttempts>, now: SystemTime) -> Changes {
        // `stored` is without what was forgotten since it was sent.
        let is_missing = |sent: &Sent| sent.merged.map(|merged| merged.without_forgotten(now)).as_ref() != stored;
        match self.sent {
            Some(sent) if is_missing(&sent) => sent.changes.then(self.changes),
            Some(_) | None => self.changes,
        }
    }
}

/// The greater of each value.
fn greater(one: Option<FailedAttempts>, other: Option<FailedAttempts>) -> Option<FailedAttempts> {
    let (Some(a), Some(b)) = (one, other) else { return one.or(other) };
    let counts = a.counts.zip(&b.counts, |a, b| FailureCount {
        consecutive: a.consecutive.max(b.consecutive),
        forget_time: a.forget_time.max(b.forget_time),
        clear_time: a.clear_time.max(b.clear_time),
    });
    Some(FailedAttempts { last_time: a.last_time.max(b.last_time), counts, lasting: a.lasting.max(b.lasting) })
}
