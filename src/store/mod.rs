//! Where users are kept. Implements `domain::Store`.
//!
//! Every store keeps the same JSON documents (`record.rs`) and keeps the same promises (`tests/it/stores.rs`).

mod embedded;
mod memory;
mod record;

use std::{fmt, path::PathBuf, sync::Arc};

pub use self::{embedded::Embedded, memory::Memory};
use crate::domain::Store;

/// Which store, from `--store`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Settings {
    /// Nothing outlives the process.
    Memory,
    /// A file in this folder.
    Embedded(PathBuf),
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

/// Opens the store and says in the log which one it is.
pub fn open(settings: &Settings) -> Result<Arc<dyn Store>, OpenError> {
    match settings {
        Settings::Memory => {
            tracing::warn!("store: memory; nothing is kept: every user is lost when this process ends");
            Ok(Arc::new(Memory::default()))
        }
        Settings::Embedded(folder) => Ok(Arc::new(Embedded::open(folder)?)),
    }
}

/// Says in one line what `open` would find, and changes nothing.
pub fn inspect(settings: &Settings) -> Result<String, OpenError> {
    match settings {
        Settings::Memory => Ok("memory: nothing is kept".into()),
        Settings::Embedded(folder) => Embedded::inspect(folder),
    }
}
