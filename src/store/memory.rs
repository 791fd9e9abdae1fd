//! The memory store: documents in an ordered map, for tests and for a first look.
//!
//! Keeps nothing after the process ends. Implements the whole contract of the document store but durability and watch. Does
//! not know what documents mean.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound::{Excluded, Included, Unbounded},
    sync::{Arc, Mutex, MutexGuard},
    time::SystemTime,
};

use async_trait::async_trait;
use tokio::sync::watch;

use super::{
    document::{Change, ChangeOutcome, Document, DocumentKey, UnconditionalWrite},
    document_store::{DocumentStore, SCAN_PAGE_DOCUMENTS_MAX, ScanCursor, ScanPage, ScanPosition, ScannedDocument},
    kind::Kind,
};
use crate::{
    common::lock::lock,
    domain::{Clock, StoreError, StoreHealth},
};

/// Expired documents that one change deletes at most; bounds its time.
const EXPIRED_PER_CHANGE_MAX: usize = 64;

/// A store in memory.
pub struct Memory {
    state: Mutex<MemoryState>,
    clock: Arc<dyn Clock>,
    health: watch::Sender<StoreHealth>,
}

#[derive(Default)]
struct MemoryState {
    documents: BTreeMap<DocumentKey, Vec<u8>>,
    expiring: BTreeSet<(SystemTime, DocumentKey)>,
}

impl Memory {
    /// An empty store.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { state: Mutex::default(), clock, health: watch::Sender::new(StoreHealth::Up) }
    }

    fn state(&self) -> MutexGuard<'_, MemoryState> {
        lock(&self.state)
    }
}

impl MemoryState {
    fn put(&mut self, key: DocumentKey, document: Document) {
        // The former document may have had another time of expiry.
        self.remove(&key);
        if let Some(time) = document.expire_time {
            self.expiring.insert((time, key.clone()));
        }
        self.documents.insert(key, document.bytes);
    }

    fn remove(&mut self, key: &DocumentKey) {
        let removed = self.documents.remove(key);
        if let Some(Ok(Some(time))) = removed.map(|bytes| key.kind.expire_time(&bytes)) {
            self.expiring.remove(&(time, key.clone()));
        }
    }

    fn delete_expired(&mut self, now: SystemTime) {
        for _ in 0..EXPIRED_PER_CHANGE_MAX {
            match self.expiring.first() {
                Some((time, _)) if *time < now => {
                    let (_, key) = self.expiring.pop_first().expect("the set has a first element");
                    self.documents.remove(&key);
                }
                Some(_) | None => return,
            }
        }
    }

    fn page(&self, kind: Option<Kind>, after: Option<DocumentKey>) -> Vec<ScannedDocument> {
        let from = match (after, kind) {
            (Some(key), _) => Excluded(key),
            (None, Some(kind)) => Included(DocumentKey::new(kind, "")),
            (None, None) => Unbounded,
        };
        let documents = self.documents.range((from, Unbounded));
        let documents = documents.take_while(|(key, _)| kind.is_none_or(|kind| key.kind == kind));
        let scanned = documents.map(|(key, bytes)| ScannedDocument { key: key.clone(), bytes: bytes.clone() });
        scanned.take(SCAN_PAGE_DOCUMENTS_MAX).collect()
    }
}

#[async_trait]
impl DocumentStore for Memory {
    async fn get(&self, key: &DocumentKey) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.state().documents.get(key).cloned())
    }

    async fn change(
        &self,
        first: Vec<UnconditionalWrite>,
        key: DocumentKey,
        change: Change,
    ) -> Result<ChangeOutcome, StoreError> {
        let mut state = self.state();
        state.delete_expired(self.clock.now());
        for write in first {
            match write.document {
                Some(document) => state.put(write.key, document),
                None => state.remove(&write.key),
            }
        }
        let present = state.documents.get(&key);
        if let Some(refused) = change.refusal(present.map(Vec::as_slice)) {
            return Ok(refused);
        }
        match change {
            Change::Insert(document) | Change::Replace { document, .. } => state.put(key, document),
            Change::Remove { .. } => state.remove(&key),
        }
        Ok(ChangeOutcome::Done)
    }

    async fn scan(&self, kind: Option<Kind>, cursor: Option<ScanCursor>) -> Result<ScanPage, StoreError> {
        let documents = self.state().page(kind, ScanPosition::after(cursor)?);
        Ok(ScanPage::in_key_order(documents))
    }

    fn now(&self) -> SystemTime {
        self.clock.now()
    }

    fn health(&self) -> watch::Receiver<StoreHealth> {
        self.health.subscribe()
    }

    async fn close(&self) {}
}
