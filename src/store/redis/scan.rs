//! Scan: SCAN lists keys, then GET reads them, a page at a time.
//!
//! SCAN may list one key twice, and lists every key that exists during the whole scan. It may list more keys than a page
//! holds; the cursor keeps those for the next page. A cursor is void after a restart of Redis, which orders its keys differently, so
//! a scan whose connection was replaced fails and must start again. A key of ours that this version does not know fails a scan of all
//! kinds, so that a copy never leaves something behind. Does not know what documents mean.

use redis::{FromRedisValue, Value, cmd, pipe};

use super::{
    Redis, commands,
    link::{NoAnswer, is_own_key},
};
use crate::{
    domain::{CorruptRecord, StoreError},
    store::{
        document::DocumentKey,
        document_store::{
            SCAN_PAGE_DOCUMENTS_MAX, ScanCursor, ScanPage, ScanPosition, ScannedDocument, foreign_cursor,
        },
        kind::Kind,
    },
};

/// Documents in one round trip at most, so that large documents on a slow network arrive in time.
const READ_DOCUMENTS_MAX: usize = 100;

impl Redis {
    pub(super) async fn scan_page(
        &self,
        kind: Option<Kind>,
        cursor: Option<ScanCursor>,
    ) -> Result<ScanPage, StoreError> {
        let (cursor, unread, began_on) = match cursor.map(|ScanCursor(position)| position) {
            None => (0, Vec::new(), self.link.connection_number()),
            Some(ScanPosition::Redis { cursor, unread, connection }) => (cursor, unread, connection),
            Some(ScanPosition::After(_)) => return Err(foreign_cursor()),
        };
        let (mut keys, next) = if unread.is_empty() { self.list_keys(kind, cursor).await? } else { (unread, cursor) };
        let unread = keys.split_off(keys.len().min(SCAN_PAGE_DOCUMENTS_MAX));
        let mut documents = Vec::with_capacity(keys.len());
        for keys in keys.chunks(READ_DOCUMENTS_MAX) {
            self.read_documents(keys, &mut documents).await?;
        }
        if self.link.connection_number() != began_on {
            tracing::warn!("the connection to Redis was replaced during a scan, which must start again");
            return Err(StoreError::Unavailable);
        }
        let is_last = next == 0 && unread.is_empty();
        let next = (!is_last).then_some(ScanCursor(ScanPosition::Redis { cursor: next, unread, connection: began_on }));
        Ok(ScanPage { documents, next })
    }

    /// One step of SCAN: the keys that it lists, and where it continues, 0 at the end.
    async fn list_keys(&self, kind: Option<Kind>, cursor: u64) -> Result<(Vec<DocumentKey>, u64), StoreError> {
        let pattern = format!("{}{}*", self.prefix, kind.map_or("", Kind::name));
        let mut scan = cmd("SCAN");
        scan.arg(cursor).arg("MATCH").arg(pattern).arg("COUNT").arg(SCAN_PAGE_DOCUMENTS_MAX);
        let (next, names): (u64, Vec<Vec<u8>>) = self.link.ask(&scan).await.map_err(|_| StoreError::Unavailable)?;
        let mut keys = Vec::with_capacity(names.len());
        for name in names {
            keys.extend(self.key_of_kind(kind, name)?);
        }
        Ok((keys, next))
    }

    /// The key in `name`, if a scan of `kind` reads it.
    fn key_of_kind(&self, kind: Option<Kind>, name: Vec<u8>) -> Result<Option<DocumentKey>, StoreError> {
        let foreign = |record: String, cause: &str| StoreError::Corrupt(CorruptRecord { record, cause: cause.into() });
        let name = String::from_utf8(name).map_err(|_| {
            foreign(format!("a key after {}", self.prefix), "it is not UTF-8; Watchword did not write it")
        })?;
        match (self.prefix.parse(&name), kind) {
            (Ok(key), None) => Ok(Some(key)),
            // The pattern of `session` also lists `sessions`.
            (Ok(key), Some(kind)) => Ok((key.kind == kind).then_some(key)),
            (Err(_), Some(_)) => Ok(None),
            (Err(_), None) if is_own_key(&self.prefix, &name) => Ok(None),
            (Err(unknown), None) => {
                Err(foreign(format!("keys {unknown}…"), "this version of Watchword does not know them"))
            }
        }
    }

    async fn read_documents(
        &self,
        keys: &[DocumentKey],
        documents: &mut Vec<ScannedDocument>,
    ) -> Result<(), StoreError> {
        let mut questions = pipe();
        for key in keys {
            questions.cmd("GET").arg(self.prefix.key(key));
        }
        let answers = self.link.ask_all(questions.ignore_errors()).await.map_err(|_| StoreError::Unavailable)?;
        for (key, answer) in keys.iter().zip(answers) {
            let bytes: Option<Vec<u8>> = answer
                .and_then(|answer: Value| Ok(Option::from_redis_value(answer)?))
                .map_err(|error| commands::not_read(key, NoAnswer::Refused(error)))?;
            // A document that was deleted after SCAN listed its key is not part of the scan.
            documents.extend(bytes.map(|bytes| ScannedDocument { key: key.clone(), bytes }));
        }
        Ok(())
    }
}
