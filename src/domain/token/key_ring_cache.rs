//! The key ring as it was last read from the store: created when there is none, rotated when it is due.
//!
//! A ring is used for less than a second after the store was asked, so what another node dropped is refused within a
//! second. A token of a key that the ring lacks has it read again, once for all callers and rate-limited: new keys are
//! valid on all nodes at once, and made-up key ids do not flood the store. Without an answer of the store no token is
//! valid; public keys and new challenges then come from the last ring. A ring that cannot be decoded is not replaced by
//! an older one: a stolen key may have been dropped from it.

use std::{
    sync::{
        Arc, RwLock,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use tokio::sync::watch;

use super::ActiveKeyRing;
use crate::{
    common::lock,
    domain::{
        context::CallContext,
        error::{Error, StoreError},
        model::{AddressHash, IpPrefix, KeyRing, UserId},
        ports::{Claim, Environment, Replace, Store, StoreResult, cas_attempts},
    },
};

/// How long a ring is used after the store was asked. With the time of an answer it is less than a second.
const USED_FOR: Duration = Duration::from_millis(800);

/// The time between two readings for keys that the ring lacks.
const UNKNOWN_KEY_INTERVAL: Duration = Duration::from_millis(50);

/// The last ring that was read.
pub(in crate::domain) struct KeyRingCache {
    store: Arc<dyn Store>,
    environment: Environment,
    last: RwLock<LastReading>,
    /// How many readings have begun. A reading that began after a call arrived is valid for the call.
    begun: AtomicU64,
    /// Held while the ring is read.
    reading: tokio::sync::Mutex<()>,
    /// Whether the stored ring could be decoded the last time.
    readable: watch::Sender<bool>,
}

#[derive(Default)]
struct LastReading {
    /// The ring, and when the store was asked. Stays while the store does not answer.
    ring: Option<(Arc<ActiveKeyRing>, Instant)>,
    /// Which reading ended last, and its error.
    ended: u64,
    error: Option<StoreError>,
}

impl KeyRingCache {
    pub(in crate::domain) fn new(store: Arc<dyn Store>, environment: Environment) -> Self {
        Self {
            store,
            environment,
            last: RwLock::default(),
            begun: AtomicU64::new(0),
            reading: tokio::sync::Mutex::new(()),
            readable: watch::Sender::new(true),
        }
    }

    /// Whether the stored ring can be read, now and whenever that changes.
    pub(in crate::domain) fn readable(&self) -> watch::Receiver<bool> {
        self.readable.subscribe()
    }

    /// The ring, for a call.
    ///
    /// # Errors
    /// `StoreUnavailable`; `CorruptRecord`.
    pub(in crate::domain) async fn key_ring(&self) -> Result<Arc<ActiveKeyRing>, Error> {
        self.get().await.or_report(&self.environment)
    }

    /// The ring, for a call with a token of either kind. If the token names a key that the ring lacks, it is read again.
    ///
    /// # Errors
    /// `StoreUnavailable`; `CorruptRecord`.
    pub(in crate::domain) async fn key_ring_for(&self, token: &str) -> Result<Arc<ActiveKeyRing>, Error> {
        let ring = self.key_ring().await?;
        if !ring.lacks_key_of(token) {
            return Ok(ring);
        }
        self.read_since(UNKNOWN_KEY_INTERVAL).await.or_report(&self.environment)
    }

    /// The ring, for what does no harm with an older one: the last one while the store does not answer.
    ///
    /// # Errors
    /// `StoreUnavailable` when the ring was never read; `CorruptRecord`.
    pub(in crate::domain) async fn last_key_ring(&self) -> Result<Arc<ActiveKeyRing>, Error> {
        match (self.get().await, self.last()) {
            (Err(StoreError::Unavailable | StoreError::OutcomeUnknown), Some(last)) => Ok(last),
            (ring, _) => ring.or_report(&self.environment),
        }
    }

    /// The keyed hash of the client's address for a user; `None` where the address is not known.
    ///
    /// # Errors
    /// `StoreUnavailable`; `CorruptRecord`.
    pub(in crate::domain) async fn address_hash(
        &self,
        context: &CallContext,
        user: Option<UserId>,
    ) -> Result<Option<AddressHash>, Error> {
        let Some(prefix) = context.client.map(IpPrefix::of) else { return Ok(None) };
        Ok(Some(self.key_ring().await?.address_hash(user, prefix)))
    }

    async fn get(&self) -> Result<Arc<ActiveKeyRing>, StoreError> {
        match self.fresh() {
            Some(ring) => Ok(ring),
            None => self.read_since(Duration::ZERO).await,
        }
    }

    /// Reads the ring, or takes what another call has read since this one arrived. `interval` is the time from the last
    /// reading to this one at least.
    async fn read_since(&self, interval: Duration) -> Result<Arc<ActiveKeyRing>, StoreError> {
        let arrived = self.begun.load(Ordering::SeqCst);
        let _reading = self.reading.lock().await;
        let (known, wait) = {
            let last = lock::read(&self.last);
            let age = last.ring.as_ref().map_or(interval, |(_, asked)| self.environment.since(*asked));
            (last.outcome().filter(|_| last.ended > arrived), interval.saturating_sub(age))
        };
        if let Some(known) = known {
            return known;
        }
        if !wait.is_zero() {
            self.environment.clock.sleep(wait).await;
        }
        self.read_again().await
    }

    async fn read_again(&self) -> Result<Arc<ActiveKeyRing>, StoreError> {
        let reading = self.begun.fetch_add(1, Ordering::SeqCst) + 1;
        let asked = self.environment.clock.monotonic();
        let ring = self.stored().await.and_then(|stored| match self.last() {
            // The verified-token cache of an unchanged ring is kept.
            Some(last) if *last.stored() == stored => Ok(last),
            Some(_) | None => ActiveKeyRing::new(&stored).map(Arc::new),
        });
        self.readable.send_if_modified(|was| {
            let is = !matches!(ring, Err(StoreError::Corrupt(_)));
            std::mem::replace(was, is) != is
        });
        let mut last = lock::write(&self.last);
        last.ring = match &ring {
            Ok(ring) => Some((ring.clone(), asked)),
            Err(StoreError::Unavailable | StoreError::OutcomeUnknown) => last.ring.take(),
            Err(StoreError::Corrupt(_)) => None,
        };
        (last.ended, last.error) = (reading, ring.as_ref().err().cloned());
        ring
    }

    /// Changes the stored ring and goes on with the changed one. Answers what the change answers and whether anything
    /// changed; `None` when other nodes were always faster.
    pub(in crate::domain) async fn change<T>(
        &self,
        change: impl Fn(&KeyRing, SystemTime) -> (KeyRing, T),
    ) -> Result<Option<(T, bool)>, StoreError> {
        // A call that reads the ring meanwhile must not bring the old one back.
        let _reading = self.reading.lock().await;
        for () in cas_attempts() {
            self.stored().await?;
            let Some(seen) = self.store.keys().await? else { continue };
            let (ring, answer) = change(&seen.value, self.store.now());
            if ring == seen.value {
                return Ok(Some((answer, false)));
            }
            let active = Arc::new(ActiveKeyRing::new(&ring)?);
            // The write may take effect although its answer is lost: what was read before is no longer known to be valid.
            lock::write(&self.last).ring = None;
            let asked = self.environment.clock.monotonic();
            if self.store.replace_keys(&seen.revision, &ring).await? == Replace::Replaced {
                lock::write(&self.last).ring = Some((active, asked));
                return Ok(Some((answer, true)));
            }
        }
        Ok(None)
    }

    /// The ring that the store has when this returns.
    async fn stored(&self) -> Result<KeyRing, StoreError> {
        let (store, entropy) = (&*self.store, &*self.environment.entropy);
        let new_secret = || entropy.bytes();
        let Some(stored) = store.keys().await? else {
            let ring = KeyRing::new(store.now(), &new_secret);
            return Ok(match store.claim_keys(&ring).await? {
                Claim::Claimed => ring,
                Claim::Taken(other) => other.value,
            });
        };
        let Some(next) = stored.value.rotated(store.now(), &new_secret) else { return Ok(stored.value) };
        match store.replace_keys(&stored.revision, &next).await? {
            Replace::Replaced => {
                tracing::info!("the key ring was rotated");
                Ok(next)
            }
            // Another node rotated at the same moment; the next reading shows its ring.
            Replace::Changed => Ok(stored.value),
        }
    }

    fn fresh(&self) -> Option<Arc<ActiveKeyRing>> {
        let last = lock::read(&self.last);
        let (ring, asked) = last.ring.as_ref()?;
        (self.environment.since(*asked) < USED_FOR).then(|| ring.clone())
    }

    fn last(&self) -> Option<Arc<ActiveKeyRing>> {
        lock::read(&self.last).ring.as_ref().map(|(ring, _)| ring.clone())
    }
}

impl LastReading {
    /// What the reading found; `None` when a change of the ring has begun since, whose outcome is not known.
    fn outcome(&self) -> Option<Result<Arc<ActiveKeyRing>, StoreError>> {
        match (&self.error, &self.ring) {
            (Some(error), _) => Some(Err(error.clone())),
            (None, Some((ring, _))) => Some(Ok(ring.clone())),
            (None, None) => None,
        }
    }
}
