//! The values of the document store: keys, documents, conditional changes.
//!
//! Guarantees that the condition of a change is decided in one place ([`Change::refusal`]) for every store that decides it
//! in this process. Does not know what documents mean, nor where they are kept.

use std::{fmt, time::SystemTime};

use super::{codec, kind::Kind};
use crate::{
    common::sha256::{hex, sha256},
    domain::{CorruptRecord, StoreError},
};

/// Bytes of the hash of a username that names a record in the log.
const RECORD_HASH_BYTES: usize = 8;

/// The key of a document.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DocumentKey {
    /// What the document is.
    pub kind: Kind,
    /// Which one of its kind; empty for the key ring.
    pub name: String,
}

/// A document, and when it expires.
#[derive(Clone)]
pub struct Document {
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// The store deletes the document some time after this.
    pub expire_time: Option<SystemTime>,
}

/// A document to write or to delete, whatever the store has under the key.
#[derive(Clone)]
pub struct UnconditionalWrite {
    /// The key.
    pub key: DocumentKey,
    /// The document; `None` deletes.
    pub document: Option<Document>,
}

/// A change with its condition (compare-and-set).
#[derive(Clone)]
pub enum Change {
    /// Writes, if there is no document under the key.
    Insert(Document),
    /// Writes, if the document under the key has the bytes `seen`.
    Replace {
        /// The expected bytes.
        seen: Box<[u8]>,
        /// The new document.
        document: Document,
    },
    /// Deletes, if the document under the key has the bytes `seen`.
    Remove {
        /// The expected bytes.
        seen: Box<[u8]>,
    },
}

/// The result of a change.
#[derive(Debug, PartialEq, Eq)]
pub enum ChangeOutcome {
    /// The store made the change.
    Done,
    /// The condition did not hold. After an insert: the bytes that are there.
    Refused(Vec<u8>),
}

// === impl DocumentKey ===

impl DocumentKey {
    /// The key of the document `name` of a kind.
    pub fn new(kind: Kind, name: impl Into<String>) -> Self {
        Self { kind, name: name.into() }
    }

    /// Decodes the `document` under this key. The error names the record.
    pub(super) fn read<'d, T>(
        &self,
        document: &'d [u8],
        decode: impl FnOnce(&'d [u8]) -> Result<T, String>,
    ) -> Result<T, StoreError> {
        decode(document).map_err(|cause| self.corrupt(document, cause))
    }

    /// The error of the `document` under this key, which cannot be decoded.
    pub(super) fn corrupt(&self, document: &[u8], cause: impl Into<String>) -> StoreError {
        StoreError::Corrupt(CorruptRecord { record: self.record(document), cause: cause.into() })
    }

    /// How the log names the `document` under this key. The name of a user stays out of it: the id in the document stands for
    /// the user or, where the document has none, the beginning of the SHA-256 of the username.
    pub(super) fn record(&self, document: &[u8]) -> String {
        let (kind, name) = (self.kind.name(), &self.name);
        match self.kind {
            Kind::User => match codec::user::id_of_corrupt(document) {
                Some(id) => format!("{kind} {id}"),
                None => format!("{kind} sha256:{}", hex(&sha256(name.as_bytes())[..RECORD_HASH_BYTES])),
            },
            Kind::Keys | Kind::PepperKeys => kind.to_owned(),
            Kind::Id | Kind::Once | Kind::FailedAttempts | Kind::Sessions | Kind::Session => format!("{kind} {name}"),
        }
    }
}

// Names are usernames, so they stay out of logs.
impl fmt::Debug for DocumentKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DocumentKey({})", self.kind.name())
    }
}

// === impl Document ===

impl Document {
    /// A document that does not expire.
    pub fn lasting(bytes: Vec<u8>) -> Self {
        Self { bytes, expire_time: None }
    }

    /// A document that expires.
    pub(super) fn expiring(bytes: Vec<u8>, expire_time: SystemTime) -> Self {
        Self { bytes, expire_time: Some(expire_time) }
    }
}

// === impl Change ===

impl Change {
    /// The refusal, if the condition does not hold for what is `present` under the key.
    pub(super) fn refusal(&self, present: Option<&[u8]>) -> Option<ChangeOutcome> {
        let holds = match self {
            Change::Insert(_) => present.is_none(),
            Change::Replace { seen, .. } | Change::Remove { seen } => present == Some(&**seen),
        };
        (!holds).then(|| ChangeOutcome::Refused(present.unwrap_or_default().to_vec()))
    }
}

/// A time as stores keep it for expiry: milliseconds since 1970.
pub(super) fn unix_millis(time: SystemTime) -> u64 {
    let since_1970 = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since_1970.as_millis()).unwrap_or(u64::MAX)
}
