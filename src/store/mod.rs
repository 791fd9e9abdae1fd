//! Stores: where users, sessions and keys are kept. Implements `domain::Store`.
//!
//! Each store implements one trait, [`DocumentStore`]: get, change, scan and watch of JSON documents under keys
//! (`embedded/`, `redis/`, `memory.rs`). What the documents mean is the same for every store (`typed/`), and so are their
//! bytes (`codec/`), the table of kinds (`kind.rs`) and the guarantees, which `tests/it/store/contract.rs` tests for each of them.
//! Does not know the rules of accounts and sessions, nor any protocol.

mod codec;
mod copy;
mod copy_report;
mod document;
mod document_store;
mod embedded;
mod kind;
mod memory;
mod redis;
mod seal;
mod typed;

use std::{fmt, path::PathBuf, sync::Arc};

pub use self::{
    copy::{copy, copy_documents},
    copy_report::CopyReport,
    document::{Change, ChangeOutcome, Document, DocumentKey, UnconditionalWrite},
    document_store::{DocumentStore, SCAN_PAGE_DOCUMENTS_MAX, ScanCursor, ScanPage, ScanPages, ScannedDocument},
    embedded::Embedded,
    kind::Kind,
    memory::Memory,
    redis::{Durability, KeyPrefix, Redis, RedisSettings, RedisUrl},
    seal::Seal,
    typed::{TypedStore, UsersByPepperKey},
};
use crate::domain::{Environment, Store, password::Pepper};

/// Which store, from `--store`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreSettings {
    /// Keeps nothing after the process ends.
    Memory,
    /// A file in this folder.
    Embedded {
        /// The data folder.
        folder: PathBuf,
        /// Whether a missing store is refused, not created.
        must_exist: bool,
    },
    /// A server that many nodes share.
    Redis(RedisSettings),
}

impl StoreSettings {
    /// The kind of store.
    pub fn name(&self) -> &'static str {
        match self {
            StoreSettings::Memory => "memory",
            StoreSettings::Embedded { .. } => "embedded",
            StoreSettings::Redis(_) => "redis",
        }
    }
}

/// Why a store could not be opened, and what to do.
#[derive(Debug)]
pub struct OpenError(pub(crate) String);

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for OpenError {}

/// Opens the store, and logs which one it is. `seal` says how the key ring is kept. Refuses a store whose password hashes
/// need keys that `pepper` lacks.
pub async fn open(
    settings: &StoreSettings,
    seal: Arc<Seal>,
    pepper: &Pepper,
    environment: &Environment,
) -> Result<Arc<dyn Store>, OpenError> {
    let documents = open_documents(settings, environment).await?;
    let opened = open_typed(documents.clone(), seal, pepper).await;
    if opened.is_err() {
        // Else the next start would have to recover it.
        documents.close().await;
    }
    opened
}

async fn open_typed(
    documents: Arc<dyn DocumentStore>,
    seal: Arc<Seal>,
    pepper: &Pepper,
) -> Result<Arc<dyn Store>, OpenError> {
    let store = TypedStore::sealed(documents, seal).await?;
    store.record_pepper_key(pepper).await?;
    Ok(Arc::new(store))
}

/// Opens the document store alone.
pub async fn open_documents(
    settings: &StoreSettings,
    environment: &Environment,
) -> Result<Arc<dyn DocumentStore>, OpenError> {
    Ok(match settings {
        StoreSettings::Memory => {
            tracing::warn!("store: memory; nothing is kept: every user is lost when this process ends");
            Arc::new(Memory::new(environment.clock.clone()))
        }
        StoreSettings::Embedded { folder, must_exist } => {
            let open = if *must_exist { Embedded::open_existing } else { Embedded::open };
            Arc::new(open(folder, environment.clock.clone())?)
        }
        StoreSettings::Redis(settings) => Arc::new(Redis::open(settings, environment).await.map_err(in_store_flag)?),
    })
}

/// Says in a line each what `open` would find of users and of keys, and changes nothing. Where there is a pepper, reads all
/// users, a page at a time, and counts who needs which key.
///
/// # Errors
/// Why `open` would fail; or that users need a key that `pepper` lacks.
pub async fn inspect(
    settings: &StoreSettings,
    seal: &Seal,
    pepper: &Pepper,
    environment: &Environment,
) -> Result<StoreReport, OpenError> {
    let counts = !pepper.is_none();
    let StoreInspection { users, documents } = match settings {
        StoreSettings::Memory => StoreInspection { users: "memory: nothing is kept".into(), documents: None },
        StoreSettings::Embedded { folder, must_exist } => Embedded::inspect(folder, *must_exist, counts)?,
        StoreSettings::Redis(settings) => Redis::inspect(settings, counts, environment).await.map_err(in_store_flag)?,
    };
    let Some(InspectedDocuments { key_ring, pepper_keys, users_by_pepper_key }) = documents else {
        return Ok(StoreReport { text: users, users_by_pepper_key: None });
    };
    let keys = typed::inspect_key_ring(seal, key_ring.as_deref())?;
    typed::check_pepper_keys(pepper, pepper_keys.as_deref())?;
    users_by_pepper_key.as_ref().map(|counted| counted.check(pepper)).transpose()?;
    Ok(StoreReport { text: format!("{users}\n{keys}"), users_by_pepper_key })
}

/// What a node would find in a store.
#[derive(Debug)]
pub struct StoreReport {
    /// A line about users, and one about keys where they could be looked for.
    pub text: String,
    /// Who needs which pepper key, where users could be counted.
    pub users_by_pepper_key: Option<UsersByPepperKey>,
}

/// What is in a store.
struct StoreInspection {
    /// A line about users.
    users: String,
    /// `None` where they could not be looked for.
    documents: Option<InspectedDocuments>,
}

/// Documents that a start reads.
#[derive(Default)]
struct InspectedDocuments {
    key_ring: Option<Vec<u8>>,
    pepper_keys: Option<Vec<u8>>,
    users_by_pepper_key: Option<UsersByPepperKey>,
}

fn in_store_flag(OpenError(why): OpenError) -> OpenError {
    OpenError(format!("--store {why}"))
}
