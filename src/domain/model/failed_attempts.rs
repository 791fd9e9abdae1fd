//! The consecutive failed attempts of a username, as they are stored.

use std::{
    array,
    time::{Duration, SystemTime},
};

use crate::common::time::{credible_or_now, is_credible_end};

/// By how much each failed attempt delays the end of its record. Each costs a hash, so records exist for no more hours together
/// than there were hashes: made-up names leave on average as many records as this time has hashes, however they are tried.
pub(in crate::domain) const KEPT_FOR: Duration = Duration::from_secs(3_600);

/// The maximum for any number of them.
pub(in crate::domain) const KEPT_FOR_MAX: Duration = Duration::from_secs(90 * 86_400);

/// What an attempt shows beside the password. Attempts of each kind are counted and limited apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Evidence {
    /// Nothing.
    None,
    /// The user has logged in from the address before, or is in a session.
    Familiar,
    /// A proof of work.
    ProofOfWork,
}

/// One value for each [`Evidence`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ByEvidence<T>([T; 3]);

/// The stored failed attempts of a username.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FailedAttempts {
    /// The time of the last one.
    pub last_time: SystemTime,
    /// The counts.
    pub counts: ByEvidence<FailureCount>,
    /// Consecutive failed attempts at an existing user that are never forgotten: those of a strict lockout.
    pub lasting: u32,
}

/// The consecutive failed attempts of a username.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ConsecutiveFailures {
    /// Those that are not forgotten yet. Limits that clients can see depend on these alone.
    pub by_evidence: ByEvidence<u32>,
    /// See [`FailedAttempts::lasting`].
    pub lasting: u32,
}

/// Failed attempts with the same evidence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FailureCount {
    /// Consecutive failed attempts.
    pub consecutive: u32,
    /// When they are forgotten; the time of the last attempt with any evidence if there are none.
    pub forget_time: SystemTime,
    /// When the GCRA state of the account is empty (`abuse/rate_limit/`); the last attempt or earlier if it is.
    pub clear_time: SystemTime,
}

impl Evidence {
    /// All of them.
    pub const ALL: [Evidence; 3] = [Evidence::None, Evidence::Familiar, Evidence::ProofOfWork];

    fn index(self) -> usize {
        match self {
            Evidence::None => 0,
            Evidence::Familiar => 1,
            Evidence::ProofOfWork => 2,
        }
    }
}

impl<T> ByEvidence<T> {
    /// The values.
    pub fn each(value: impl FnMut(Evidence) -> T) -> Self {
        Self(Evidence::ALL.map(value))
    }

    /// The value for this evidence.
    pub fn of(&self, evidence: Evidence) -> &T {
        &self.0[evidence.index()]
    }

    /// The value for this evidence.
    pub fn of_mut(&mut self, evidence: Evidence) -> &mut T {
        &mut self.0[evidence.index()]
    }

    /// Makes one value of two.
    pub fn zip<U, V>(&self, other: &ByEvidence<U>, mut join: impl FnMut(&T, &U) -> V) -> ByEvidence<V> {
        ByEvidence(array::from_fn(|at| join(&self.0[at], &other.0[at])))
    }

    /// All values.
    pub fn values(&self) -> impl Iterator<Item = &T> {
        self.0.iter()
    }
}

impl ByEvidence<u32> {
    /// The sum.
    pub fn total(&self) -> u32 {
        self.values().fold(0, |total, count| total.saturating_add(*count))
    }
}

impl ConsecutiveFailures {
    /// All of them.
    pub fn total(&self) -> u32 {
        self.by_evidence.total().max(self.lasting)
    }
}

impl FailedAttempts {
    /// The failed attempts without a time that a wrong clock wrote: an attempt in the future counts as one of now, and what
    /// ends later is as long as it was then. How long GCRA states can be depends on the settings (`abuse/failure_counter.rs`).
    pub(crate) fn with_credible_times(self, now: SystemTime) -> Self {
        // Every field by name, so that a new time is not forgotten.
        let Self { last_time, counts, lasting } = self;
        let credible = credible_or_now(last_time, now);
        let moved = |time: SystemTime| match credible == last_time {
            true => time,
            false => credible + time.duration_since(last_time).unwrap_or_default(),
        };
        let counts = ByEvidence::each(|evidence| {
            let FailureCount { consecutive, forget_time, clear_time } = *counts.of(evidence);
            let forget_time = Some(moved(forget_time)).filter(|time| is_credible_end(*time, KEPT_FOR_MAX, now));
            let forget_time = forget_time.unwrap_or(now + KEPT_FOR_MAX);
            FailureCount { consecutive, forget_time, clear_time: moved(clear_time) }
        });
        Self { last_time: credible, counts, lasting }
    }

    /// What counts now. After the time for it the consecutive failed attempts are forgotten, but neither the GCRA states nor
    /// what lasts.
    pub(in crate::domain) fn without_forgotten(self, now: SystemTime) -> Self {
        let counts = ByEvidence::each(|evidence| {
            let count = *self.counts.of(evidence);
            FailureCount { consecutive: if count.forget_time > now { count.consecutive } else { 0 }, ..count }
        });
        Self { counts, ..self }
    }

    /// The consecutive failed attempts.
    pub fn consecutive(&self) -> ConsecutiveFailures {
        let by_evidence = ByEvidence::each(|evidence| self.counts.of(evidence).consecutive);
        ConsecutiveFailures { by_evidence, lasting: self.lasting }
    }

    /// Until when the record is needed; `None` is for ever.
    pub fn kept_until(&self) -> Option<SystemTime> {
        let ends = self.counts.values().map(|count| count.clear_time.max(count.forget_time));
        let end = ends.fold(self.last_time, SystemTime::max);
        (self.lasting == 0).then_some(end)
    }

    /// Whether the record is still needed.
    pub(in crate::domain) fn is_kept(&self, now: SystemTime) -> bool {
        self.kept_until().is_none_or(|end| end > now)
    }
}
