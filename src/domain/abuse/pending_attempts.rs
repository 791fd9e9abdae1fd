//! What this node knows of the failed attempts of a username and the store does not, and how the two are merged.
//!
//! Pure values. `failure_counter.rs` keeps one for each username that waits to be stored.

use std::time::{Duration, SystemTime};

use crate::{common::time::to_the_millisecond, domain::model::FailedAttempts};

/// Failed attempts of one username that are not stored yet.
#[derive(Debug, Clone, Copy)]
pub(super) struct PendingAttempts {
    /// What of the stored count is void.
    pub(super) void: Void,
    /// Failed attempts since then.
    pub(super) count: u32,
    /// What they added to the account's GCRA state.
    pub(super) gcra_increase: Duration,
    pub(super) first_time: SystemTime,
    pub(super) last_time: SystemTime,
    /// Another number after each change that makes earlier attempts void, so that a change during a write is noticed.
    pub(super) void_version: u64,
    /// What was stored a moment ago: a caller that read the store before that must not miss it.
    pub(super) floor: Option<FailedAttempts>,
    pub(super) sent: Option<Sent>,
}

/// What was sent to the store. A caller that reads it there must not add it again, even when the answer was lost.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sent {
    pub(super) merged: FailedAttempts,
    /// What of it was new.
    pub(super) count: u32,
    pub(super) gcra_increase: Duration,
}

/// What of a stored count no longer counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Void {
    Nothing,
    /// An attempt succeeded: the counter is reset.
    Count,
    /// There is a new password: the GCRA state is void too.
    All,
}

impl PendingAttempts {
    pub(super) fn new(now: SystemTime) -> Self {
        Self {
            void: Void::Nothing,
            count: 0,
            gcra_increase: Duration::ZERO,
            first_time: now,
            last_time: now,
            void_version: 0,
            floor: None,
            sent: None,
        }
    }

    /// Whether it holds anything that is not stored.
    pub(super) fn is_pending(&self) -> bool {
        self.void != Void::Nothing || self.count > 0
    }

    /// Takes away what the store has now.
    pub(super) fn stored(&mut self, count: u32, gcra_increase: Duration, merged: Option<FailedAttempts>) {
        self.void = Void::Nothing;
        self.count -= count;
        self.gcra_increase -= gcra_increase;
        (self.first_time, self.floor, self.sent) = (self.last_time, merged, None);
    }

    /// This merged with what is stored; `None` when nothing is left.
    pub(super) fn merged(&self, stored: Option<&FailedAttempts>) -> Option<FailedAttempts> {
        let mut pending = *self;
        if let Some(sent) = self.sent.filter(|sent| stored == Some(&sent.merged)) {
            pending.stored(sent.count, sent.gcra_increase, None);
        }
        let before = greater(stored.copied(), pending.floor).filter(|_| pending.void != Void::All);
        if !pending.is_pending() {
            return before;
        }
        let PendingAttempts { void, count, gcra_increase, first_time, last_time, .. } = pending;
        if before.is_none() && count == 0 && gcra_increase.is_zero() {
            return None;
        }
        let before_count = before.filter(|_| void == Void::Nothing).map_or(0, |before| before.count);
        let clear_time = before.map_or(first_time, |before| before.clear_time.max(first_time)) + gcra_increase;
        let last_time = before.map_or(last_time, |before| before.last_time.max(last_time));
        let [last_time, clear_time] = [last_time, clear_time].map(to_the_millisecond);
        Some(FailedAttempts { count: before_count.saturating_add(count), last_time, clear_time })
    }
}

/// The one with more failed attempts.
fn greater(one: Option<FailedAttempts>, other: Option<FailedAttempts>) -> Option<FailedAttempts> {
    one.into_iter().chain(other).max_by_key(|attempts| (attempts.count, attempts.clear_time))
}
