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
    typed::TypedStore,
};
use crate::domain::{Environment, Store};

/// Which store, from `--store`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreSettings {
    /// Keeps nothing after the process ends.
    Memory,
    /// A file in this folder.
    Embedded(PathBuf),
    /// A server that many nodes share.
    Redis(RedisSettings),
}

impl StoreSettings {
    /// The kind of store.
    pub fn name(&self) -> &'static str {
        match self {
            StoreSettings::Memory => "memory",
            StoreSettings::Embedded(_) => "embedded",
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

/// Opens the store, and logs which one it is. `seal` says how the key ring is kept.
pub async fn open(
    settings: &StoreSettings,
    seal: Arc<Seal>,
    environment: &Environment,
) -> Result<Arc<dyn Store>, OpenError> {
    let documents = open_documents(settings, environment).await?;
    Ok(Arc::new(TypedStore::sealed(documents, seal).await?))
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
        StoreSettings::Embedded(folder) => Arc::new(Embedded::open(folder, environment.clock.clone())?),
        StoreSettings::Redis(settings) => Arc::new(Redis::open(settings, environment).await.map_err(in_store_flag)?),
    })
}

/// Says in a line each what `open` would find of users and of keys, and changes nothing.
pub async fn inspect(settings: &StoreSettings, seal: &Seal) -> Result<String, OpenError> {
    let StoreInspection { users, keys } = match settings {
        StoreSettings::Memory => StoreInspection { users: "memory: nothing is kept".into(), keys: None },
        StoreSettings::Embedded(folder) => Embedded::inspect(folder)?,
        StoreSettings::Redis(settings) => Redis::inspect(settings).await.map_err(in_store_flag)?,
    };
    let keys = keys.map(|document| typed::inspect_key_ring(seal, document.as_deref())).transpose()?;
    Ok(keys.map_or(users.clone(), |keys| format!("{users}\n{keys}")))
}

/// What is in a store.
struct StoreInspection {
    /// A line about users.
    users: String,
    /// The document of the key ring; `None` where it could not be looked for.
    keys: Option<Option<Vec<u8>>>,
}

fn in_store_flag(OpenError(why): OpenError) -> OpenError {
    OpenError(format!("--store {why}"))
}
