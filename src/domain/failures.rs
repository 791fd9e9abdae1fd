//! How often in a row a name's password was not the right one: durable, shared by all nodes, and the same for names that
//! nobody has.
//!
//! A wrong guess costs no write: this node remembers it, adds it up with others, and stores all of them together each
//! second. What is not stored yet counts here all the same. A count is forgotten some time after the last failure: an hour
//! after the first one, and so many hours more as the square of the count, 90 days at most. So whoever makes up names
//! fills the store with those of an hour.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use aws_lc_rs::hmac;
use futures_util::StreamExt;

use super::{Replace, Store, StoreError, Username, change_user::CAS_ATTEMPTS_MAX, to_the_millisecond};

/// Names whose failures may wait to be stored; beyond it nobody may guess, since nobody would count.
const NAMES_WAITING_MAX: usize = 65_536;

/// Names stored at once.
const STORED_AT_ONCE_MAX: usize = 256;

/// How long a count of one is kept, and how long any is at most.
const KEPT_FOR: Duration = Duration::from_secs(3_600);
const KEPT_FOR_MAX: Duration = Duration::from_secs(90 * 86_400);

/// So many times as long as any backlog can be is one that nobody can have made.
const CREDIBLE: u32 = 4;

/// Stands for a name where failures are kept: nobody who reads them learns who was tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct UsernameHash(pub(crate) [u8; 16]);

impl UsernameHash {
    pub(super) fn new(key: &hmac::Key, name: &Username) -> Self {
        let mut tag = [0; 16];
        tag.copy_from_slice(&hmac::sign(key, name.as_str().as_bytes()).as_ref()[..16]);
        Self(tag)
    }
}

/// What is stored of a name's failures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FailedAttempts {
    /// In a row.
    pub count: u32,
    /// When the last one was.
    pub last_time: SystemTime,
    /// Until when the account's backlog lasts (`throttle/`).
    pub clear_time: SystemTime,
}

impl FailedAttempts {
    /// When they are of no more use.
    pub fn forget_time(&self) -> SystemTime {
        let kept_for = KEPT_FOR.saturating_mul(self.count.saturating_mul(self.count)).min(KEPT_FOR_MAX);
        (self.last_time + kept_for).max(self.clear_time)
    }
}

/// What this node knows and the store does not.
#[derive(Debug, Clone, Copy)]
struct Unstored {
    /// What was stored before and no longer counts.
    void: Void,
    /// Failures since then.
    count: u32,
    /// By how much they have made the account's backlog longer.
    backlog: Duration,
    first_time: SystemTime,
    last_time: SystemTime,
    /// Another one after each change that makes what was before void, so that one is seen that came while this was stored.
    void_version: u64,
    /// What was stored a moment ago: whoever read before that must not miss it.
    floor: Option<FailedAttempts>,
    tried: Option<Tried>,
}

/// What was sent to the store; whoever reads it there must not add it again, even when nobody has heard that it was stored.
#[derive(Debug, Clone, Copy)]
struct Tried {
    kept: FailedAttempts,
    /// What of it was new.
    count: u32,
    backlog: Duration,
}

/// What of a stored count is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Void {
    Nothing,
    /// The password was right: the row is broken.
    Count,
    /// There is another password: the backlog is of no more use either.
    All,
}

/// The failures that wait to be stored.
pub(super) struct FailureCounter {
    /// How long an account's backlog can be.
    backlog_max: Duration,
    waiting: Mutex<(HashMap<UsernameHash, Unstored>, u64)>,
    /// Held while anything is stored: what was seen before a name was forgotten must not be stored after it.
    storing: tokio::sync::Mutex<()>,
}

/// What counts of a name.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Standing {
    /// Failures in a row.
    pub(super) count: u32,
    /// How long the stored backlog takes.
    pub(super) backlog: Duration,
}

impl FailureCounter {
    pub(super) fn new(backlog_max: Duration) -> Self {
        Self { backlog_max, waiting: Mutex::default(), storing: tokio::sync::Mutex::default() }
    }

    /// One more failure, which has made the account's backlog longer by so much. Answers how many there are in a row, given
    /// what was read of them.
    pub(super) fn failed(
        &self,
        tag: UsernameHash,
        backlog: Duration,
        read: Option<&FailedAttempts>,
        now: SystemTime,
    ) -> u32 {
        let unstored = self.change(tag, now, |waiting, _| {
            waiting.count = waiting.count.saturating_add(1);
            waiting.backlog += backlog;
            waiting.last_time = now;
        });
        unstored.over(self.credible(read, now).as_ref()).map_or(0, |failures| failures.count)
    }

    /// The password was right.
    pub(super) fn succeeded(&self, tag: UsernameHash, now: SystemTime) {
        self.change(tag, now, |waiting, version| {
            waiting.void = if waiting.void == Void::All { Void::All } else { Void::Count };
            (waiting.count, waiting.void_version) = (0, version);
            (waiting.floor, waiting.tried) = (None, None);
        });
    }

    /// There is another password, or an operator has said that it is over.
    pub(super) fn forget(&self, tag: UsernameHash, now: SystemTime) {
        self.change(tag, now, |waiting, version| {
            *waiting = Unstored { void: Void::All, void_version: version, ..Unstored::new(now) };
        });
    }

    /// Whether one more name can be counted.
    pub(super) fn has_room(&self) -> bool {
        self.waiting().0.len() < NAMES_WAITING_MAX
    }

    /// What counts of a name, given what is stored.
    pub(super) fn standing(&self, tag: UsernameHash, stored: Option<&FailedAttempts>, now: SystemTime) -> Standing {
        let kept = self.failures(tag, stored, now);
        Standing {
            count: kept.map_or(0, |kept| kept.count),
            backlog: kept.map_or(Duration::ZERO, |kept| kept.clear_time.duration_since(now).unwrap_or_default()),
        }
    }

    /// The failures of a name in a row, given what is stored.
    pub(super) fn failures(
        &self,
        tag: UsernameHash,
        stored: Option<&FailedAttempts>,
        now: SystemTime,
    ) -> Option<FailedAttempts> {
        let waiting = self.waiting().0.get(&tag).copied().unwrap_or(Unstored::new(now));
        waiting.over(self.credible(stored, now).as_ref())
    }

    /// What is stored, if it still counts. A backlog that nobody can have made was made by another clock, or under other
    /// settings, and would keep everybody out for as long as they differ.
    fn credible(&self, stored: Option<&FailedAttempts>, now: SystemTime) -> Option<FailedAttempts> {
        let stored = stored.filter(|stored| stored.forget_time() > now)?;
        let clear_time = if stored.clear_time > now + CREDIBLE * self.backlog_max { now } else { stored.clear_time };
        Some(FailedAttempts { clear_time, ..*stored })
    }

    /// Stores what waits of one name, now; `false` when other nodes were always faster.
    pub(super) async fn store_one(&self, store: &dyn Store, tag: UsernameHash) -> Result<bool, StoreError> {
        let _storing = self.storing.lock().await;
        self.write(store, tag).await
    }

    /// Stores all that waits. What cannot be stored now goes on waiting.
    pub(super) async fn store(&self, store: &dyn Store) {
        let _storing = self.storing.lock().await;
        let waiting: Vec<_> = {
            let mut waiting = self.waiting();
            waiting.0.retain(|_, unstored| unstored.is_unstored());
            waiting.0.keys().copied().collect()
        };
        let storing = futures_util::stream::iter(waiting).map(async |tag| {
            match self.write(store, tag).await {
                Ok(true) => {}
                Ok(false) => tracing::debug!("other nodes were faster to count a failure; it is counted later"),
                // The store says by itself what is wrong with it.
                Err(error) => tracing::debug!(?error, "failures were not stored; they are later"),
            }
        });
        storing.buffer_unordered(STORED_AT_ONCE_MAX).collect::<()>().await;
    }

    /// Stores what waits of one name; `false` when other nodes were always faster.
    async fn write(&self, store: &dyn Store, tag: UsernameHash) -> Result<bool, StoreError> {
        for _ in 0..CAS_ATTEMPTS_MAX {
            let seen = store.failures(tag).await?;
            let (seen, before) = seen.map_or((None, None), |seen| (Some(seen.revision), Some(seen.value)));
            let Some((unstored, kept)) = self.begin(tag, before.as_ref(), store.now()) else { return Ok(true) };
            if store.replace_failures(tag, seen.as_ref(), kept.as_ref()).await? == Replace::Replaced {
                self.stored(tag, unstored, kept);
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// What to store of a name over what was just read; nothing when that has it all.
    fn begin(
        &self,
        tag: UsernameHash,
        before: Option<&FailedAttempts>,
        now: SystemTime,
    ) -> Option<(Unstored, Option<FailedAttempts>)> {
        let mut waiting = self.waiting();
        let unstored = waiting.0.get_mut(&tag)?;
        if !unstored.is_unstored() {
            return None;
        }
        // The floor is only for those who look.
        let kept = Unstored { floor: None, ..*unstored }.over(self.credible(before, now).as_ref());
        let kept = kept.filter(|kept| kept.forget_time() > now);
        if kept.as_ref() == before {
            let Unstored { count, backlog, .. } = *unstored;
            unstored.is_stored(count, backlog, kept);
            return None;
        }
        unstored.tried = kept.map(|kept| Tried { kept, count: unstored.count, backlog: unstored.backlog });
        Some((*unstored, kept))
    }

    /// What was stored waits no more; what came meanwhile does.
    fn stored(&self, tag: UsernameHash, stored: Unstored, kept: Option<FailedAttempts>) {
        let mut waiting = self.waiting();
        let Some(now) = waiting.0.get_mut(&tag) else { return };
        // Otherwise the password was right in between, which makes all that was stored void.
        if now.void_version == stored.void_version {
            now.is_stored(stored.count, stored.backlog, kept);
        }
    }

    fn change(&self, tag: UsernameHash, now: SystemTime, change: impl FnOnce(&mut Unstored, u64)) -> Unstored {
        let mut waiting = self.waiting();
        waiting.1 += 1;
        let version = waiting.1;
        let unstored = waiting.0.entry(tag).or_insert(Unstored::new(now));
        if !unstored.is_unstored() {
            (unstored.first_time, unstored.last_time) = (now, now);
        }
        change(unstored, version);
        *unstored
    }

    fn waiting(&self) -> MutexGuard<'_, (HashMap<UsernameHash, Unstored>, u64)> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Unstored {
    fn new(now: SystemTime) -> Self {
        Self {
            void: Void::Nothing,
            count: 0,
            backlog: Duration::ZERO,
            first_time: now,
            last_time: now,
            void_version: 0,
            floor: None,
            tried: None,
        }
    }

    /// Whether it says anything that was not stored.
    fn is_unstored(&self) -> bool {
        self.void != Void::Nothing || self.count > 0
    }

    /// So much of it is in the store now, which holds this.
    fn is_stored(&mut self, count: u32, backlog: Duration, kept: Option<FailedAttempts>) {
        self.void = Void::Nothing;
        self.count -= count;
        self.backlog -= backlog;
        (self.first_time, self.floor, self.tried) = (self.last_time, kept, None);
    }

    /// This together with what is stored; nothing, when that is all that is left.
    fn over(&self, stored: Option<&FailedAttempts>) -> Option<FailedAttempts> {
        let mut unstored = *self;
        if let Some(tried) = self.tried.filter(|tried| stored == Some(&tried.kept)) {
            unstored.is_stored(tried.count, tried.backlog, None);
        }
        let before = later(stored.copied(), unstored.floor).filter(|_| unstored.void != Void::All);
        if !unstored.is_unstored() {
            return before;
        }
        let Unstored { void, count, backlog, first_time, last_time, .. } = unstored;
        if before.is_none() && count == 0 && backlog.is_zero() {
            return None;
        }
        let before_count = before.filter(|_| void == Void::Nothing).map_or(0, |before| before.count);
        let clear_time = before.map_or(first_time, |before| before.clear_time.max(first_time)) + backlog;
        let last_time = before.map_or(last_time, |before| before.last_time.max(last_time));
        let [last_time, clear_time] = [last_time, clear_time].map(to_the_millisecond);
        Some(FailedAttempts { count: before_count.saturating_add(count), last_time, clear_time })
    }
}

/// The one with more failures.
fn later(one: Option<FailedAttempts>, other: Option<FailedAttempts>) -> Option<FailedAttempts> {
    one.into_iter().chain(other).max_by_key(|failures| (failures.count, failures.clear_time))
}
