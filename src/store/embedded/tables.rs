//! Which table of the file keeps what.

use redb::{ReadTransaction, ReadableTable, Table, TableDefinition, TableError, WriteTransaction};

use crate::store::{
    codec,
    document_store::{Change, Document, Key, Kind, Outcome, Put, millis},
};

/// User id -> canonical username.
const IDS: TableDefinition<'_, &str, &str> = TableDefinition::new("id");
/// What the file is; written by the first commit.
pub(super) const META: TableDefinition<'_, &str, &str> = TableDefinition::new("meta");
/// Milliseconds since 1970, and the kind and name of what is forgotten then.
const EXPIRING: TableDefinition<'_, (u64, &str, &str), ()> = TableDefinition::new("expiring");

/// Documents forgotten in one commit at most; bounds its time.
const FORGOTTEN_MAX: usize = 64;

/// The table of every kind but ids.
fn definition(kind: Kind) -> TableDefinition<'static, &'static str, &'static [u8]> {
    TableDefinition::new(kind.name())
}

/// Reads one document.
pub(super) fn get(transaction: &ReadTransaction, key: &Key) -> Result<Option<Vec<u8>>, redb::Error> {
    let name = key.name.as_str();
    match key.kind {
        Kind::Id => Ok(own_text(transaction.open_table(IDS)?.get(name)?)),
        Kind::User => Ok(own(transaction.open_table(definition(Kind::User))?.get(name)?)),
        Kind::Session | Kind::Sessions | Kind::Keys | Kind::Once | Kind::FailedAttempts => {
            match there(transaction.open_table(definition(key.kind)))? {
                Some(table) => Ok(own(table.get(name)?)),
                None => Ok(None),
            }
        }
    }
}

/// Whether the tables are there that every file has; a file without them is damaged, not empty.
pub(super) fn check(transaction: &ReadTransaction) -> Result<(), redb::Error> {
    transaction.open_table(IDS)?;
    transaction.open_table(definition(Kind::User))?;
    Ok(())
}

fn own(value: Option<redb::AccessGuard<'_, &'static [u8]>>) -> Option<Vec<u8>> {
    value.map(|value| value.value().to_vec())
}

fn own_text(value: Option<redb::AccessGuard<'_, &'static str>>) -> Option<Vec<u8>> {
    value.map(|value| value.value().into())
}

/// A file of an earlier version lacks the tables that came later; they are as good as empty.
fn there<T>(opened: Result<T, TableError>) -> Result<Option<T>, redb::Error> {
    match opened {
        Ok(table) => Ok(Some(table)),
        Err(TableError::TableDoesNotExist(_)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// The documents of one kind behind `after`, in the order of their keys, at most so many.
pub(super) fn page(
    transaction: &ReadTransaction,
    kind: Kind,
    after: Option<&str>,
    most: usize,
) -> Result<Vec<(String, Vec<u8>)>, redb::Error> {
    use std::ops::Bound::{Excluded, Unbounded};
    let range = (after.map_or(Unbounded, Excluded), Unbounded);
    let mut page = Vec::new();
    match kind {
        Kind::Id => {
            if let Some(table) = there(transaction.open_table(IDS))? {
                for entry in table.range::<&str>(range)?.take(most) {
                    let (key, value) = entry?;
                    page.push((key.value().to_owned(), value.value().into()));
                }
            }
        }
        Kind::User | Kind::Session | Kind::Sessions | Kind::Keys | Kind::Once | Kind::FailedAttempts => {
            if let Some(table) = there(transaction.open_table(definition(kind)))? {
                for entry in table.range::<&str>(range)?.take(most) {
                    let (key, value) = entry?;
                    page.push((key.value().to_owned(), value.value().to_vec()));
                }
            }
        }
    }
    Ok(page)
}

/// All tables, open for one commit.
pub(super) struct Tables<'t> {
    ids: Table<'t, &'static str, &'static str>,
    users: Table<'t, &'static str, &'static [u8]>,
    sessions: Table<'t, &'static str, &'static [u8]>,
    lists: Table<'t, &'static str, &'static [u8]>,
    keys: Table<'t, &'static str, &'static [u8]>,
    once: Table<'t, &'static str, &'static [u8]>,
    failures: Table<'t, &'static str, &'static [u8]>,
    expiring: Table<'t, (u64, &'static str, &'static str), ()>,
}

impl<'t> Tables<'t> {
    pub(super) fn open(transaction: &'t WriteTransaction) -> Result<Self, redb::Error> {
        Ok(Self {
            ids: transaction.open_table(IDS)?,
            users: transaction.open_table(definition(Kind::User))?,
            sessions: transaction.open_table(definition(Kind::Session))?,
            lists: transaction.open_table(definition(Kind::Sessions))?,
            keys: transaction.open_table(definition(Kind::Keys))?,
            once: transaction.open_table(definition(Kind::Once))?,
            failures: transaction.open_table(definition(Kind::FailedAttempts))?,
            expiring: transaction.open_table(EXPIRING)?,
        })
    }

    fn of(&mut self, kind: Kind) -> Option<&mut Table<'t, &'static str, &'static [u8]>> {
        match kind {
            Kind::Id => None,
            Kind::User => Some(&mut self.users),
            Kind::Session => Some(&mut self.sessions),
            Kind::Sessions => Some(&mut self.lists),
            Kind::Keys => Some(&mut self.keys),
            Kind::Once => Some(&mut self.once),
            Kind::FailedAttempts => Some(&mut self.failures),
        }
    }

    pub(super) fn get(&mut self, key: &Key) -> Result<Option<Vec<u8>>, redb::Error> {
        let name = key.name.as_str();
        match self.of(key.kind) {
            Some(table) => Ok(own(table.get(name)?)),
            None => Ok(own_text(self.ids.get(name)?)),
        }
    }

    pub(super) fn put(&mut self, key: &Key, document: &Document) -> Result<(), redb::Error> {
        let name = key.name.as_str();
        match self.of(key.kind) {
            Some(table) => {
                let before = own(table.insert(name, document.bytes.as_slice())?);
                // What was there may have expired at another time.
                self.expires_no_more(key, before)?;
            }
            None => {
                let text = std::str::from_utf8(&document.bytes);
                let text = text.map_err(|_| redb::Error::Corrupted("a name is not UTF-8".into()))?;
                self.ids.insert(name, text)?;
            }
        }
        if let Some(time) = document.expire_time {
            self.expiring.insert((millis(time), key.kind.name(), name), ())?;
        }
        Ok(())
    }

    fn remove(&mut self, key: &Key) -> Result<(), redb::Error> {
        let name = key.name.as_str();
        let removed = match self.of(key.kind) {
            Some(table) => own(table.remove(name)?),
            None => own_text(self.ids.remove(name)?),
        };
        self.expires_no_more(key, removed)
    }

    /// The row of a document that is no longer there would stay for months. What cannot be read leaves it there.
    fn expires_no_more(&mut self, key: &Key, before: Option<Vec<u8>>) -> Result<(), redb::Error> {
        if let Some(Ok(Some(time))) = before.map(|bytes| codec::expire_time(key.kind, &bytes)) {
            self.expiring.remove((millis(time), key.kind.name(), key.name.as_str()))?;
        }
        Ok(())
    }

    /// Makes one change, if its condition holds.
    pub(super) fn apply(&mut self, first: &[Put], key: &Key, change: &Change) -> Result<Outcome, redb::Error> {
        for put in first {
            match &put.document {
                Some(document) => self.put(&put.key, document)?,
                None => self.remove(&put.key)?,
            }
        }
        let present = self.get(key)?;
        if let Some(refused) = change.refusal(present.as_deref()) {
            return Ok(refused);
        }
        match change {
            Change::Insert(document) | Change::Replace { document, .. } => self.put(key, document)?,
            Change::Remove { .. } => self.remove(key)?,
        }
        Ok(Outcome::Done)
    }

    /// Forgets some of what has expired; says whether it was any.
    pub(super) fn forget(&mut self, now_millis: u64) -> Result<bool, redb::Error> {
        let mut expired = Vec::new();
        for entry in self.expiring.range(..(now_millis, "", ""))?.take(FORGOTTEN_MAX) {
            let key = entry?.0;
            let (time, kind, name) = key.value();
            expired.push((time, kind.to_owned(), name.to_owned()));
        }
        for (time, kind, name) in &expired {
            self.expiring.remove((*time, kind.as_str(), name.as_str()))?;
            if let Some(kind) = Kind::ALL.into_iter().find(|other| other.name() == kind) {
                self.remove(&Key::new(kind, name.as_str()))?;
            }
        }
        Ok(!expired.is_empty())
    }
}
