//! The document store: get, change, scan and watch of documents. The one trait that every store implements.
//!
//! Every guarantee concerns one key, so that a store can keep each key on another server. `tests/it/store/contract.rs` tests the
//! guarantees for every store. Does not know what documents mean; that is `typed/`.

use std::time::SystemTime;

use async_trait::async_trait;
use tokio::sync::watch;

use super::{
    document::{Change, ChangeOutcome, Document, DocumentKey, UnconditionalWrite},
    kind::Kind,
};
use crate::domain::{ChangeHandler, ConfigurationWarning, CorruptRecord, StoreError, StoreHealth};

/// Documents in one page of a scan at most; bounds its memory, and the time for which a store reads.
pub const SCAN_PAGE_DOCUMENTS_MAX: usize = 500;

/// Documents under keys.
#[async_trait]
pub trait DocumentStore: Send + Sync {
    /// Reads one document. A document may be read for some time after it has expired.
    async fn get(&self, key: &DocumentKey) -> Result<Option<Vec<u8>>, StoreError>;

    /// Reads one document, and reports its later changes to the handler of [`watch`](Self::watch), where the store can.
    async fn get_watched(&self, key: &DocumentKey) -> Result<Option<Vec<u8>>, StoreError> {
        self.get(key).await
    }

    /// Makes one change if its condition holds. The change is durable when this returns.
    ///
    /// The writes in `first` happen before it, whether or not the condition holds, so they must be harmless without it.
    async fn change(
        &self,
        first: Vec<UnconditionalWrite>,
        key: DocumentKey,
        change: Change,
    ) -> Result<ChangeOutcome, StoreError>;

    /// Reads a page of all documents, or of all documents of one kind: from the beginning, or from where `cursor` points.
    ///
    /// The pages of a scan together contain every document that exists during the whole scan. A document that is written or
    /// deleted meanwhile may be in one of them or not. A page has at most [`SCAN_PAGE_DOCUMENTS_MAX`] documents and may be
    /// empty although more pages follow. Redis may answer one document twice, and in any order (SCAN); the other stores
    /// answer in the order of kinds and names.
    async fn scan(&self, kind: Option<Kind>, cursor: Option<ScanCursor>) -> Result<ScanPage, StoreError>;

    /// Reports changes of documents that were read with [`get_watched`](Self::get_watched), from now on. A store that
    /// cannot detect changes reports nothing.
    fn watch(&self, _handler: ChangeHandler<DocumentKey>) {}

    /// The time of the store, which all its nodes share.
    fn now(&self) -> SystemTime;

    /// Whether the store answers, now and at every change of that.
    fn health(&self) -> watch::Receiver<StoreHealth>;

    /// What is wrong with the store although it answers.
    fn warnings(&self) -> Vec<ConfigurationWarning> {
        Vec::new()
    }

    /// Ends all work and closes files and connections.
    async fn close(&self);
}

/// A page of a scan.
pub struct ScanPage {
    /// The documents.
    pub documents: Vec<ScannedDocument>,
    /// Where the next page begins; `None` after the last page.
    pub next: Option<ScanCursor>,
}

/// A document that a scan read.
#[derive(Clone, PartialEq, Eq)]
pub struct ScannedDocument {
    /// Its key.
    pub key: DocumentKey,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

/// Where the next page of a scan begins. Valid for the store that made it and for the kind that was asked for, also after
/// the store was closed and opened again.
#[derive(Clone)]
pub struct ScanCursor(pub(super) ScanPosition);

/// A position in a scan, as the kinds of stores count it.
#[derive(Clone)]
pub(super) enum ScanPosition {
    /// Behind this key, in the order of keys.
    After(DocumentKey),
    /// Where Redis continues, the keys that it has listed and that did not fit into the page, and the number of the
    /// connection: the position is void on another one.
    Redis { cursor: u64, unread: Vec<DocumentKey>, connection: u64 },
}

/// The pages of one scan, one after the other.
pub struct ScanPages<'a> {
    store: &'a dyn DocumentStore,
    kind: Option<Kind>,
    /// `None` after the last page.
    next: Option<Option<ScanCursor>>,
}

// === impl ScanPage ===

impl ScanPage {
    /// A page of a store with an order of keys. A full page is not the last one.
    pub(super) fn in_key_order(documents: Vec<ScannedDocument>) -> Self {
        let last = documents.last().filter(|_| documents.len() == SCAN_PAGE_DOCUMENTS_MAX);
        let next = last.map(|last| ScanCursor(ScanPosition::After(last.key.clone())));
        Self { documents, next }
    }
}

// === impl ScannedDocument ===

impl ScannedDocument {
    /// The document, with the time at which it expires.
    ///
    /// # Errors
    /// That time cannot be read.
    pub(super) fn to_document(&self) -> Result<Document, StoreError> {
        let expire_time = self.key.read(&self.bytes, |bytes| self.key.kind.expire_time(bytes))?;
        Ok(Document { bytes: self.bytes.clone(), expire_time })
    }
}

// === impl ScanPosition ===

impl ScanPosition {
    /// The key behind which a store with an order of keys continues.
    pub(super) fn after(cursor: Option<ScanCursor>) -> Result<Option<DocumentKey>, StoreError> {
        match cursor.map(|ScanCursor(position)| position) {
            None => Ok(None),
            Some(ScanPosition::After(key)) => Ok(Some(key)),
            Some(ScanPosition::Redis { .. }) => Err(foreign_cursor()),
        }
    }
}

pub(super) fn foreign_cursor() -> StoreError {
    let (record, cause) = ("scan cursor".into(), "it is from another kind of store".into());
    StoreError::Corrupt(CorruptRecord { record, cause })
}

// === impl ScanPages ===

impl<'a> ScanPages<'a> {
    /// All documents of `store`, or all of one kind.
    pub fn new(store: &'a dyn DocumentStore, kind: Option<Kind>) -> Self {
        Self { store, kind, next: Some(None) }
    }

    /// The next page; `None` after the last one.
    pub async fn next(&mut self) -> Result<Option<Vec<ScannedDocument>>, StoreError> {
        let Some(cursor) = self.next.take() else { return Ok(None) };
        let ScanPage { documents, next } = self.store.scan(self.kind, cursor).await?;
        self.next = next.map(Some);
        Ok(Some(documents))
    }
}
