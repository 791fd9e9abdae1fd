//! Where users are kept. Implements `domain::Store`.
//!
//! Every store keeps documents under keys (`documents.rs`), one place each. What they mean is the same everywhere
//! (`records.rs`), and so are their JSON (`record/`) and the promises (`tests/it/stores.rs`).

mod codec;
mod document_store;
mod embedded;
mod memory;
mod redis;
mod seal;
mod transfer;
mod typed;

use std::{fmt, path::PathBuf, sync::Arc};

pub use self::{
    document_store::{Change, Document, DocumentStore, Key, Kind, Outcome, Put},
    embedded::Embedded,
    memory::Memory,
    redis::{Durability, Prefix, Redis, RedisSettings, RedisUrl},
    seal::Seal,
    transfer::{Report, copy},
    typed::TypedStore,
};
use crate::domain::{Environment, Store};

/// Which store, from `--store`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Settings {
    /// Nothing outlives the process.
    Memory,
    /// A file in this folder.
    Embedded(PathBuf),
    /// A server that many nodes share.
    Redis(RedisSettings),
}

impl Settings {
    /// The kind of store.
    pub fn name(&self) -> &'static str {
        match self {
            Settings::Memory => "memory",
            Settings::Embedded(_) => "embedded",
            Settings::Redis(_) => "redis",
        }
    }
}

/// A store that could not be opened; says what to do.
#[derive(Debug)]
pub struct OpenError(pub(crate) String);

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for OpenError {}

/// Opens the store and says in the log which one it is. `seal` says how the keys of tokens are kept.
pub async fn open(
    settings: &Settings,
    seal: Arc<Seal>,
    environment: &Environment,
) -> Result<Arc<dyn Store>, OpenError> {
    let documents: Arc<dyn DocumentStore> = match settings {
        Settings::Memory => {
            tracing::warn!("store: memory; nothing is kept: every user is lost when this process ends");
            Arc::new(Memory::new(environment.clock.clone()))
        }
        Settings::Embedded(folder) => Arc::new(Embedded::open(folder, environment.clock.clone())?),
        Settings::Redis(settings) => Arc::new(Redis::open(settings, environment).await.map_err(in_store)?),
    };
    Ok(Arc::new(TypedStore::sealed(documents, seal).await?))
}

/// Says in a line each what `open` would find of users and of keys, and changes nothing.
pub async fn inspect(settings: &Settings, seal: &Seal) -> Result<String, OpenError> {
    let (users, keys) = match settings {
        Settings::Memory => ("memory: nothing is kept".into(), None),
        Settings::Embedded(folder) => Embedded::inspect(folder)?,
        Settings::Redis(settings) => Redis::inspect(settings).await.map_err(in_store)?,
    };
    let keys = keys.map(|document| typed::inspect_ring(seal, document.as_deref())).transpose()?;
    Ok(keys.map_or(users.clone(), |keys| format!("{users}\n{keys}")))
}

/// What is in a store: a line about users, and the document of the keys where it could be looked for.
type Inspected = (String, Option<Option<Vec<u8>>>);

fn in_store(OpenError(why): OpenError) -> OpenError {
    OpenError(format!("--store {why}"))
}
