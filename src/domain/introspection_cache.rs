//! Token checks that were positive, so that the same tokens do not ask the store each time.
//!
//! A check counts for less than a second from when the store was asked. A store that watches what was read vouches for a
//! check anew by saying that it has told every change up to a moment: then it counts for as long from that moment. What
//! this node ends, and what the store tells, is forgotten at once: a check that was asked before the end never counts
//! after it, even when its answer came later. Nothing negative is kept.

use std::{
    collections::HashMap,
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use super::{ChangeNotice, Changed, Clock, SessionId, UserId, Username, WATCH_DURATION};

/// Checks that are kept in each half of the table: about 8 MiB in all, with names of usual length. More are asked each time.
const CHECKS_MAX: usize = 16_384;

/// Ends that are kept in each half: when there are more the next half begins, and where that is too soon all checks are
/// forgotten instead.
const ENDS_MAX: usize = 16_384;

/// The checks.
pub(super) struct IntrospectionCache {
    /// How long a check counts after the store was asked or vouched for it; zero: never.
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

/// Thrown away a half at a time, the older one, and no half is filled for less than `reuse`. So an end goes no sooner than
/// the checks that were kept before it, and is known for `reuse` at least: no answer that was on its way then is kept later.
struct Halves {
    young: Half,
    old: Half,
    /// When `young` was begun.
    since: Instant,
    /// Checks asked before do not count.
    floor: Instant,
    vouched: Vouched,
}

#[derive(Default)]
struct Half {
    checks: HashMap<SessionId, Check>,
    sessions_ended: HashMap<SessionId, Instant>,
    users_changed: HashMap<Username, Instant>,
}

struct Check {
    asked: Instant,
    owner: Owner,
    /// When time alone ends the session, by the store's clock.
    ends: SystemTime,
}

/// Of checks asked after `since`, the store has told every change before `until`.
struct Vouched {
    since: Instant,
    until: Instant,
}

// === impl Recent ===

impl IntrospectionCache {
    pub(super) fn new(reuse: Duration, clock: Arc<dyn Clock>) -> Self {
        let now = clock.monotonic();
        let vouched = Vouched { since: now, until: now };
        let halves = Halves { young: Half::default(), old: Half::default(), since: now, floor: now, vouched };
        Self { reuse, clock, halves: Mutex::new(halves) }
    }

    /// What a check said that still counts; `time` is the store's.
    pub(super) fn recall(&self, session: SessionId, time: SystemTime) -> Option<Owner> {
        if self.reuse.is_zero() {
            return None;
        }
        let (halves, now) = self.now();
        let Check { asked, owner, ends } = halves.find(|half| half.checks.get(&session))?;
        let counts = time < *ends
            && now.saturating_duration_since(*asked) < WATCH_DURATION
            && now.saturating_duration_since(halves.vouched.of(*asked)) < self.reuse
            && halves.counts(*asked, session, &owner.username);
        counts.then(|| owner.clone())
    }

    /// Keeps what a check said for which the store was asked at `asked`, of a session that ends at `ends`.
    pub(super) fn remember(&self, session: SessionId, owner: &Owner, asked: Instant, ends: SystemTime) {
        let (mut halves, now) = self.now();
        let mut has_room = halves.young.checks.len() < CHECKS_MAX || halves.young.checks.contains_key(&session);
        if !has_room && now.saturating_duration_since(halves.since) >= self.reuse {
            // Others were kept for a while: it is this one's turn.
            halves.begin_half(now);
            has_room = true;
        }
        // Whoever vouches for it: the ends are known for this long, and no answer comes later.
        let is_in_time = now.saturating_duration_since(asked) < self.reuse;
        if has_room && is_in_time && halves.counts(asked, session, &owner.username) {
            halves.young.checks.insert(session, Check { asked, owner: owner.clone(), ends });
        }
    }

    /// Forgets a session that was ended, or may have been, or was found to be.
    pub(super) fn session_ended(&self, session: SessionId) {
        self.end(|half, now| half.sessions_ended.insert(session, now));
    }

    /// Forgets all sessions of a user who was changed, or may have been.
    pub(super) fn user_changed(&self, user: &Username) {
        self.end(|half, now| half.users_changed.insert(user.clone(), now));
    }

    /// Takes what the store tells.
    pub(super) fn hear(&self, news: ChangeNotice<Changed>) {
        match news {
            ChangeNotice::Changed(Changed::Session(session)) => self.session_ended(session),
            ChangeNotice::Changed(Changed::User(user)) => self.user_changed(&user),
            ChangeNotice::Anything => {
                let (mut halves, now) = self.now();
                halves.forget_all(now);
            }
            ChangeNotice::Complete { since, until } => self.now().0.vouched = Vouched { since, until },
        }
    }

    fn now(&self) -> (MutexGuard<'_, Halves>, Instant) {
        let mut halves = self.halves.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.clock.monotonic();
        let is_vouched_for = now.saturating_duration_since(halves.vouched.until) < self.reuse;
        let filled_for = if is_vouched_for { WATCH_DURATION } else { self.reuse };
        if now.saturating_duration_since(halves.since) >= filled_for {
            halves.begin_half(now);
        }
        (halves, now)
    }

    fn end<T>(&self, add: impl FnOnce(&mut Half, Instant) -> T) {
        let (mut halves, now) = self.now();
        if halves.young.sessions_ended.len() + halves.young.users_changed.len() >= ENDS_MAX {
            if now.saturating_duration_since(halves.since) < self.reuse {
                return halves.forget_all(now);
            }
            halves.begin_half(now);
        }
        add(&mut halves.young, now);
    }
}

// === impl Halves ===

impl Halves {
    fn find<'a, T>(&'a self, look: impl Fn(&'a Half) -> Option<&'a T>) -> Option<&'a T> {
        look(&self.young).or_else(|| look(&self.old))
    }

    /// Whether nothing has ended since `asked` that a check of then does not know.
    fn counts(&self, asked: Instant, session: SessionId, user: &Username) -> bool {
        let ended = self.find(|half| half.sessions_ended.get(&session));
        let changed = self.find(|half| half.users_changed.get(user));
        [ended, changed, Some(&self.floor)].into_iter().flatten().all(|end| *end < asked)
    }

    fn begin_half(&mut self, now: Instant) {
        (self.old, self.since) = (mem::take(&mut self.young), now);
    }

    fn forget_all(&mut self, now: Instant) {
        (self.young, self.old, self.floor) = (Half::default(), Half::default(), now);
    }
}

// === impl Vouched ===

impl Vouched {
    /// When a check was last known to be right.
    fn of(&self, asked: Instant) -> Instant {
        if asked > self.since { asked.max(self.until) } else { asked }
    }
}

#[cfg(test)]
mod tests {
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

    fn introspection_cache(reuse: Duration) -> (IntrospectionCache, Arc<Still>) {
        let clock = Arc::new(Still(Mutex::new(System.monotonic())));
        (IntrospectionCache::new(reuse, clock.clone()), clock)
    }

    fn owner(number: u128) -> Owner {
        let user_id = UserId::parse(&Uuid::from_u128(number).to_string()).unwrap();
        Owner { user_id, username: Username::parse(&format!("user{number}")).unwrap() }
    }

    fn session(number: u128) -> SessionId {
        SessionId(Uuid::from_u128(number))
    }

    const TODAY: SystemTime = SystemTime::UNIX_EPOCH;
    const TOMORROW: Duration = Duration::from_secs(86_400);

    impl IntrospectionCache {
        /// A session that ends tomorrow.
        fn remember_today(&self, number: u128, owner: &Owner, asked: Instant) {
            self.remember(session(number), owner, asked, TODAY + TOMORROW);
        }

        fn recall_today(&self, number: u128) -> Option<Owner> {
            self.recall(session(number), TODAY)
        }
    }

    #[test]
    fn a_check_counts_from_when_the_store_was_asked() {
        let (introspection_cache, clock) = introspection_cache(REUSE);
        let asked = clock.go(STEP);
        clock.go(REUSE / 2);
        introspection_cache.remember_today(1, &owner(1), asked);
        clock.go(REUSE / 2 - STEP);
        assert_eq!(introspection_cache.recall_today(1), Some(owner(1)));
        assert_eq!(introspection_cache.recall_today(2), None);
        clock.go(STEP);
        assert_eq!(introspection_cache.recall_today(1), None);
        introspection_cache.remember_today(3, &owner(1), asked);
        assert_eq!(introspection_cache.recall_today(3), None, "its answer took too long");
    }

    #[test]
    fn a_full_half_makes_room_for_others_soon_although_it_is_vouched_for() {
        let (introspection_cache, clock) = introspection_cache(REUSE);
        let since = clock.go(STEP);
        let vouch = |until| introspection_cache.hear(ChangeNotice::Complete { since, until });
        let asked = clock.go(STEP);
        for number in 0..CHECKS_MAX as u128 {
            introspection_cache.remember_today(number, &owner(number), asked);
        }
        introspection_cache.remember_today(1_000_000, &owner(1), asked);
        assert_eq!(introspection_cache.recall_today(1_000_000), None, "too soon");
        vouch(clock.go(REUSE / 2));
        let later = clock.go(REUSE / 2);
        vouch(later);
        introspection_cache.remember_today(1_000_000, &owner(1), later);
        assert_eq!(introspection_cache.recall_today(1_000_000), Some(owner(1)));
        assert_eq!(introspection_cache.recall_today(0), Some(owner(0)), "the full half is still there");
    }

    #[test]
    fn nothing_counts_when_nothing_may() {
        let (introspection_cache, clock) = introspection_cache(Duration::ZERO);
        let asked = clock.go(STEP);
        introspection_cache.remember_today(1, &owner(1), asked);
        introspection_cache.hear(ChangeNotice::Complete { since: asked - STEP, until: clock.go(STEP) });
        assert_eq!(introspection_cache.recall_today(1), None);
    }

    #[test]
    fn a_check_counts_for_as_long_as_the_store_vouches_for_it_and_no_longer_than_it_watches() {
        let (introspection_cache, clock) = introspection_cache(REUSE);
        let since = clock.go(STEP);
        let asked = clock.go(STEP);
        introspection_cache.remember_today(1, &owner(1), asked);
        while clock.monotonic() < asked + WATCH_DURATION {
            introspection_cache.hear(ChangeNotice::Complete { since, until: clock.monotonic() });
            clock.go(REUSE - STEP);
            let counts = clock.monotonic() < asked + WATCH_DURATION;
            assert_eq!(introspection_cache.recall_today(1).is_some(), counts, "{:?}", clock.monotonic() - asked);
        }
        let asked = clock.monotonic();
        introspection_cache.remember_today(1, &owner(1), asked);
        introspection_cache.hear(ChangeNotice::Complete { since, until: clock.go(STEP) });
        clock.go(REUSE);
        assert_eq!(introspection_cache.recall_today(1), None, "nobody vouched for it any more");
        introspection_cache.hear(ChangeNotice::Complete { since, until: clock.monotonic() });
        assert!(introspection_cache.recall_today(1).is_some(), "nothing was missed meanwhile");
    }

    #[test]
    fn nobody_vouches_for_what_was_asked_before_the_store_watched() {
        let (introspection_cache, clock) = introspection_cache(REUSE);
        let asked = clock.go(STEP);
        introspection_cache.remember_today(1, &owner(1), asked);
        for since in [asked, asked + STEP] {
            introspection_cache.hear(ChangeNotice::Complete { since, until: clock.go(REUSE / 2) });
            assert_eq!(introspection_cache.recall_today(1).is_some(), clock.monotonic() < asked + REUSE);
        }
    }

    #[test]
    fn a_check_does_not_outlive_its_session() {
        let (introspection_cache, clock) = introspection_cache(REUSE);
        introspection_cache.remember_today(1, &owner(1), clock.go(STEP));
        let last = TODAY + TOMORROW - STEP;
        assert_eq!(introspection_cache.recall(session(1), last), Some(owner(1)));
        assert_eq!(introspection_cache.recall(session(1), last + STEP), None);
    }

    #[test]
    fn what_has_ended_counts_no_more_even_when_the_answer_comes_after_the_end() {
        let ends: [fn(&IntrospectionCache); 5] = [
            |introspection_cache| introspection_cache.session_ended(session(1)),
            |introspection_cache| introspection_cache.user_changed(&owner(1).username),
            |introspection_cache| introspection_cache.hear(ChangeNotice::Changed(Changed::Session(session(1)))),
            |introspection_cache| introspection_cache.hear(ChangeNotice::Changed(Changed::User(owner(1).username))),
            |introspection_cache| introspection_cache.hear(ChangeNotice::Anything),
        ];
        for (number, end) in ends.iter().enumerate() {
            for late in [false, true] {
                let (introspection_cache, clock) = introspection_cache(REUSE);
                let asked = clock.go(STEP);
                if !late {
                    introspection_cache.remember_today(1, &owner(1), asked);
                }
                clock.go(STEP);
                end(&introspection_cache);
                introspection_cache.hear(ChangeNotice::Complete { since: asked - STEP, until: clock.go(STEP) });
                if late {
                    introspection_cache.remember_today(1, &owner(1), asked);
                }
                assert_eq!(introspection_cache.recall_today(1), None, "late {late}, end {number}");
                // Asked later: the session of that moment lives, such as the one that a new password began.
                introspection_cache.remember_today(1, &owner(1), clock.monotonic());
                assert_eq!(introspection_cache.recall_today(1), Some(owner(1)));
            }
        }
    }

    #[test]
    fn an_end_is_known_for_as_long_as_anything_asked_before_it_could_count() {
        let (introspection_cache, clock) = introspection_cache(REUSE);
        let asked = clock.go(REUSE - 2 * STEP);
        clock.go(STEP);
        introspection_cache.session_ended(session(1));
        for wait in [STEP, REUSE - 3 * STEP] {
            clock.go(wait);
            introspection_cache.remember_today(1, &owner(1), asked);
            assert_eq!(introspection_cache.recall_today(1), None);
        }
    }

    /// Chance chooses what happens next, the same in every run, and a list of all that ever happened says what is right.
    #[test]
    fn whatever_happens_in_whatever_order_nothing_counts_that_has_ended_or_is_not_vouched_for() {
        let (introspection_cache, clock) = introspection_cache(REUSE);
        let mut state = 1_u64;
        let mut chance = move |of: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % of
        };
        let mut on_their_way = Vec::new();
        // When each session last ended.
        let mut ended = [clock.monotonic(); 4];
        let mut vouched = Vouched { since: clock.monotonic(), until: clock.monotonic() };
        let mut counted = 0;
        for _ in 0..200_000 {
            let pause = [0, 1, 20, 200, 700, 900, 20_000][chance(7) as usize];
            let now = if chance(3) == 0 { clock.go(Duration::from_millis(pause)) } else { clock.go(STEP / 10) };
            let number = chance(4) as usize;
            // Two users with two sessions each.
            let whose = owner(number as u128 / 2);
            match chance(9) {
                0 | 1 => on_their_way.push((number, now)),
                2 | 3 if !on_their_way.is_empty() => {
                    let (number, asked) = on_their_way.swap_remove(chance(on_their_way.len() as u64) as usize);
                    introspection_cache.remember_today(number as u128, &owner(number as u128 / 2), asked);
                }
                4 => {
                    introspection_cache.session_ended(session(number as u128));
                    ended[number] = now;
                }
                5 if chance(3) == 0 => {
                    introspection_cache.user_changed(&whose.username);
                    (ended[number], ended[number ^ 1]) = (now, now);
                }
                6 | 7 => {
                    let since = if chance(20) == 0 { now } else { vouched.since };
                    vouched = Vouched { since, until: now };
                    introspection_cache.hear(ChangeNotice::Complete { since, until: now });
                }
                8 if chance(50) == 0 => {
                    introspection_cache.hear(ChangeNotice::Anything);
                    ended = [now; 4];
                }
                _ => {}
            }
            for (number, ended) in ended.iter().enumerate() {
                let Some(found) = introspection_cache.recall_today(number as u128) else { continue };
                assert_eq!(found, owner(number as u128 / 2));
                let (halves, now) = introspection_cache.now();
                let asked = halves.find(|half| half.checks.get(&session(number as u128))).unwrap().asked;
                assert!(asked > *ended, "session {number} has ended");
                assert!(now - vouched.of(asked) < REUSE && now - asked < WATCH_DURATION, "nobody vouches for {number}");
                counted += 1;
            }
        }
        assert!(counted > 10_000, "only {counted} counted");
    }

    #[test]
    fn a_flood_of_checks_or_ends_takes_no_more_memory_and_revives_nothing() {
        let (introspection_cache, clock) = introspection_cache(REUSE);
        let asked = clock.go(STEP);
        for number in 0..2 * CHECKS_MAX as u128 {
            introspection_cache.remember_today(number, &owner(1), asked);
        }
        assert_eq!(introspection_cache.now().0.young.checks.len(), CHECKS_MAX);
        clock.go(STEP);
        introspection_cache.session_ended(session(1));
        for number in 0..3 * ENDS_MAX as u128 {
            introspection_cache.session_ended(session(1_000_000 + number));
        }
        assert_eq!(introspection_cache.recall_today(1), None);
        introspection_cache.remember_today(1, &owner(1), asked);
        assert_eq!(introspection_cache.recall_today(1), None, "its end is not in the table, and counts");
        assert!(introspection_cache.now().0.young.sessions_ended.len() <= ENDS_MAX);
    }

    #[test]
    fn many_ends_one_after_the_other_leave_what_was_asked_lately() {
        let (introspection_cache, clock) = introspection_cache(REUSE);
        let since = clock.go(STEP);
        introspection_cache.remember_today(1, &owner(1), clock.go(STEP));
        for number in 0..=ENDS_MAX as u128 {
            introspection_cache.hear(ChangeNotice::Complete { since, until: clock.go(STEP) });
            introspection_cache.session_ended(session(1_000_000 + number));
        }
        assert_eq!(introspection_cache.recall_today(1), Some(owner(1)));
        let halves = introspection_cache.now().0;
        assert_eq!((halves.young.sessions_ended.len(), halves.old.sessions_ended.len()), (1, ENDS_MAX));
    }
}
