//! What this node knows of the failed attempts of a username and the store does not, and how the two are merged.
//!
//! Pure values. `failure_counter.rs` keeps one for each username that waits to be stored.

use std::time::{Duration, SystemTime};

use crate::{
    common::time::to_the_millisecond,
    domain::model::{ByEvidence, FailedAttempts, FailureCount},
};

/// Failed attempts of one username that are not stored yet.
#[derive(Debug, Clone, Copy)]
pub(super) struct PendingAttempts {
    /// What of the stored counts is void.
    pub(super) void: Void,
    /// Failed attempts since then.
    pub(super) increases: ByEvidence<Increase>,
    pub(super) first_time: SystemTime,
    pub(super) last_time: SystemTime,
    /// Another number after each change that makes earlier attempts void, so that a change during a write is noticed.
    pub(super) void_version: u64,
    /// What was stored a moment ago: a caller that read the store before that must not miss it.
    pub(super) floor: Option<FailedAttempts>,
    pub(super) sent: Option<Sent>,
}

/// Failed attempts with the same evidence.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Increase {
    pub(super) count: u32,
    /// What they added to the account's GCRA state.
    pub(super) gcra: Duration,
}

/// What was sent to the store. A caller that reads it there must not add it again, even when the answer was lost.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sent {
    pub(super) merged: FailedAttempts,
    /// What of it was new.
    pub(super) increases: ByEvidence<Increase>,
}

/// What of the stored counts no longer counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Void {
    Nothing,
    /// An attempt succeeded: these counters are reset.
    Counts(ByEvidence<bool>),
    /// There is a new password: the GCRA states are void too.
    All,
}

impl Void {
    /// Which counters are reset.
    fn counts(self) -> ByEvidence<bool> {
        match self {
            Void::Nothing => ByEvidence::each(|_| false),
            Void::Counts(counts) => counts,
            Void::All => ByEvidence::each(|_| true),
        }
    }

    /// With these counters reset too.
    pub(super) fn with_counts(self, reset: ByEvidence<bool>) -> Self {
        match self {
            Void::All => Void::All,
            Void::Nothing | Void::Counts(_) => Void::Counts(self.counts().zip(&reset, |one, other| *one || *other)),
        }
    }
}

impl PendingAttempts {
    pub(super) fn new(now: SystemTime) -> Self {
        Self {
            void: Void::Nothing,
            increases: ByEvidence::default(),
            first_time: now,
            last_time: now,
            void_version: 0,
            floor: None,
            sent: None,
        }
    }

    /// Whether it holds anything that is not stored.
    pub(super) fn is_pending(&self) -> bool {
        self.void != Void::Nothing || self.has_failures()
    }

    fn has_failures(&self) -> bool {
        self.increases.values().any(|increase| *increase != Increase::default())
    }

    /// Takes away what the store has now.
    pub(super) fn stored(&mut self, increases: &ByEvidence<Increase>, merged: Option<FailedAttempts>) {
        self.void = Void::Nothing;
        self.increases = self.increases.zip(increases, |all, stored| Increase {
            count: all.count.saturating_sub(stored.count),
            gcra: all.gcra.saturating_sub(stored.gcra),
        });
        (self.first_time, self.floor, self.sent) = (self.last_time, merged, None);
    }

    /// This merged with what is stored; `None` when nothing is left.
    pub(super) fn merged(&self, stored: Option<&FailedAttempts>) -> Option<FailedAttempts> {
        let mut pending = *self;
        if let Some(sent) = self.sent.filter(|sent| stored == Some(&sent.merged)) {
            pending.stored(&sent.increases, None);
        }
        let before = greater(stored.copied(), pending.floor).filter(|_| pending.void != Void::All);
        if !pending.is_pending() {
            return before;
        }
        if before.is_none() && !pending.has_failures() {
            return None;
        }
        let PendingAttempts { void, increases, first_time, last_time, .. } = pending;
        let nothing = FailedAttempts {
            last_time,
            counts: ByEvidence::each(|_| FailureCount { consecutive: 0, clear_time: first_time }),
        };
        let before = before.unwrap_or(nothing);
        let is_reset = void.counts();
        let counts = before.counts.zip(&is_reset, |count, is_reset| FailureCount {
            consecutive: if *is_reset { 0 } else { count.consecutive },
            ..*count
        });
        let counts = counts.zip(&increases, |count, increase| FailureCount {
            consecutive: count.consecutive.saturating_add(increase.count),
            clear_time: match increase.gcra.is_zero() {
                true => to_the_millisecond(count.clear_time),
                false => to_the_millisecond(count.clear_time.max(first_time) + increase.gcra),
            },
        });
        Some(FailedAttempts { last_time: to_the_millisecond(before.last_time.max(last_time)), counts })
    }
}

/// The greater of each value.
fn greater(one: Option<FailedAttempts>, other: Option<FailedAttempts>) -> Option<FailedAttempts> {
    let (Some(a), Some(b)) = (one, other) else { return one.or(other) };
    let counts = a.counts.zip(&b.counts, |a, b| FailureCount {
        consecutive: a.consecutive.max(b.consecutive),
        clear_time: a.clear_time.max(b.clear_time),
    });
    Some(FailedAttempts { last_time: a.last_time.max(b.last_time), counts })
}
