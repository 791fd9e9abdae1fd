//! The published keys, kept for a while.
//!
//! A key that is known answers at once, if need be an hour-old one while a new document is fetched. A key that is not known
//! is asked for once, by one fetch for all who wait, and then not for a while: made-up keys must not become a flood of
//! fetches. When the fetch fails, the last good document goes on for an hour.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use super::{
    Clock,
    fetch::Source,
    flight::{Flight, Landing},
    key_set::KeySet,
};

/// How long a document is fresh: as it says itself, between these; and when it does not say.
const FRESH_MIN: Duration = Duration::from_secs(10);
const FRESH_MAX: Duration = Duration::from_secs(3_600);
const FRESH_DEFAULT: Duration = Duration::from_secs(300);

/// How long a document counts at most, while no new one can be had: as long as the longest-lived token. More would bring
/// nothing, since a Watchword that is gone makes no tokens, and would let a key count that was stolen and dropped.
const KEPT: Duration = Duration::from_secs(3_600);

/// Between two fetches for keys that are not known.
const UNKNOWN_PAUSE: Duration = Duration::from_secs(10);

/// Between a fetch that failed and the next.
const RETRY: Duration = Duration::from_secs(1);

/// No key can be had, known or not.
#[derive(Debug)]
pub(super) struct NoKeys;

/// The keys of one issuer.
#[derive(Clone)]
pub(super) struct Keys(Arc<Shared>);

struct Shared {
    source: Source,
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    known: Option<Known>,
    /// When the last fetch began or ended, and whether it has brought a document.
    tried: Option<(Instant, bool)>,
    fetch: Flight,
}

struct Known {
    keys: Arc<KeySet>,
    fetched: Instant,
    fresh: Duration,
}

/// What is to be done for a token.
enum Next {
    Use(Arc<KeySet>),
    Wait(Landing),
}

// === impl Keys ===

impl Keys {
    pub(super) fn of(source: Source, clock: Arc<dyn Clock>) -> Self {
        Self(Arc::new(Shared { source, clock, state: Mutex::default() }))
    }

    /// A set that has the key of tokens that begin with `head`, or the newest set when no key is theirs.
    pub(super) async fn with(&self, head: &str) -> Result<Arc<KeySet>, NoKeys> {
        match self.next(head)? {
            Next::Use(keys) => Ok(keys),
            Next::Wait(landing) => {
                landing.wait().await;
                self.fetched(head)
            }
        }
    }

    fn next(&self, head: &str) -> Result<Next, NoKeys> {
        let now = self.0.clock.monotonic();
        // Held until the fetch has started, so that it starts once.
        let mut state = self.state();
        let keys = state.keys(now);
        let has_key = keys.as_ref().is_some_and(|keys| keys.get(head).is_some());
        let is_fresh = state.known.as_ref().is_some_and(|known| known.age(now) < known.fresh);
        let (tried, succeeded) = state.tried.map_or((Duration::MAX, true), |(at, good)| (now.duration_since(at), good));
        let may_fetch = tried >= if succeeded { UNKNOWN_PAUSE } else { RETRY };
        match keys {
            Some(keys) if has_key => {
                if !is_fresh && may_fetch {
                    self.fetch(&mut state, now);
                }
                Ok(Next::Use(keys))
            }
            _ if may_fetch || state.fetch.is_flying() => Ok(Next::Wait(self.fetch(&mut state, now))),
            // Whether there is such a key can only be said by whoever could ask.
            Some(keys) if succeeded => Ok(Next::Use(keys)),
            Some(_) | None => Err(NoKeys),
        }
    }

    /// What a fetch has brought.
    fn fetched(&self, head: &str) -> Result<Arc<KeySet>, NoKeys> {
        let state = self.state();
        let keys = state.keys(self.0.clock.monotonic()).ok_or(NoKeys)?;
        let has_succeeded = matches!(state.tried, Some((_, true)));
        if has_succeeded || keys.get(head).is_some() { Ok(keys) } else { Err(NoKeys) }
    }

    fn fetch(&self, state: &mut State, now: Instant) -> Landing {
        if !state.fetch.is_flying() {
            // Until it has succeeded it has not.
            state.tried = Some((now, false));
        }
        let keys = self.clone();
        state.fetch.join(async move { keys.fetch_once().await })
    }

    /// The task: leaves a new document, or that there was none.
    async fn fetch_once(&self) {
        let document = self.0.source.fetch().await;
        let read = document.and_then(|document| {
            let keys = KeySet::parse(&document.bytes).ok_or("the answer holds no key for access tokens")?;
            Ok((keys, document.max_age))
        });
        let now = self.0.clock.monotonic();
        match read {
            Ok((keys, max_age)) => {
                let fresh = max_age.unwrap_or(FRESH_DEFAULT).clamp(FRESH_MIN, FRESH_MAX);
                let mut state = self.state();
                state.known = Some(Known { keys: Arc::new(keys), fetched: now, fresh });
                state.tried = Some((now, true));
            }
            Err(cause) => {
                tracing::warn!(%cause, "the keys of access tokens could not be fetched");
                self.state().tried = Some((now, false));
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Keys").field(&self.0.source).finish()
    }
}

impl State {
    /// The last good document, while it counts.
    fn keys(&self, now: Instant) -> Option<Arc<KeySet>> {
        self.known.as_ref().filter(|known| known.age(now) < KEPT).map(|known| known.keys.clone())
    }
}

impl Known {
    fn age(&self, now: Instant) -> Duration {
        now.duration_since(self.fetched)
    }
}
