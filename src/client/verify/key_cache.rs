//! Caches the published keys.
//!
//! A known key is used without waiting while its document is fresh (`Cache-Control: max-age`). In the last quarter of
//! that time a fetch runs in the background. Beyond it, callers wait for a fetch: a key that was dropped is not used
//! again. Only when the fetch has just failed is the old document used, and for a limited time (stale-if-error, RFC
//! 5861 section 4). For an unknown key there is one fetch for all callers, and then none for a while, so that tokens
//! with made-up key ids cause no flood of fetches.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard},
    time::{Duration, Instant},
};

use super::{fetch::DocumentSource, key_set::KeySet};
use crate::{
    client::{
        Clock,
        single_flight::{FlightEnd, SingleFlight},
    },
    common::lock::lock,
};

/// How long a document is fresh: the bounds for its max-age, and the default without one.
const FRESH_MIN: Duration = Duration::from_secs(10);
const FRESH_MAX: Duration = Duration::from_secs(3_600);
const FRESH_DEFAULT: Duration = Duration::from_secs(300);

/// How long a document is used beyond its freshness while fetches fail: the default, and the limit of the setting. An
/// unreachable Watchword issues no tokens, so a time beyond the longest lifetime of a token has no use, and would keep a
/// stolen key valid after it was dropped.
pub(super) const STALE_IF_ERROR_DEFAULT: Duration = Duration::from_secs(600);
pub(super) const STALE_IF_ERROR_MAX: Duration = Duration::from_secs(3_600);

/// For how long a failed fetch says that the keys cannot be fetched. After that callers wait for another one.
const FAILURE_VALID_FOR: Duration = Duration::from_secs(10);

/// The time between two fetches for unknown keys.
const UNKNOWN_KEY_INTERVAL: Duration = Duration::from_secs(10);

/// The time between a failed fetch and the next.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// The keys could not be fetched.
#[derive(Debug)]
pub(super) struct KeysUnavailable;

/// The cached keys of one issuer. Clones share them.
#[derive(Clone)]
pub(super) struct KeyCache(Arc<SharedKeys>);

struct SharedKeys {
    source: DocumentSource,
    stale_if_error: Duration,
    clock: Arc<dyn Clock>,
    state: Mutex<KeyCacheState>,
}

#[derive(Default)]
struct KeyCacheState {
    document: Option<CachedKeySet>,
    /// When the last fetch began or ended, and whether it has succeeded.
    last_fetch: Option<(Instant, bool)>,
    /// When the last fetch failed that no successful one followed.
    failed_at: Option<Instant>,
    fetch: SingleFlight,
}

struct CachedKeySet {
    keys: Arc<KeySet>,
    fetched_at: Instant,
    fresh_for: Duration,
}

/// What the caller does next.
enum CacheStep {
    Use(Arc<KeySet>),
    Wait(FlightEnd),
}

// === impl KeyCache ===

impl KeyCache {
    pub(super) fn new(source: DocumentSource, stale_if_error: Duration, clock: Arc<dyn Clock>) -> Self {
        Self(Arc::new(SharedKeys { source, stale_if_error, clock, state: Mutex::default() }))
    }

    /// A key set with the key for this token header, or the newest key set if there is no such key.
    pub(super) async fn with(&self, header: &str) -> Result<Arc<KeySet>, KeysUnavailable> {
        match self.next_step(header)? {
            CacheStep::Use(keys) => Ok(keys),
            CacheStep::Wait(fetch) => {
                fetch.wait().await;
                self.after_fetch(header)
            }
        }
    }

    fn next_step(&self, header: &str) -> Result<CacheStep, KeysUnavailable> {
        let now = self.0.clock.monotonic();
        // Held until the fetch has started, so that it starts once.
        let mut state = self.state();
        let keys = state.keys(now, self.0.stale_if_error);
        let has_key = keys.as_ref().is_some_and(|keys| keys.get(header).is_some());
        let age = state.document.as_ref().map(|document| (document.age(now), document.fresh_for));
        let is_fresh = age.is_some_and(|(age, fresh_for)| age < fresh_for);
        let is_due = age.is_none_or(|(age, fresh_for)| age >= fresh_for * 3 / 4);
        let never = (Duration::MAX, true);
        let (since_fetch, succeeded) = state.last_fetch.map_or(never, |(at, ok)| (now.duration_since(at), ok));
        let may_fetch = since_fetch >= if succeeded { UNKNOWN_KEY_INTERVAL } else { RETRY_INTERVAL };
        let has_just_failed = state.failed_at.is_some_and(|at| now.duration_since(at) < FAILURE_VALID_FOR);
        match keys {
            Some(keys) if has_key && (is_fresh || has_just_failed) => {
                if is_due && may_fetch {
                    self.fetch(&mut state, now);
                }
                Ok(CacheStep::Use(keys))
            }
            Some(_) if has_key => Ok(CacheStep::Wait(self.fetch(&mut state, now))),
            keys => match state.fetch.running() {
                Some(running) => Ok(CacheStep::Wait(running)),
                None if may_fetch => Ok(CacheStep::Wait(self.fetch(&mut state, now))),
                // Only after a successful fetch is it certain that there is no such key.
                None => keys.filter(|_| succeeded).map(CacheStep::Use).ok_or(KeysUnavailable),
            },
        }
    }

    /// The keys after a fetch.
    fn after_fetch(&self, header: &str) -> Result<Arc<KeySet>, KeysUnavailable> {
        let state = self.state();
        let keys = state.keys(self.0.clock.monotonic(), self.0.stale_if_error).ok_or(KeysUnavailable)?;
        let has_succeeded = matches!(state.last_fetch, Some((_, true)));
        if has_succeeded || keys.get(header).is_some() { Ok(keys) } else { Err(KeysUnavailable) }
    }

    fn fetch(&self, state: &mut KeyCacheState, now: Instant) -> FlightEnd {
        if let Some(running) = state.fetch.running() {
            return running;
        }
        // Not successful until it ends.
        state.last_fetch = Some((now, false));
        let cache = self.clone();
        state.fetch.join(async move { cache.fetch_once().await })
    }

    /// The fetch task: stores the new document, or the failure.
    async fn fetch_once(&self) {
        let document = self.0.source.fetch().await;
        let parsed = document.and_then(|document| {
            let keys = KeySet::parse(&document.bytes).ok_or("the response has no key for access tokens")?;
            Ok((keys, document.max_age))
        });
        let now = self.0.clock.monotonic();
        match parsed {
            Ok((keys, max_age)) => {
                let fresh_for = max_age.unwrap_or(FRESH_DEFAULT).clamp(FRESH_MIN, FRESH_MAX);
                let mut state = self.state();
                state.document = Some(CachedKeySet { keys: Arc::new(keys), fetched_at: now, fresh_for });
                (state.last_fetch, state.failed_at) = (Some((now, true)), None);
            }
            Err(cause) => {
                tracing::warn!(%cause, "the keys of access tokens could not be fetched");
                let mut state = self.state();
                (state.last_fetch, state.failed_at) = (Some((now, false)), Some(now));
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, KeyCacheState> {
        lock(&self.0.state)
    }
}

impl fmt::Debug for KeyCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("KeyCache").field(&self.0.source).finish()
    }
}

impl KeyCacheState {
    /// The keys of the last document, while they may be used at all.
    fn keys(&self, now: Instant, stale_if_error: Duration) -> Option<Arc<KeySet>> {
        let usable = self.document.as_ref().filter(|document| document.age(now) < document.fresh_for + stale_if_error);
        usable.map(|document| document.keys.clone())
    }
}

impl CachedKeySet {
    fn age(&self, now: Instant) -> Duration {
        now.duration_since(self.fetched_at)
    }
}
