//! What a store is underneath: documents under keys, one atomic change at a time.
//!
//! Three places keep them: a map, a file, Redis. What the documents mean is `records.rs`.

use std::{fmt, time::SystemTime};

use async_trait::async_trait;
use tokio::sync::watch;

use crate::domain::{ChangeHandler, ConfigurationWarning, StoreError, StoreHealth};

/// Documents under keys. Every promise concerns one key alone, so that it holds wherever the keys are.
#[async_trait]
pub trait DocumentStore: Send + Sync {
    /// Reads one document.
    async fn get(&self, key: &Key) -> Result<Option<Vec<u8>>, StoreError>;

    /// Makes one change, if its condition holds; durable when it returns. `first` is written before it whatever becomes
    /// of it, so it must do no harm without it.
    async fn change(&self, first: Vec<Put>, key: Key, change: Change) -> Result<Outcome, StoreError>;

    /// What time it is for everybody who shares these documents.
    fn now(&self) -> SystemTime;

    /// Whether the store answers, now and whenever that changes.
    fn health(&self) -> watch::Receiver<StoreHealth>;

    /// The same for a document that is kept: told of when it is changed (`watch`).
    async fn get_watched(&self, key: &Key) -> Result<Option<Vec<u8>>, StoreError> {
        self.get(key).await
    }

    /// Tells what others change in what is watched, from now on, where the place can hear of it.
    fn watch(&self, _hear: ChangeHandler<Key>) {}

    /// What is wrong with the store although it answers.
    fn warnings(&self) -> Vec<ConfigurationWarning> {
        Vec::new()
    }

    /// Ends all work and lets go of files and connections.
    async fn close(&self);
}

/// What a document is, which says where each store keeps it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// A name, under the user's id.
    Id,
    /// A user, under the name.
    User,
    /// A session, under its id.
    Session,
    /// Which sessions a user has, under the user's id.
    Sessions,
    /// The keys that tokens are made with; there is one.
    Keys,
    /// That a single-use secret was spent, under its hash.
    Once,
    /// Wrong passwords of a name, under what stands for the name.
    FailedAttempts,
}

/// Where a document is.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    /// What it is.
    pub kind: Kind,
    /// Of whom; empty where there is one.
    pub name: String,
}

/// A document to write, or to delete, whatever is there.
#[derive(Clone)]
pub struct Put {
    /// Where.
    pub key: Key,
    /// What; `None` deletes.
    pub document: Option<Document>,
}

/// A document, and when it is of no more use.
#[derive(Clone)]
pub struct Document {
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// The store forgets it then, soon or late.
    pub expire_time: Option<SystemTime>,
}

/// A change with its condition.
#[derive(Clone)]
pub enum Change {
    /// Writes, unless the key is taken.
    Insert(Document),
    /// Writes, if these bytes are there.
    Replace {
        /// The bytes.
        seen: Box<[u8]>,
        /// What comes in their place.
        document: Document,
    },
    /// Deletes, if these bytes are there.
    Remove {
        /// The bytes.
        seen: Box<[u8]>,
    },
}

/// What became of a change.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is made.
    Done,
    /// Its condition did not hold. For an insert: the bytes that are there.
    Refused(Vec<u8>),
}

impl Kind {
    /// All of them. Ids first: an id without a user is harmless, a user without an id is not.
    pub const ALL: [Kind; 7] =
        [Kind::Id, Kind::User, Kind::Keys, Kind::Once, Kind::FailedAttempts, Kind::Sessions, Kind::Session];

    /// The kind's name in keys and tables.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Id => "id",
            Kind::User => "user",
            Kind::Session => "session",
            Kind::Sessions => "sessions",
            Kind::Keys => "keys",
            Kind::Once => "once",
            Kind::FailedAttempts => "fail",
        }
    }
}

impl Key {
    /// The place of a document.
    pub fn new(kind: Kind, name: impl Into<String>) -> Self {
        Self { kind, name: name.into() }
    }
}

// Holds names.
impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({})", self.kind.name())
    }
}

impl Document {
    /// A document that stays.
    pub fn lasting(bytes: Vec<u8>) -> Self {
        Self { bytes, expire_time: None }
    }
}

impl Change {
    /// Why the change cannot be made where `present` is, if it cannot.
    pub(super) fn refusal(&self, present: Option<&[u8]>) -> Option<Outcome> {
        let holds = match self {
            Change::Insert(_) => present.is_none(),
            Change::Replace { seen, .. } | Change::Remove { seen } => present == Some(&**seen),
        };
        (!holds).then(|| Outcome::Refused(present.unwrap_or_default().to_vec()))
    }
}

/// A time of expiry as stores keep it: milliseconds since 1970.
pub(super) fn millis(time: SystemTime) -> u64 {
    let since_1970 = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since_1970.as_millis()).unwrap_or(u64::MAX)
}
