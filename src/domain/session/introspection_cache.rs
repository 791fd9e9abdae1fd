//! The introspection cache: positive checks of sessions, so that the same tokens do not ask the store each time.
//!
//! A check is valid for less than a second from when the store was asked. A store that watches what was read extends that:
//! it says that it has reported every change up to a moment, and the check is valid from that moment for as long. What this
//! node ends and what the store reports is evicted at once: a check that was asked before the end is never answered after
//! it, even when its answer came later. Negative checks are not cached.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard},
    time::{Duration, Instant, SystemTime},
};

use crate::{
    common::{generations::Generations, lock::lock},
    domain::{
        model::{SessionId, UserId, Username},
        ports::{ChangeNotice, Changed, Clock, WATCH_DURATION},
    },
};

/// Checks in each generation: about 8 MiB in all, with usernames of usual length. Further checks are not cached.
const CHECKS_MAX: usize = 16_384;

/// Ends in each generation. When there are more, the next generation begins; where that is too soon all checks are dropped.
const ENDS_MAX: usize = 16_384;

/// The cache.
pub(in crate::domain) struct IntrospectionCache {
    /// How long a check is valid after the store was asked, or after what the store reported; zero: never.
    reuse: Duration,
    /// Read under the lock, so that times have the order of the events.
    clock: Arc<dyn Clock>,
    state: Mutex<CacheState>,
}

/// The owner of a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::domain) struct SessionOwner {
    pub(in crate::domain) user_id: UserId,
    pub(in crate::domain) username: Username,
    /// The client that the session belongs to.
    pub(in crate::domain) client_id: String,
    /// The session epoch at the login.
    pub(in crate::domain) session_epoch: u64,
}

/// No generation is filled for less than `reuse`. So an end is dropped no sooner than the checks that were cached before it,
/// and is known for `reuse` at least: an answer that was on its way then is not cached later.
struct CacheState {
    table: Generations<Generation>,
    /// When the young generation began.
    since: Instant,
    /// Checks asked before are not valid.
    floor: Instant,
    validity: Validity,
}

#[derive(Default)]
struct Generation {
    checks: HashMap<SessionId, CachedCheck>,
    sessions_ended: HashMap<SessionId, Instant>,
    users_changed: HashMap<Username, Instant>,
}

struct CachedCheck {
    asked: Instant,
    owner: SessionOwner,
    /// When the session expires, by the store's clock.
    expire_time: SystemTime,
}

/// Of checks asked after `since`, the store has reported every change before `until`.
struct Validity {
    since: Instant,
    until: Instant,
}

// === impl IntrospectionCache ===

impl IntrospectionCache {
    pub(in crate::domain) fn new(reuse: Duration, clock: Arc<dyn Clock>) -> Self {
        let now = clock.monotonic();
        let validity = Validity { since: now, until: now };
        let state = CacheState { table: Generations::default(), since: now, floor: now, validity };
        Self { reuse, clock, state: Mutex::new(state) }
    }

    /// Looks up a check that is still valid; `time` is the store's.
    pub(super) fn get(&self, session: SessionId, time: SystemTime) -> Option<SessionOwner> {
        if self.reuse.is_zero() {
            return None;
        }
        let (state, now) = self.now();
        let CachedCheck { asked, owner, expire_time } = state.table.find(|table| table.checks.get(&session))?;
        let is_valid = time < *expire_time
            && now.saturating_duration_since(*asked) < WATCH_DURATION
            && now.saturating_duration_since(state.validity.of(*asked)) < self.reuse
            && state.is_current(*asked, session, &owner.username);
        is_valid.then(|| owner.clone())
    }

    /// Caches a check for which the store was asked at `asked`, of a session that expires at `expire_time`.
    pub(super) fn insert(&self, session: SessionId, owner: &SessionOwner, asked: Instant, expire_time: SystemTime) {
        let (mut state, now) = self.now();
        let young = &state.table.young.checks;
        let mut has_room = young.len() < CHECKS_MAX || young.contains_key(&session);
        if !has_room && now.saturating_duration_since(state.since) >= self.reuse {
            // The full generation was cached for a while: now others are.
            state.begin_generation(now);
            has_room = true;
        }
        // Whatever the store reports: ends are known for this long, so no later answer is cached.
        let is_in_time = now.saturating_duration_since(asked) < self.reuse;
        if has_room && is_in_time && state.is_current(asked, session, &owner.username) {
            let check = CachedCheck { asked, owner: owner.clone(), expire_time };
            state.table.young.checks.insert(session, check);
        }
    }

    /// Evicts a session that has ended, or may have.
    pub(in crate::domain) fn evict_session(&self, session: SessionId) {
        self.evict(|generation, now| generation.sessions_ended.insert(session, now));
    }

    /// Evicts all sessions of a user who was changed, or may have been.
    pub(in crate::domain) fn evict_user(&self, user: &Username) {
        self.evict(|generation, now| generation.users_changed.insert(user.clone(), now));
    }

    /// Applies what the store reports.
    pub(in crate::domain) fn apply(&self, notice: ChangeNotice<Changed>) {
        match notice {
            ChangeNotice::Changed(Changed::Session(session)) => self.evict_session(session),
            ChangeNotice::Changed(Changed::User(user)) => self.evict_user(&user),
            ChangeNotice::Anything => {
                let (mut state, now) = self.now();
                state.evict_all(now);
            }
            ChangeNotice::Complete { since, until } => self.now().0.validity = Validity { since, until },
        }
    }

    fn now(&self) -> (MutexGuard<'_, CacheState>, Instant) {
        let mut state = lock(&self.state);
        let now = self.clock.monotonic();
        let is_watched = now.saturating_duration_since(state.validity.until) < self.reuse;
        let filled_for = if is_watched { WATCH_DURATION } else { self.reuse };
        if now.saturating_duration_since(state.since) >= filled_for {
            state.begin_generation(now);
        }
        (state, now)
    }

    fn evict<T>(&self, add: impl FnOnce(&mut Generation, Instant) -> T) {
        let (mut state, now) = self.now();
        let young = &state.table.young;
        if young.sessions_ended.len() + young.users_changed.len() >= ENDS_MAX {
            if now.saturating_duration_since(state.since) < self.reuse {
                return state.evict_all(now);
            }
            state.begin_generation(now);
        }
        add(&mut state.table.young, now);
    }
}

// === impl CacheState ===

impl CacheState {
    /// Whether nothing has ended since `asked` that a check of then does not know.
    fn is_current(&self, asked: Instant, session: SessionId, user: &Username) -> bool {
        let ended = self.table.find(|generation| generation.sessions_ended.get(&session));
        let changed = self.table.find(|generation| generation.users_changed.get(user));
        [ended, changed, Some(&self.floor)].into_iter().flatten().all(|end| *end < asked)
    }

    fn begin_generation(&mut self, now: Instant) {
        self.table.begin();
        self.since = now;
    }

    fn evict_all(&mut self, now: Instant) {
        self.table.clear();
        self.floor = now;
    }
}

// === impl Validity ===

impl Validity {
    /// The last moment at which a check is known to have been right.
    fn of(&self, asked: Instant) -> Instant {
        if asked > self.since { asked.max(self.until) } else { asked }
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::domain::ports::{Sleep, System};

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

        fn sleep(&self, _: Duration) -> Sleep {
            unreachable!("the cache never waits")
        }
    }

    fn cache(reuse: Duration) -> (IntrospectionCache, Arc<Still>) {
        let clock = Arc::new(Still(Mutex::new(System.monotonic())));
        (IntrospectionCache::new(reuse, clock.clone()), clock)
    }

    fn owner(number: u128) -> SessionOwner {
        let user_id = UserId::parse(&Uuid::from_u128(number).to_string()).unwrap();
        SessionOwner {
            user_id,
            username: Username::parse(&format!("user{number}")).unwrap(),
            client_id: "watchword".into(),
            session_epoch: 0,
        }
    }

    fn session(number: u128) -> SessionId {
        SessionId(Uuid::from_u128(number))
    }

    const TODAY: SystemTime = SystemTime::UNIX_EPOCH;
    const TOMORROW: Duration = Duration::from_secs(86_400);

    impl IntrospectionCache {
        /// A session that ends tomorrow.
        fn insert_today(&self, number: u128, owner: &SessionOwner, asked: Instant) {
            self.insert(session(number), owner, asked, TODAY + TOMORROW);
        }

        fn get_today(&self, number: u128) -> Option<SessionOwner> {
            self.get(session(number), TODAY)
        }
    }

    #[test]
    fn check_is_valid_from_when_the_store_was_asked() {
        let (cache, clock) = cache(REUSE);
        let asked = clock.go(STEP);
        clock.go(REUSE / 2);
        cache.insert_today(1, &owner(1), asked);
        clock.go(REUSE / 2 - STEP);
        assert_eq!(cache.get_today(1), Some(owner(1)));
        assert_eq!(cache.get_today(2), None);
        clock.go(STEP);
        assert_eq!(cache.get_today(1), None);
        cache.insert_today(3, &owner(1), asked);
        assert_eq!(cache.get_today(3), None, "its answer took too long");
    }

    #[test]
    fn full_generation_is_replaced_soon_although_its_checks_are_valid() {
        let (cache, clock) = cache(REUSE);
        let since = clock.go(STEP);
        let complete = |until| cache.apply(ChangeNotice::Complete { since, until });
        let asked = clock.go(STEP);
        for number in 0..CHECKS_MAX as u128 {
            cache.insert_today(number, &owner(number), asked);
        }
        cache.insert_today(1_000_000, &owner(1), asked);
        assert_eq!(cache.get_today(1_000_000), None, "too soon");
        complete(clock.go(REUSE / 2));
        let later = clock.go(REUSE / 2);
        complete(later);
        cache.insert_today(1_000_000, &owner(1), later);
        assert_eq!(cache.get_today(1_000_000), Some(owner(1)));
        assert_eq!(cache.get_today(0), Some(owner(0)), "the full half is still there");
    }

    #[test]
    fn zero_reuse_caches_nothing() {
        let (cache, clock) = cache(Duration::ZERO);
        let asked = clock.go(STEP);
        cache.insert_today(1, &owner(1), asked);
        cache.apply(ChangeNotice::Complete { since: asked - STEP, until: clock.go(STEP) });
        assert_eq!(cache.get_today(1), None);
    }

    #[test]
    fn check_is_valid_while_the_store_reports_and_at_most_for_the_watch_duration() {
        let (cache, clock) = cache(REUSE);
        let since = clock.go(STEP);
        let asked = clock.go(STEP);
        cache.insert_today(1, &owner(1), asked);
        while clock.monotonic() < asked + WATCH_DURATION {
            cache.apply(ChangeNotice::Complete { since, until: clock.monotonic() });
            clock.go(REUSE - STEP);
            let counts = clock.monotonic() < asked + WATCH_DURATION;
            assert_eq!(cache.get_today(1).is_some(), counts, "{:?}", clock.monotonic() - asked);
        }
        let asked = clock.monotonic();
        cache.insert_today(1, &owner(1), asked);
        cache.apply(ChangeNotice::Complete { since, until: clock.go(STEP) });
        clock.go(REUSE);
        assert_eq!(cache.get_today(1), None, "it is no longer validated");
        cache.apply(ChangeNotice::Complete { since, until: clock.monotonic() });
        assert!(cache.get_today(1).is_some(), "nothing was missed meanwhile");
    }

    #[test]
    fn check_asked_before_the_watch_is_not_extended() {
        let (cache, clock) = cache(REUSE);
        let asked = clock.go(STEP);
        cache.insert_today(1, &owner(1), asked);
        for since in [asked, asked + STEP] {
            cache.apply(ChangeNotice::Complete { since, until: clock.go(REUSE / 2) });
            assert_eq!(cache.get_today(1).is_some(), clock.monotonic() < asked + REUSE);
        }
    }

    #[test]
    fn check_expires_with_its_session() {
        let (cache, clock) = cache(REUSE);
        cache.insert_today(1, &owner(1), clock.go(STEP));
        let last = TODAY + TOMORROW - STEP;
        assert_eq!(cache.get(session(1), last), Some(owner(1)));
        assert_eq!(cache.get(session(1), last + STEP), None);
    }

    #[test]
    fn ended_session_is_not_answered_even_when_its_answer_came_after_the_end() {
        let ends: [fn(&IntrospectionCache); 5] = [
            |cache| cache.evict_session(session(1)),
            |cache| cache.evict_user(&owner(1).username),
            |cache| cache.apply(ChangeNotice::Changed(Changed::Session(session(1)))),
            |cache| cache.apply(ChangeNotice::Changed(Changed::User(owner(1).username))),
            |cache| cache.apply(ChangeNotice::Anything),
        ];
        for (number, end) in ends.iter().enumerate() {
            for late in [false, true] {
                let (cache, clock) = cache(REUSE);
                let asked = clock.go(STEP);
                if !late {
                    cache.insert_today(1, &owner(1), asked);
                }
                clock.go(STEP);
                end(&cache);
                cache.apply(ChangeNotice::Complete { since: asked - STEP, until: clock.go(STEP) });
                if late {
                    cache.insert_today(1, &owner(1), asked);
                }
                assert_eq!(cache.get_today(1), None, "late {late}, end {number}");
                // Asked later: the session of that moment lives, such as the one that a new password began.
                cache.insert_today(1, &owner(1), clock.monotonic());
                assert_eq!(cache.get_today(1), Some(owner(1)));
            }
        }
    }

    #[test]
    fn end_is_known_while_a_check_asked_before_it_could_be_valid() {
        let (cache, clock) = cache(REUSE);
        let asked = clock.go(REUSE - 2 * STEP);
        clock.go(STEP);
        cache.evict_session(session(1));
        for wait in [STEP, REUSE - 3 * STEP] {
            clock.go(wait);
            cache.insert_today(1, &owner(1), asked);
            assert_eq!(cache.get_today(1), None);
        }
    }

    /// Chance chooses what happens next, the same in every run, and a list of all that ever happened says what is right.
    #[test]
    fn random_event_order_never_answers_an_ended_or_outdated_check() {
        let (cache, clock) = cache(REUSE);
        let mut state = 1_u64;
        let mut chance = move |of: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % of
        };
        let mut on_their_way = Vec::new();
        // When each session last ended.
        let mut ended = [clock.monotonic(); 4];
        let mut validity = Validity { since: clock.monotonic(), until: clock.monotonic() };
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
                    cache.insert_today(number as u128, &owner(number as u128 / 2), asked);
                }
                4 => {
                    cache.evict_session(session(number as u128));
                    ended[number] = now;
                }
                5 if chance(3) == 0 => {
                    cache.evict_user(&whose.username);
                    (ended[number], ended[number ^ 1]) = (now, now);
                }
                6 | 7 => {
                    let since = if chance(20) == 0 { now } else { validity.since };
                    validity = Validity { since, until: now };
                    cache.apply(ChangeNotice::Complete { since, until: now });
                }
                8 if chance(50) == 0 => {
                    cache.apply(ChangeNotice::Anything);
                    ended = [now; 4];
                }
                _ => {}
            }
            for (number, ended) in ended.iter().enumerate() {
                let Some(found) = cache.get_today(number as u128) else { continue };
                assert_eq!(found, owner(number as u128 / 2));
                let (state, now) = cache.now();
                let asked =
                    state.table.find(|generation| generation.checks.get(&session(number as u128))).unwrap().asked;
                assert!(asked > *ended, "session {number} has ended");
                assert!(now - validity.of(asked) < REUSE && now - asked < WATCH_DURATION, "{number} is not validated");
                counted += 1;
            }
        }
        assert!(counted > 10_000, "only {counted} counted");
    }

    #[test]
    fn flood_of_checks_or_ends_is_bounded_and_revives_no_session() {
        let (cache, clock) = cache(REUSE);
        let asked = clock.go(STEP);
        for number in 0..2 * CHECKS_MAX as u128 {
            cache.insert_today(number, &owner(1), asked);
        }
        assert_eq!(cache.now().0.table.young.checks.len(), CHECKS_MAX);
        clock.go(STEP);
        cache.evict_session(session(1));
        for number in 0..3 * ENDS_MAX as u128 {
            cache.evict_session(session(1_000_000 + number));
        }
        assert_eq!(cache.get_today(1), None);
        cache.insert_today(1, &owner(1), asked);
        assert_eq!(cache.get_today(1), None, "its end is not in the table, and counts");
        assert!(cache.now().0.table.young.sessions_ended.len() <= ENDS_MAX);
    }

    #[test]
    fn many_ends_in_sequence_keep_recent_checks() {
        let (cache, clock) = cache(REUSE);
        let since = clock.go(STEP);
        cache.insert_today(1, &owner(1), clock.go(STEP));
        for number in 0..=ENDS_MAX as u128 {
            cache.apply(ChangeNotice::Complete { since, until: clock.go(STEP) });
            cache.evict_session(session(1_000_000 + number));
        }
        assert_eq!(cache.get_today(1), Some(owner(1)));
        let state = cache.now().0;
        assert_eq!((state.table.young.sessions_ended.len(), state.table.old.sessions_ended.len()), (1, ENDS_MAX));
    }
}
