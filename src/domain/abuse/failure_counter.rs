//! Counts consecutive failed attempts of each username: durable, shared by all nodes, and the same for usernames without a
//! user.
//!
//! A failed attempt costs no write: this node keeps it in memory and stores all of them together each second. Until then it
//! counts on this node. A record expires after the last failed attempt: one hour for each of them, at most 90 days. So made-up
//! usernames that are tried once leave no more records than one hour has hashes.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard},
    time::{Duration, SystemTime},
};

use futures_util::StreamExt;

use super::{
    pending_attempts::{PendingAttempts, Sent, Void},
    rate_limit::RateLimitSettings,
};
use crate::{
    common::{lock::lock, time::CLOCK_TOLERANCE},
    domain::{
        error::StoreError,
        model::{ByEvidence, Evidence, FailedAttempts, FailureCount, UsernameHash},
        ports::{Replace, Store, cas_attempts},
    },
};

/// Usernames that may wait to be stored. Beyond it no attempt may begin, because it could not be counted.
const USERNAMES_PENDING_MAX: usize = 65_536;

/// Usernames stored at once.
const WRITES_IN_FLIGHT_MAX: usize = 256;

/// Nodes that may admit attempts at one account at the same time, before they know of each other's. A GCRA state of as many
/// periods is what they add up to.
const NODES_MAX: u32 = 16;

/// The failed attempts that wait to be stored.
pub(super) struct FailureCounter {
    /// The periods of the limits of an account; zero where it has none.
    periods: ByEvidence<Duration>,
    pending: Mutex<Pending>,
    /// Held during a write: what was read before a username was cleared must not be stored after it.
    storing: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct Pending {
    by_username: HashMap<UsernameHash, PendingAttempts>,
    version: u64,
}

/// What counts of a username now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct AttemptState {
    /// Consecutive failed attempts.
    pub(super) counts: ByEvidence<u32>,
    /// The GCRA states of the account.
    pub(super) gcra: ByEvidence<Duration>,
}

impl FailureCounter {
    pub(super) fn new(settings: &RateLimitSettings) -> Self {
        let periods =
            ByEvidence::each(|evidence| settings.at_account(evidence).map_or(Duration::ZERO, |rate| rate.period));
        Self { periods, pending: Mutex::default(), storing: tokio::sync::Mutex::default() }
    }

    /// Counts one more failed attempt, which added so much to the account's GCRA state. Answers the consecutive failed
    /// attempts with this evidence, given what was read of them.
    pub(super) fn failed(
        &self,
        username: UsernameHash,
        evidence: Evidence,
        gcra_increase: Duration,
        read: Option<&FailedAttempts>,
        now: SystemTime,
    ) -> u32 {
        let pending = self.change(username, now, |pending, _| {
            let increase = pending.increases.of_mut(evidence);
            increase.count = increase.count.saturating_add(1);
            increase.gcra += gcra_increase;
            pending.last_time = now;
        });
        let merged = pending.merged(self.credible(read, now).as_ref());
        merged.map_or(0, |attempts| attempts.counts.of(evidence).consecutive)
    }

    /// Resets these counters: an attempt succeeded.
    pub(super) fn succeeded(&self, username: UsernameHash, reset: ByEvidence<bool>, now: SystemTime) {
        self.change(username, now, |pending, version| {
            pending.void = pending.void.with_counts(reset);
            for evidence in Evidence::ALL {
                if *reset.of(evidence) {
                    pending.increases.of_mut(evidence).count = 0;
                }
            }
            pending.void_version = version;
            (pending.floor, pending.sent) = (None, None);
        });
    }

    /// Clears everything: there is a new password, or an operator unlocked the account.
    pub(super) fn clear(&self, username: UsernameHash, now: SystemTime) {
        self.change(username, now, |pending, version| {
            *pending = PendingAttempts { void: Void::All, void_version: version, ..PendingAttempts::new(now) };
        });
    }

    /// Whether one more username can be counted.
    pub(super) fn has_capacity(&self) -> bool {
        self.pending().by_username.len() < USERNAMES_PENDING_MAX
    }

    /// What counts of a username, given what is stored.
    pub(super) fn state(
        &self,
        username: UsernameHash,
        stored: Option<&FailedAttempts>,
        now: SystemTime,
    ) -> AttemptState {
        let Some(attempts) = self.attempts(username, stored, now) else { return AttemptState::default() };
        AttemptState {
            counts: attempts.consecutive(),
            gcra: ByEvidence::each(|evidence| {
                attempts.counts.of(evidence).clear_time.duration_since(now).unwrap_or_default()
            }),
        }
    }

    /// The consecutive failed attempts of a username, given what is stored.
    pub(super) fn attempts(
        &self,
        username: UsernameHash,
        stored: Option<&FailedAttempts>,
        now: SystemTime,
    ) -> Option<FailedAttempts> {
        let pending = self.pending().by_username.get(&username).copied().unwrap_or(PendingAttempts::new(now));
        let merged = pending.merged(self.credible(stored, now).as_ref());
        // What this node counted while its clock was wrong is corrected too.
        self.credible(merged.as_ref(), now)
    }

    /// What is stored, if it still counts. GCRA states are shortened to what attempts can have caused, and never ignored.
    fn credible(&self, stored: Option<&FailedAttempts>, now: SystemTime) -> Option<FailedAttempts> {
        let stored = stored.filter(|stored| stored.forget_time() > now)?;
        let stored = stored.with_credible_times(now);
        let counts = stored.counts.zip(&self.periods, |count, period| {
            // A limit that was turned off or shortened leaves a longer state behind.
            let latest = now + NODES_MAX * *period + CLOCK_TOLERANCE;
            FailureCount { clear_time: count.clear_time.min(latest), ..*count }
        });
        Some(FailedAttempts { counts, ..stored })
    }

    /// Stores what waits of one username, now; `false` when other nodes were always faster.
    pub(super) async fn store_one(&self, store: &dyn Store, username: UsernameHash) -> Result<bool, StoreError> {
        let _storing = self.storing.lock().await;
        self.write(store, username).await
    }

    /// Stores everything that waits. What cannot be stored now goes on waiting.
    pub(super) async fn store_all(&self, store: &dyn Store) {
        let _storing = self.storing.lock().await;
        let usernames: Vec<_> = {
            let mut pending = self.pending();
            pending.by_username.retain(|_, pending| pending.is_pending());
            pending.by_username.keys().copied().collect()
        };
        let writes = futures_util::stream::iter(usernames).map(async |username| {
            match self.write(store, username).await {
                Ok(true) => {}
                Ok(false) => tracing::debug!("other nodes were faster to count a failed attempt; it is stored later"),
                // The store logs its own state.
                Err(error) => tracing::debug!(?error, "failed attempts were not stored; they are stored later"),
            }
        });
        writes.buffer_unordered(WRITES_IN_FLIGHT_MAX).collect::<()>().await;
    }

    /// Stores what waits of one username; `false` when other nodes were always faster.
    async fn write(&self, store: &dyn Store, username: UsernameHash) -> Result<bool, StoreError> {
        for () in cas_attempts() {
            let seen = store.failures(username).await?;
            let (seen, before) = seen.map_or((None, None), |seen| (Some(seen.revision), Some(seen.value)));
            let Some((sent, merged)) = self.begin_write(username, before.as_ref(), store.now()) else {
                return Ok(true);
            };
            if store.replace_failures(username, seen.as_ref(), merged.as_ref()).await? == Replace::Replaced {
                self.end_write(username, sent, merged);
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// What to store of a username over what was just read; `None` when the store has it all.
    fn begin_write(
        &self,
        username: UsernameHash,
        before: Option<&FailedAttempts>,
        now: SystemTime,
    ) -> Option<(PendingAttempts, Option<FailedAttempts>)> {
        let mut all = self.pending();
        let pending = all.by_username.get_mut(&username)?;
        if !pending.is_pending() {
            return None;
        }
        // The floor is only for readers.
        let merged = PendingAttempts { floor: None, ..*pending }.merged(self.credible(before, now).as_ref());
        let merged = merged.filter(|merged| merged.forget_time() > now);
        let increases = pending.increases;
        if merged.as_ref() == before {
            pending.stored(&increases, merged);
            return None;
        }
        pending.sent = merged.map(|merged| Sent { merged, increases });
        Some((*pending, merged))
    }

    /// Takes away what was stored; attempts that came meanwhile go on waiting.
    fn end_write(&self, username: UsernameHash, sent: PendingAttempts, merged: Option<FailedAttempts>) {
        let mut all = self.pending();
        let Some(now) = all.by_username.get_mut(&username) else { return };
        // Another version: an attempt succeeded meanwhile, which makes all that was stored void.
        if now.void_version == sent.void_version {
            now.stored(&sent.increases, merged);
        }
    }

    fn change(
        &self,
        username: UsernameHash,
        now: SystemTime,
        change: impl FnOnce(&mut PendingAttempts, u64),
    ) -> PendingAttempts {
        let mut all = self.pending();
        all.version += 1;
        let version = all.version;
        let pending = all.by_username.entry(username).or_insert(PendingAttempts::new(now));
        if !pending.is_pending() {
            (pending.first_time, pending.last_time) = (now, now);
        }
        change(pending, version);
        *pending
    }

    fn pending(&self) -> MutexGuard<'_, Pending> {
        lock(&self.pending)
    }
}
