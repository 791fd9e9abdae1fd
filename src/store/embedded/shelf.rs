//! The embedded store as a shelf of documents, for `watchword copy`.

use std::{ops::Bound, path::Path, sync::Arc};

use async_trait::async_trait;
use redb::{Database, ReadableDatabase, ReadableTable};

use super::{Embedded, IDS, USERS, folder, guarded};
use crate::{
    domain::{Clock, Store},
    store::{
        OpenError,
        copy::{Document, Kind, PAGE_DOCUMENTS_MAX, Put, Shelf},
    },
};

/// An open store and how far it was read.
pub(in crate::store) struct EmbeddedShelf {
    store: Embedded,
    file: String,
    /// The last document that was read; `None` before the first.
    after: Option<(Kind, String)>,
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
    fn failed(&self, cause: &redb::Error) -> OpenError {
        OpenError(format!("--data-dir {}: {cause}", self.file))
    }
}

#[async_trait]
impl Shelf for EmbeddedShelf {
    async fn next(&mut self) -> Result<Option<Vec<Document>>, OpenError> {
        let page = guarded(|| page(&self.store.database, self.after.as_ref())).map_err(|cause| self.failed(&cause))?;
        self.after = page.last().map(|document| (document.kind, document.key.clone()));
        Ok((!page.is_empty()).then_some(page))
    }

    fn rewind(&mut self) {
        self.after = None;
    }

    async fn put(&mut self, documents: &[Document]) -> Result<Vec<Put>, OpenError> {
        guarded(|| put(&self.store.database, documents)).map_err(|cause| self.failed(&cause))
    }

    async fn close(&mut self) {
        self.store.close().await;
    }
}

/// The documents behind `after`, at most a page of one kind.
fn page(database: &Database, after: Option<&(Kind, String)>) -> Result<Vec<Document>, redb::Error> {
    let transaction = database.begin_read()?;
    let users = transaction.open_table(USERS)?;
    let ids = transaction.open_table(IDS)?;
    let mut page = Vec::new();
    // Kinds before the last one were read to their end.
    let first = after.and_then(|(last, _)| Kind::ALL.iter().position(|kind| kind == last)).unwrap_or(0);
    for kind in Kind::ALL.into_iter().skip(first) {
        let from = match after {
            Some((last, key)) if *last == kind => Bound::Excluded(key.as_str()),
            Some(_) | None => Bound::Unbounded,
        };
        let range = (from, Bound::<&str>::Unbounded);
        match kind {
            Kind::User => {
                for entry in users.range::<&str>(range)?.take(PAGE_DOCUMENTS_MAX) {
                    let (key, document) = entry?;
                    page.push(Document { kind, key: key.value().into(), bytes: document.value().into() });
                }
            }
            Kind::Id => {
                for entry in ids.range::<&str>(range)?.take(PAGE_DOCUMENTS_MAX) {
                    let (key, name) = entry?;
                    page.push(Document { kind, key: key.value().into(), bytes: name.value().into() });
                }
            }
        }
        if !page.is_empty() {
            break;
        }
    }
    Ok(page)
}

fn put(database: &Database, documents: &[Document]) -> Result<Vec<Put>, redb::Error> {
    let mut transaction = database.begin_write()?;
    transaction.set_quick_repair(true);
    let mut outcomes = Vec::with_capacity(documents.len());
    {
        let mut users = transaction.open_table(USERS)?;
        let mut ids = transaction.open_table(IDS)?;
        for document in documents {
            let key = document.key.as_str();
            let present = match document.kind {
                Kind::User => users.get(key)?.map(|present| present.value() == document.bytes),
                Kind::Id => ids.get(key)?.map(|present| present.value().as_bytes() == document.bytes),
            };
            outcomes.push(match present {
                Some(true) => Put::Same,
                Some(false) => Put::Different,
                None => Put::New,
            });
            if present.is_none() {
                match document.kind {
                    Kind::User => drop(users.insert(key, document.bytes.as_slice())?),
                    Kind::Id => drop(ids.insert(key, text(&document.bytes)?)?),
                }
            }
        }
    }
    transaction.commit()?;
    Ok(outcomes)
}

fn text(bytes: &[u8]) -> Result<&str, redb::Error> {
    // Whoever the source is, it holds what no Watchword wrote.
    std::str::from_utf8(bytes).map_err(|_| redb::Error::Corrupted("a name in the source is not UTF-8".into()))
}
