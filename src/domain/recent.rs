//! Token checks that were positive a moment ago, so that a flood of the same tokens does not ask the store each time.
//!
//! A check counts for less than a second from when the store was asked, and what this node ends is forgotten at once: a
//! check that was asked before the end never counts after it, even when its answer came later. Nothing negative is kept.

use std::{
    collections::HashMap,
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use super::{Clock, SessionId, UserId, Username};

/// Checks that are kept in each half of the table: about 6 MiB in all, with names of usual length. More are asked each time.
const CHECKS_MAX: usize = 16_384;

/// Ends that are kept in each half; when there are more, all checks are forgotten instead.
const ENDS_MAX: usize = 16_384;

/// The checks.
pub(super) struct Recent {
    /// How long a check counts; zero: never.
    reuse: Duration,
    /// Read under the lock, so that times are in the order of what they are times of.
    clock: Arc<dyn Clock>,
    halves: Mutex<Halves>,
}

/// Whose session it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Owner {
    pub(super) user_id: UserId,
    pub(super) username: Username,
}

/// Nothing counts for longer than a half is filled, so the older one can be thrown away as a whole.
struct Halves {
    young: Half,
    old: Half,
    /// When `young` was begun.
    since: Instant,
    /// Checks asked before do not count.
    floor: Instant,
}

#[derive(Default)]
struct Half {
    checks: HashMap<SessionId, (Instant, Owner)>,
    sessions_ended: HashMap<SessionId, Instant>,
    users_changed: HashMap<UserId, Instant>,
}

// === impl Recent ===

impl Recent {
    pub(super) fn new(reuse: Duration, clock: Arc<dyn Clock>) -> Self {
        let now = clock.monotonic();
        let halves = Halves { young: Half::default(), old: Half::default(), since: now, floor: now };
        Self { reuse, clock, halves: Mutex::new(halves) }
    }

    /// What a check said that still counts.
    pub(super) fn recall(&self, session: SessionId) -> Option<Owner> {
        if self.reuse.is_zero() {
            return None;
        }
        let (halves, now) = self.now();
        let (asked, owner) = halves.find(|half| half.checks.get(&session))?;
        let counts =
            now.saturating_duration_since(*asked) < self.reuse && halves.counts(*asked, session, owner.user_id);
        counts.then(|| owner.clone())
    }

    /// Keeps what a check said for which the store was asked at `asked`.
    pub(super) fn remember(&self, session: SessionId, owner: &Owner, asked: Instant) {
        let (mut halves, now) = self.now();
        if now.saturating_duration_since(asked) < self.reuse
            && halves.young.checks.len() < CHECKS_MAX
            && halves.counts(asked, session, owner.user_id)
        {
            halves.young.checks.insert(session, (asked, owner.clone()));
        }
    }

    /// Forgets a session that was ended, or may have been, or was found to be.
    pub(super) fn session_ended(&self, session: SessionId) {
        let (mut halves, now) = self.now();
        halves.end(now, |half| half.sessions_ended.insert(session, now));
    }

    /// Forgets all sessions of a user who was changed, or may have been.
    pub(super) fn user_changed(&self, user: UserId) {
        let (mut halves, now) = self.now();
        halves.end(now, |half| half.users_changed.insert(user, now));
    }

    fn now(&self) -> (MutexGuard<'_, Halves>, Instant) {
        let mut halves = self.halves.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.clock.monotonic();
        let age = now.saturating_duration_since(halves.since);
        if age >= self.reuse {
            let young = mem::take(&mut halves.young);
            halves.old = if age < 2 * self.reuse { young } else { Half::default() };
            halves.since = now;
        }
        (halves, now)
    }
}

// === impl Halves ===

impl Halves {
    fn find<'a, T>(&'a self, look: impl Fn(&'a Half) -> Option<&'a T>) -> Option<&'a T> {
        look(&self.young).or_else(|| look(&self.old))
    }

    /// Whether nothing has ended since `asked` that a check of then does not know.
    fn counts(&self, asked: Instant, session: SessionId, user: UserId) -> bool {
        let ended = self.find(|half| half.sessions_ended.get(&session));
        let changed = self.find(|half| half.users_changed.get(&user));
        [ended, changed, Some(&self.floor)].into_iter().flatten().all(|end| *end < asked)
    }

    fn end<T>(&mut self, now: Instant, add: impl FnOnce(&mut Half) -> T) {
        if self.young.sessions_ended.len() + self.young.users_changed.len() < ENDS_MAX {
            add(&mut self.young);
        } else {
            (self.young, self.old, self.floor) = (Half::default(), Half::default(), now);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use uuid::Uuid;

    use super::*;
    use crate::domain::System;

    const REUSE: Duration = Duration::from_millis(800);
    const STEP: Duration = Duration::from_millis(1);

    /// Stands still until it is moved.
    #[derive(Debug)]
    struct Still(Mutex<Instant>);

    impl Still {
        fn go(&self, by: Duration) -> Instant {
            *self.0.lock().unwrap() += by;
            self.monotonic()
        }
    }

    impl Clock for Still {
        fn now(&self) -> SystemTime {
            System.now()
        }

        fn monotonic(&self) -> Instant {
            *self.0.lock().unwrap()
        }
    }

    fn recent(reuse: Duration) -> (Recent, Arc<Still>) {
        let clock = Arc::new(Still(Mutex::new(System.monotonic())));
        (Recent::new(reuse, clock.clone()), clock)
    }

    fn owner(number: u128) -> Owner {
        let user_id = UserId::parse(&Uuid::from_u128(number).to_string()).unwrap();
        Owner { user_id, username: Username::parse("ada").unwrap() }
    }

    fn session(number: u128) -> SessionId {
        SessionId(Uuid::from_u128(number))
    }

    #[test]
    fn a_check_counts_from_when_the_store_was_asked() {
        let (recent, clock) = recent(REUSE);
        let asked = clock.go(STEP);
        clock.go(REUSE / 2);
        recent.remember(session(1), &owner(1), asked);
        clock.go(REUSE / 2 - STEP);
        assert_eq!(recent.recall(session(1)), Some(owner(1)));
        assert_eq!(recent.recall(session(2)), None);
        clock.go(STEP);
        assert_eq!(recent.recall(session(1)), None);
        recent.remember(session(3), &owner(1), asked);
        assert_eq!(recent.recall(session(3)), None, "its answer took too long");
    }

    #[test]
    fn nothing_counts_when_nothing_may() {
        let (recent, clock) = recent(Duration::ZERO);
        recent.remember(session(1), &owner(1), clock.monotonic());
        assert_eq!(recent.recall(session(1)), None);
    }

    #[test]
    fn what_has_ended_counts_no_more_even_when_the_answer_comes_after_the_end() {
        for late in [false, true] {
            for by_user in [false, true] {
                let (recent, clock) = recent(REUSE);
                let asked = clock.go(STEP);
                if !late {
                    recent.remember(session(1), &owner(1), asked);
                }
                clock.go(STEP);
                if by_user {
                    recent.user_changed(owner(1).user_id)
                } else {
                    recent.session_ended(session(1))
                }
                clock.go(STEP);
                if late {
                    recent.remember(session(1), &owner(1), asked);
                }
                assert_eq!(recent.recall(session(1)), None, "late {late}, by user {by_user}");
                // Asked later: the session of that moment lives, such as the one that a new password began.
                recent.remember(session(1), &owner(1), clock.monotonic());
                assert_eq!(recent.recall(session(1)), Some(owner(1)));
            }
        }
    }

    #[test]
    fn an_end_is_known_for_as_long_as_anything_asked_before_it_could_count() {
        let (recent, clock) = recent(REUSE);
        let asked = clock.go(REUSE - 2 * STEP);
        clock.go(STEP);
        recent.session_ended(session(1));
        for wait in [STEP, REUSE - 3 * STEP] {
            clock.go(wait);
            recent.remember(session(1), &owner(1), asked);
            assert_eq!(recent.recall(session(1)), None);
        }
    }

    #[test]
    fn a_flood_of_checks_or_ends_takes_no_more_memory_and_revives_nothing() {
        let (recent, clock) = recent(REUSE);
        let asked = clock.go(STEP);
        for number in 0..2 * CHECKS_MAX as u128 {
            recent.remember(session(number), &owner(number), asked);
        }
        assert_eq!(recent.now().0.young.checks.len(), CHECKS_MAX);
        clock.go(STEP);
        for number in 0..ENDS_MAX as u128 {
            recent.session_ended(session(1_000_000 + number));
        }
        recent.session_ended(session(1));
        assert_eq!(recent.recall(session(1)), None);
        recent.remember(session(1), &owner(1), asked);
        assert_eq!(recent.recall(session(1)), None, "its end is not in the table, and counts");
        assert!(recent.now().0.young.sessions_ended.len() <= ENDS_MAX);
    }
}
