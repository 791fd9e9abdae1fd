//! The embedded store as a shelf of documents, for `watchword copy`.

use std::{path::Path, sync::Arc};

use async_trait::async_trait;
use redb::{Database, ReadableDatabase};

use super::{Embedded, OpenError, folder, guarded, tables};
use crate::{
    domain::{Clock, StoreError},
    store::{
        document_store::{Change, DocumentStore, Key, Kind, Outcome},
        transfer::{PAGE_DOCUMENTS_MAX, Placed, Shelf},
    },
};

/// An open store and how far it was read.
pub(in crate::store) struct EmbeddedShelf {
    store: Embedded,
    file: String,
    /// The last document that was read; `None` before the first.
    after: Option<Key>,
}

impl Embedded {
    /// Opens the store in `folder` for copying; makes both when they are not there and `may_be_new`.
    pub(in crate::store) fn shelf(
        folder: &Path,
        may_be_new: bool,
        clock: Arc<dyn Clock>,
    ) -> Result<EmbeddedShelf, OpenError> {
        if !may_be_new && !folder::exists(folder) {
            return Err(OpenError(format!("--data-dir {}: there is no store in it", folder.display())));
        }
        let store = Embedded::open(folder, clock)?;
        Ok(EmbeddedShelf { file: folder.display().to_string(), store, after: None })
    }
}

impl EmbeddedShelf {
    fn failed(&self, cause: impl std::fmt::Display) -> OpenError {
        OpenError(format!("--data-dir {}: {cause}", self.file))
    }
}

#[async_trait]
impl Shelf for EmbeddedShelf {
    async fn next(&mut self) -> Result<Option<Vec<Placed>>, OpenError> {
        let page = guarded(|| page(&self.store.database, self.after.as_ref())).map_err(|cause| self.failed(cause))?;
        self.after = page.last().map(|placed| placed.key.clone());
        Ok((!page.is_empty()).then_some(page))
    }

    fn rewind(&mut self) {
        self.after = None;
    }

    async fn put(&mut self, documents: &[Placed]) -> Result<Vec<Outcome>, OpenError> {
        // All at once, so that the writer makes them one commit.
        let inserts = documents.iter().map(|placed| {
            let document = placed.document().map_err(|why| self.failed(why));
            async { self.insert(placed.key.clone(), Change::Insert(document?)).await }
        });
        futures_util::future::try_join_all(inserts).await
    }

    async fn close(&mut self) {
        self.store.close().await;
    }
}

impl EmbeddedShelf {
    async fn insert(&self, key: Key, change: Change) -> Result<Outcome, OpenError> {
        let changed = self.store.change(Vec::new(), key, change).await;
        changed.map_err(|error| match error {
            StoreError::Unavailable => self.failed("cannot be written"),
            StoreError::OutcomeUnknown => self.failed("could not be written; the log has the cause"),
            StoreError::Corrupt(why) => self.failed(why),
        })
    }
}

/// The documents behind `after`, at most a page of one kind.
fn page(database: &Database, after: Option<&Key>) -> Result<Vec<Placed>, redb::Error> {
    let transaction = database.begin_read()?;
    // Kinds before the last one were read to their end.
    let first = after.and_then(|last| Kind::ALL.iter().position(|kind| *kind == last.kind)).unwrap_or(0);
    for kind in Kind::ALL.into_iter().skip(first) {
        let after = after.filter(|last| last.kind == kind).map(|last| last.name.as_str());
        let page = tables::page(&transaction, kind, after, PAGE_DOCUMENTS_MAX)?;
        if !page.is_empty() {
            return Ok(page.into_iter().map(|(name, bytes)| Placed { key: Key::new(kind, name), bytes }).collect());
        }
    }
    Ok(Vec::new())
}
