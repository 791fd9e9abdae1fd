//! The key ring as it was last read from the store: created when there is none, rotated when it is due.
//!
//! It is read again every minute, so that a node knows in time a ring that another node rotated. While the store does not
//! answer the last ring stays in use: each use of a key also asks the store about a session. A ring that cannot be read
//! is not replaced by an older one: a stolen key may have been dropped from it.

use std::{
    sync::{Arc, RwLock},
    time::{Duration, Instant, SystemTime},
};

use tokio::sync::watch;

use super::ActiveKeyRing;
use crate::{
    common::lock,
    domain::{
        context::CallContext,
        error::{Error, StoreError},
        model::{AddressHash, IpPrefix, KeyRing, StoredKey, UserId},
        ports::{Claim, Environment, Replace, Store, StoreResult, cas_attempts},
    },
};

/// How often the ring is read again.
const READ_INTERVAL: Duration = Duration::from_secs(60);

/// Time until the next reading after a reading that failed.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// The last ring that was read.
pub(in crate::domain) struct KeyRingCache {
    store: Arc<dyn Store>,
    environment: Environment,
    read: RwLock<Option<(Arc<ActiveKeyRing>, Instant)>>,
    /// Held while the ring is read again; other calls go on with the last one.
    reading: tokio::sync::Mutex<()>,
    /// Whether the stored ring could be read the last time.
    readable: watch::Sender<bool>,
}

impl KeyRingCache {
    pub(in crate::domain) fn new(store: Arc<dyn Store>, environment: Environment) -> Self {
        Self {
            store,
            environment,
            read: RwLock::new(None),
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
        if let Some(ring) = self.fresh() {
            return Ok(ring);
        }
        let _reading = match (self.reading.try_lock(), self.last()) {
            (Ok(reading), _) => reading,
            // Another call reads it already.
            (Err(_), Some(ring)) => return Ok(ring),
            (Err(_), None) => self.reading.lock().await,
        };
        match self.fresh() {
            Some(ring) => Ok(ring),
            None => self.read_again().await,
        }
    }

    async fn read_again(&self) -> Result<Arc<ActiveKeyRing>, StoreError> {
        let ring = self.stored().await.and_then(|stored| match self.last() {
            // The verified-token cache of an unchanged ring is kept.
            Some(last) if *last.stored() == stored => Ok(last),
            Some(_) | None => ActiveKeyRing::new(&stored).map(Arc::new),
        });
        self.readable.send_if_modified(|was| {
            let is = !matches!(ring, Err(StoreError::Corrupt(_)));
            std::mem::replace(was, is) != is
        });
        let now = self.environment.clock.monotonic();
        match ring {
            Ok(ring) => {
                self.keep(Some((ring.clone(), now)));
                Ok(ring)
            }
            Err(error @ (StoreError::Unavailable | StoreError::OutcomeUnknown)) => {
                let ring = self.last().ok_or(error)?;
                self.keep(Some((ring.clone(), now + RETRY_AFTER - READ_INTERVAL)));
                Ok(ring)
            }
            Err(error @ StoreError::Corrupt(_)) => {
                self.keep(None);
                Err(error)
            }
        }
    }

    /// Changes the stored ring and goes on with the changed one. Answers the key that the change is about and whether
    /// anything changed; `None` when other nodes were always faster.
    pub(in crate::domain) async fn change(
        &self,
        change: impl Fn(&KeyRing, SystemTime) -> (KeyRing, StoredKey),
    ) -> Result<Option<(StoredKey, bool)>, StoreError> {
        // A call that reads the ring meanwhile must not bring the old one back.
        let _reading = self.reading.lock().await;
        for () in cas_attempts() {
            self.stored().await?;
            let Some(seen) = self.store.keys().await? else { continue };
            let (ring, key) = change(&seen.value, self.store.now());
            if ring == seen.value {
                return Ok(Some((key, false)));
            }
            let active = Arc::new(ActiveKeyRing::new(&ring)?);
            // The write may take effect although its answer is lost: what was read before is no longer known to be valid.
            self.keep(None);
            if self.store.replace_keys(&seen.revision, &ring).await? == Replace::Replaced {
                self.keep(Some((active, self.environment.clock.monotonic())));
                return Ok(Some((key, true)));
            }
        }
        Ok(None)
    }

    /// The ring that the store has when this returns.
    async fn stored(&self) -> Result<KeyRing, StoreError> {
        let store = &*self.store;
        let Some(stored) = store.keys().await? else {
            let ring = KeyRing::new(store.now(), self.environment.entropy.bytes().into());
            return Ok(match store.claim_keys(&ring).await? {
                Claim::Claimed => ring,
                Claim::Taken(other) => other.value,
            });
        };
        let Some(next) = stored.value.rotated(store.now()) else { return Ok(stored.value) };
        match store.replace_keys(&stored.revision, &next).await? {
            Replace::Replaced => {
                tracing::info!("signing keys were rotated");
                Ok(next)
            }
            // Another node rotated at the same moment; the next reading shows its ring.
            Replace::Changed => Ok(stored.value),
        }
    }

    fn keep(&self, read: Option<(Arc<ActiveKeyRing>, Instant)>) {
        *lock::write(&self.read) = read;
    }

    fn fresh(&self) -> Option<Arc<ActiveKeyRing>> {
        let read = lock::read(&self.read);
        let (ring, at) = read.as_ref()?;
        (self.environment.since(*at) < READ_INTERVAL).then(|| ring.clone())
    }

    fn last(&self) -> Option<Arc<ActiveKeyRing>> {
        lock::read(&self.read).as_ref().map(|(ring, _)| ring.clone())
    }
}
