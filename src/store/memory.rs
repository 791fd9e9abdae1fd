//! Documents in a map: for tests and for a first look. Nothing outlives the process.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

use async_trait::async_trait;
use tokio::sync::watch;

use super::{
    codec,
    document_store::{Change, Document, DocumentStore, Key, Outcome, Put},
};
use crate::domain::{Clock, StoreError, StoreHealth};

/// Documents forgotten with each change at most; bounds its time.
const FORGOTTEN_MAX: usize = 64;

/// A store in memory.
pub struct Memory {
    kept: Mutex<Kept>,
    clock: Arc<dyn Clock>,
    pulse: watch::Sender<StoreHealth>,
}

#[derive(Default)]
struct Kept {
    documents: HashMap<Key, Vec<u8>>,
    expiring: BTreeSet<(SystemTime, Key)>,
}

impl Memory {
    /// An empty store.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { kept: Mutex::default(), clock, pulse: watch::Sender::new(StoreHealth::Up) }
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        // Nothing that can panic stands between two halves of a change.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    fn put(&mut self, key: Key, document: Document) {
        // What was there may have expired at another time.
        self.remove(&key);
        if let Some(time) = document.expire_time {
            self.expiring.insert((time, key.clone()));
        }
        self.documents.insert(key, document.bytes);
    }

    fn remove(&mut self, key: &Key) {
        let removed = self.documents.remove(key);
        if let Some(Ok(Some(time))) = removed.map(|bytes| codec::expire_time(key.kind, &bytes)) {
            self.expiring.remove(&(time, key.clone()));
        }
    }

    fn forget(&mut self, now: SystemTime) {
        for _ in 0..FORGOTTEN_MAX {
            match self.expiring.first() {
                Some((time, _)) if *time < now => {
                    let (_, key) = self.expiring.pop_first().expect("it was just seen");
                    self.documents.remove(&key);
                }
                Some(_) | None => return,
            }
        }
    }
}

#[async_trait]
impl DocumentStore for Memory {
    async fn get(&self, key: &Key) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.kept().documents.get(key).cloned())
    }

    async fn change(&self, first: Vec<Put>, key: Key, change: Change) -> Result<Outcome, StoreError> {
        let mut kept = self.kept();
        kept.forget(self.clock.now());
        for put in first {
            match put.document {
                Some(document) => kept.put(put.key, document),
                None => kept.remove(&put.key),
            }
        }
        let present = kept.documents.get(&key);
        if let Some(refused) = change.refusal(present.map(Vec::as_slice)) {
            return Ok(refused);
        }
        match change {
            Change::Insert(document) | Change::Replace { document, .. } => kept.put(key, document),
            Change::Remove { .. } => kept.remove(&key),
        }
        Ok(Outcome::Done)
    }

    fn now(&self) -> SystemTime {
        self.clock.now()
    }

    fn health(&self) -> watch::Receiver<StoreHealth> {
        self.pulse.subscribe()
    }

    async fn close(&self) {}
}
