//! The tables of the database file: one for each kind, one for expiry, one for what the file is.
//!
//! The tables of documents follow from the table of kinds. A table that a file of an earlier version lacks counts as empty,
//! except those that every file has: without them the file is damaged. Does not know when a transaction commits, nor what
//! documents mean.

use std::ops::Bound::{Excluded, Unbounded};

use redb::{
    AccessGuard, ReadOnlyTable, ReadTransaction, ReadableTable, Table, TableDefinition, TableError, WriteTransaction,
};

use super::commit_delay::COMMIT_CHANGES_MAX;
use crate::store::{
    document::{Change, ChangeOutcome, Document, DocumentKey, UnconditionalWrite, unix_millis},
    document_store::{SCAN_PAGE_DOCUMENTS_MAX, ScannedDocument},
    kind::{Content, Kind},
};

/// What the file is. The first commit writes it.
pub(super) const META: TableDefinition<'_, &str, &str> = TableDefinition::new("meta");

/// Milliseconds since 1970, and the kind and name of a document that expires then.
const EXPIRING: TableDefinition<'_, (u64, &str, &str), ()> = TableDefinition::new("expiring");

/// The tables that the first version had.
const IN_EVERY_FILE: [Kind; 2] = [Kind::Id, Kind::User];

/// Expired documents that one commit deletes at most: more than a commit can add, so that none pile up.
const EXPIRED_PER_COMMIT_MAX: usize = 2 * COMMIT_CHANGES_MAX;

type Text = &'static str;
type Bytes = &'static [u8];

/// The table of a kind. Its values have the type of the kind's content.
enum KindTable<T, J> {
    Text(T),
    Json(J),
}

type ReadableKindTable = KindTable<ReadOnlyTable<Text, Text>, ReadOnlyTable<Text, Bytes>>;
type WritableKindTable<'t> = KindTable<Table<'t, Text, Text>, Table<'t, Text, Bytes>>;

// === reading ===

/// Reads one document.
pub(super) fn get(transaction: &ReadTransaction, key: &DocumentKey) -> Result<Option<Vec<u8>>, redb::Error> {
    match open(transaction, key.kind)? {
        Some(table) => table.get(&key.name),
        None => Ok(None),
    }
}

/// Reads a page of documents behind `after`, in the order of keys.
pub(super) fn page(
    transaction: &ReadTransaction,
    kind: Option<Kind>,
    after: Option<&DocumentKey>,
) -> Result<Vec<ScannedDocument>, redb::Error> {
    let mut page = Vec::new();
    let is_ahead = |of: &Kind| after.is_none_or(|after| after.kind <= *of) && kind.is_none_or(|kind| kind == *of);
    for kind in Kind::ALL.iter().copied().filter(is_ahead) {
        if let Some(table) = open(transaction, kind)? {
            let after = after.filter(|after| after.kind == kind).map(|after| after.name.as_str());
            table.append_to_page(&mut page, kind, after)?;
        }
    }
    Ok(page)
}

/// Whether the tables are there that every file has.
pub(super) fn check(transaction: &ReadTransaction) -> Result<(), redb::Error> {
    for kind in IN_EVERY_FILE {
        open(transaction, kind)?;
    }
    Ok(())
}

/// The table of a kind; `None` where it is empty, because an earlier version made the file.
fn open(transaction: &ReadTransaction, kind: Kind) -> Result<Option<ReadableKindTable>, redb::Error> {
    let opened = match kind.content() {
        Content::Text => transaction.open_table(TableDefinition::new(kind.name())).map(KindTable::Text),
        Content::Json => transaction.open_table(TableDefinition::new(kind.name())).map(KindTable::Json),
    };
    match opened {
        Ok(table) => Ok(Some(table)),
        Err(TableError::TableDoesNotExist(_)) if !IN_EVERY_FILE.contains(&kind) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

impl<T: ReadableTable<Text, Text>, J: ReadableTable<Text, Bytes>> KindTable<T, J> {
    fn get(&self, name: &str) -> Result<Option<Vec<u8>>, redb::Error> {
        Ok(match self {
            KindTable::Text(table) => table.get(name)?.map(|text| owned_text(&text)),
            KindTable::Json(table) => table.get(name)?.map(|bytes| owned(&bytes)),
        })
    }

    /// Fills the page with the documents behind `after`.
    fn append_to_page(
        &self,
        page: &mut Vec<ScannedDocument>,
        kind: Kind,
        after: Option<&str>,
    ) -> Result<(), redb::Error> {
        let (range, most) = ((after.map_or(Unbounded, Excluded), Unbounded), SCAN_PAGE_DOCUMENTS_MAX - page.len());
        match self {
            KindTable::Text(table) => {
                for row in table.range::<&str>(range)?.take(most) {
                    let (name, text) = row?;
                    page.push(ScannedDocument { key: DocumentKey::new(kind, name.value()), bytes: owned_text(&text) });
                }
            }
            KindTable::Json(table) => {
                for row in table.range::<&str>(range)?.take(most) {
                    let (name, bytes) = row?;
                    page.push(ScannedDocument { key: DocumentKey::new(kind, name.value()), bytes: owned(&bytes) });
                }
            }
        }
        Ok(())
    }
}

fn owned(bytes: &AccessGuard<'_, Bytes>) -> Vec<u8> {
    bytes.value().to_vec()
}

fn owned_text(text: &AccessGuard<'_, Text>) -> Vec<u8> {
    text.value().into()
}

// === writing ===

/// All tables, open for one commit.
pub(super) struct CommitTables<'t> {
    /// In the order of [`Kind::ALL`], so that a kind is its own index.
    kinds: Vec<WritableKindTable<'t>>,
    expiring: Table<'t, (u64, Text, Text), ()>,
}

impl WritableKindTable<'_> {
    /// Writes a document and returns the former one.
    fn insert(&mut self, name: &str, bytes: &[u8]) -> Result<Option<Vec<u8>>, redb::Error> {
        Ok(match self {
            KindTable::Text(table) => {
                let text = std::str::from_utf8(bytes);
                let text = text.map_err(|_| redb::Error::Corrupted("a text is not UTF-8".into()))?;
                table.insert(name, text)?.map(|text| owned_text(&text))
            }
            KindTable::Json(table) => table.insert(name, bytes)?.map(|bytes| owned(&bytes)),
        })
    }

    /// Deletes a document and returns it.
    fn remove(&mut self, name: &str) -> Result<Option<Vec<u8>>, redb::Error> {
        Ok(match self {
            KindTable::Text(table) => table.remove(name)?.map(|text| owned_text(&text)),
            KindTable::Json(table) => table.remove(name)?.map(|bytes| owned(&bytes)),
        })
    }
}

impl<'t> CommitTables<'t> {
    pub(super) fn open(transaction: &'t WriteTransaction) -> Result<Self, redb::Error> {
        let mut kinds = Vec::with_capacity(Kind::ALL.len());
        for kind in Kind::ALL {
            kinds.push(match kind.content() {
                Content::Text => KindTable::Text(transaction.open_table(TableDefinition::new(kind.name()))?),
                Content::Json => KindTable::Json(transaction.open_table(TableDefinition::new(kind.name()))?),
            });
        }
        Ok(Self { kinds, expiring: transaction.open_table(EXPIRING)? })
    }

    /// Makes one change, if its condition holds.
    pub(super) fn apply(
        &mut self,
        first: &[UnconditionalWrite],
        key: &DocumentKey,
        change: &Change,
    ) -> Result<ChangeOutcome, redb::Error> {
        for write in first {
            match &write.document {
                Some(document) => self.put(&write.key, document)?,
                None => self.remove(&write.key)?,
            }
        }
        let present = self.kinds[key.kind as usize].get(&key.name)?;
        if let Some(refused) = change.refusal(present.as_deref()) {
            return Ok(refused);
        }
        match change {
            Change::Insert(document) | Change::Replace { document, .. } => self.put(key, document)?,
            Change::Remove { .. } => self.remove(key)?,
        }
        Ok(ChangeOutcome::Done)
    }

    /// Deletes some documents that have expired; says whether there were any.
    pub(super) fn delete_expired(&mut self, now_millis: u64) -> Result<bool, redb::Error> {
        let mut expired = Vec::new();
        for row in self.expiring.range(..(now_millis, "", ""))?.take(EXPIRED_PER_COMMIT_MAX) {
            let row = row?.0;
            let (time, kind, name) = row.value();
            expired.push((time, kind.to_owned(), name.to_owned()));
        }
        for (time, kind, name) in &expired {
            self.expiring.remove((*time, kind.as_str(), name.as_str()))?;
            if let Some(kind) = Kind::of_name(kind) {
                self.remove(&DocumentKey::new(kind, name.as_str()))?;
            }
        }
        Ok(!expired.is_empty())
    }

    fn put(&mut self, key: &DocumentKey, document: &Document) -> Result<(), redb::Error> {
        let former = self.kinds[key.kind as usize].insert(&key.name, &document.bytes)?;
        self.remove_expiry(key, former)?;
        if let Some(time) = document.expire_time {
            self.expiring.insert((unix_millis(time), key.kind.name(), key.name.as_str()), ())?;
        }
        Ok(())
    }

    fn remove(&mut self, key: &DocumentKey) -> Result<(), redb::Error> {
        let removed = self.kinds[key.kind as usize].remove(&key.name)?;
        self.remove_expiry(key, removed)
    }

    /// Removes the expiry row of a document that is gone; otherwise it would stay for months. The row of a document that
    /// cannot be read stays.
    fn remove_expiry(&mut self, key: &DocumentKey, gone: Option<Vec<u8>>) -> Result<(), redb::Error> {
        if let Some(Ok(Some(time))) = gone.map(|bytes| key.kind.expire_time(&bytes)) {
            self.expiring.remove((unix_millis(time), key.kind.name(), key.name.as_str()))?;
        }
        Ok(())
    }
}
