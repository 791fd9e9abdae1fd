//! Counts consecutive failed attempts of each username: durable, shared by all nodes, and the same for usernames without a
//! user.
//!
//! A failed attempt costs no write: this node keeps it in memory and stores all of them together each second. Until then it
//! counts on this node. Each failed attempt delays the end of its record by an hour, to 90 days from now at most. So made-up
//! usernames leave on average no more records than one hour has hashes.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard},
    time::{Duration, SystemTime},
};

use futures_util::StreamExt;

use super::{
    pending_attempts::{Changes, PendingAttempts},
    price,
    rate_limit::RateLimitSettings,
};
use crate::{
    common::{lock::lock, time::CLOCK_TOLERANCE},
    domain::{
        error::StoreError,
        model::{ByEvidence, ConsecutiveFailures, FailedAttempts, FailureCount, UsernameHash},
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
    pending: Mutex<HashMap<UsernameHash, PendingAttempts>>,
    /// Held during a write: what was read before a username was cleared must not be stored after it.
    storing: tokio::sync::Mutex<()>,
}

/// What counts of a username now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct AttemptState {
    pub(super) failures: ConsecutiveFailures,
    /// The GCRA states of the account.
    pub(super) gcra: ByEvidence<Duration>,
    /// The failed attempts that set the price of a proof of work.
    pub(super) price_failures: u32,
}

impl FailureCounter {
    pub(super) fn new(settings: &RateLimitSettings) -> Self {
        let periods =
            ByEvidence::each(|evidence| settings.at_account(evidence).map_or(Duration::ZERO, |rate| rate.period));
        Self { periods, pending: Mutex::default(), storing: tokio::sync::Mutex::default() }
    }

    /// Counts a failed attempt. Answers the consecutive failed attempts before and after it, given what was read of them.
    pub(super) fn failed(
        &self,
        username: UsernameHash,
        failure: Changes,
        read: Option<&FailedAttempts>,
        now: SystemTime,
    ) -> [ConsecutiveFailures; 2] {
        let mut all = self.pending();
        let pending = all.entry(username).or_default();
        let before = self.merged(pending, read, now);
        pending.change(failure, now);
        [before, self.merged(pending, read, now)].map(|all| all.map_or_else(Default::default, |all| all.consecutive()))
    }

    /// Resets these counters: an attempt succeeded.
    pub(super) fn succeeded(&self, username: UsernameHash, reset: ByEvidence<bool>, now: SystemTime) {
        self.pending().entry(username).or_default().change(Changes::reset(reset), now);
    }

    /// Clears everything: there is a new password, or an operator unlocked the account.
    pub(super) fn clear(&self, username: UsernameHash, now: SystemTime) {
        self.pending().entry(username).or_default().change(Changes::clear(), now);
    }

    /// Whether one more username can be counted.
    pub(super) fn has_capacity(&self) -> bool {
        self.pending().len() < USERNAMES_PENDING_MAX
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
            failures: attempts.consecutive(),
            gcra: ByEvidence::each(|evidence| {
                attempts.counts.of(evidence).clear_time.duration_since(now).unwrap_or_default()
            }),
            price_failures: price::failures(&attempts, now),
        }
    }

    /// The consecutive failed attempts of a username, given what is stored.
    pub(super) fn attempts(
        &self,
        username: UsernameHash,
        stored: Option<&FailedAttempts>,
        now: SystemTime,
    ) -> Option<FailedAttempts> {
        match self.pending().get_mut(&username) {
            Some(pending) => self.merged(pending, stored, now),
            None => self.credible(stored, now),
        }
    }

    fn merged(
        &self,
        pending: &mut PendingAttempts,
        stored: Option<&FailedAttempts>,
        now: SystemTime,
    ) -> Option<FailedAttempts> {
        let stored = self.credible(stored, now);
        self.credible(pending.merged(stored.as_ref(), now).as_ref(), now)
    }

    /// What is stored, if it still counts. GCRA states are shortened to what attempts can have caused, and never ignored.
    fn credible(&self, stored: Option<&FailedAttempts>, now: SystemTime) -> Option<FailedAttempts> {
        let stored = stored?.with_credible_times(now).without_forgotten(now);
        let counts = stored.counts.zip(&self.periods, |count, period| {
            // A limit that was turned off or shortened leaves a longer state behind.
            let latest = now + NODES_MAX * *period + CLOCK_TOLERANCE;
            FailureCount { clear_time: count.clear_time.min(latest), ..*count }
        });
        Some(FailedAttempts { counts, ..stored }).filter(|credible| credible.is_kept(now))
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
            let mut all = self.pending();
            all.retain(|_, pending| pending.is_pending());
            all.keys().copied().collect()
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
            let now = store.now();
            let before = self.credible(before.as_ref(), now);
            let merged = self.change(username, |pending| pending.begin_write(before.as_ref(), now)).flatten();
            let Some(merged) = merged else { return Ok(true) };
            // After an error it is not known whether the store has it.
            match store.replace_failures(username, seen.as_ref(), merged.as_ref()).await? {
                Replace::Replaced => {
                    self.change(username, PendingAttempts::end_write);
                    return Ok(true);
                }
                Replace::Changed => self.change(username, PendingAttempts::refuse_write),
            };
        }
        Ok(false)
    }

    fn change<T>(&self, username: UsernameHash, change: impl FnOnce(&mut PendingAttempts) -> T) -> Option<T> {
        self.pending().get_mut(&username).map(change)
    }

    fn pending(&self) -> MutexGuard<'_, HashMap<UsernameHash, PendingAttempts>> {
        lock(&self.pending)
    }
}
