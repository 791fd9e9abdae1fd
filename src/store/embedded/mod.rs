//! Documents in one file, with redb: the default.
//!
//! One thread writes and groups what waits into one commit; reads run beside it. Every commit is durable, two-phase
//! and carries what a quick reopening needs. A file that is damaged, or lacks what the first commit wrote, is refused
//! and never taken for an empty one. After an I/O error redb answers no more, so the store reports `StoreHealth::Failed` and
//! the node ends.

mod folder;
mod shelf;
mod tables;
mod writer;

use std::{
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

use async_trait::async_trait;
use redb::{Database, ReadableDatabase, StorageBackend};
use tokio::sync::{oneshot, watch};

use self::{
    folder::Folder,
    writer::{Write, Writer},
};
use super::{
    Inspected, OpenError,
    document_store::{Change, DocumentStore, Key, Outcome, Put},
};
use crate::domain::{Clock, StoreError, StoreHealth};

/// Bytes of pages kept in memory at most.
const CACHE_BYTES: usize = 32 * 1024 * 1024;

/// A store in one file.
pub struct Embedded {
    database: Arc<Database>,
    /// The way to the writer, until the store is closed.
    writer: Mutex<Option<Writer>>,
    /// Becomes true when the writer has ended.
    writer_ended: watch::Receiver<bool>,
    pulse: watch::Sender<StoreHealth>,
    clock: Arc<dyn Clock>,
    // Last, so that the folder's lock goes after the database.
    _folder: Option<Folder>,
}

impl fmt::Debug for Embedded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Embedded")
    }
}

impl Embedded {
    /// Opens the store in `folder`; makes both when they are not there. Needs a tokio runtime.
    pub fn open(folder: &Path, clock: Arc<dyn Clock>) -> Result<Self, OpenError> {
        let folder = Folder::lock(folder)?;
        let (database, new) = folder.open_database()?;
        let path = folder.database_path();
        tracing::info!(file = %path.display(), new, "store: embedded");
        Ok(Self::start(database, clock, Some(folder)))
    }

    /// The same on a storage of the caller's instead of a file, for tests of what a disk may do; an empty one is new.
    pub fn open_on(storage: impl StorageBackend, clock: Arc<dyn Clock>) -> Result<Self, OpenError> {
        Ok(Self::start(folder::open_storage(storage)?, clock, None))
    }

    fn start(database: Database, clock: Arc<dyn Clock>, folder: Option<Folder>) -> Self {
        let database = Arc::new(database);
        let pulse = watch::Sender::new(StoreHealth::Up);
        let (writer, writer_ended) = writer::start(database.clone(), pulse.clone(), clock.clone());
        Self { database, writer: Mutex::new(Some(writer)), writer_ended, pulse, clock, _folder: folder }
    }

    /// Says what is in `folder`, and changes nothing.
    pub(in crate::store) fn inspect(folder: &Path) -> Result<Inspected, OpenError> {
        folder::inspect(folder)
    }

    fn writer(&self) -> MutexGuard<'_, Option<Writer>> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl DocumentStore for Embedded {
    /// A page that is not in memory is read from the disk on the caller's thread: one page of a file that usually fits in
    /// memory, cheaper than a change of threads.
    async fn get(&self, key: &Key) -> Result<Option<Vec<u8>>, StoreError> {
        guarded(|| tables::get(&self.database.begin_read()?, key)).map_err(|cause| {
            tracing::error!(%cause, "the store cannot be read");
            self.pulse.send_replace(StoreHealth::Failed);
            StoreError::Unavailable
        })
    }

    /// Hands the change to the writer and waits for its commit.
    async fn change(&self, first: Vec<Put>, key: Key, change: Change) -> Result<Outcome, StoreError> {
        let (answer, answered) = oneshot::channel();
        let writer = self.writer().clone().ok_or(StoreError::Unavailable)?;
        // Not sent: the writer is gone, nothing was executed. Sent and not answered: nobody knows.
        writer.send(Write { first, key, change, answer }).await?;
        drop(writer);
        answered.await.unwrap_or(Err(StoreError::OutcomeUnknown))
    }

    fn now(&self) -> SystemTime {
        self.clock.now()
    }

    fn health(&self) -> watch::Receiver<StoreHealth> {
        self.pulse.subscribe()
    }

    async fn close(&self) {
        // Without a way to it the writer ends after the commit that it is at.
        drop(self.writer().take());
        let ended = self.writer_ended.clone().wait_for(|ended| *ended).await.is_ok();
        if !ended {
            tracing::error!("the store's writer ended with a panic");
        }
    }
}

/// Runs a step of redb. It panics where it meets what it never wrote, such as a page that something else overwrote; to
/// us that is one more way in which a file is damaged.
fn guarded<T>(step: impl FnOnce() -> Result<T, redb::Error>) -> Result<T, redb::Error> {
    catch_unwind(AssertUnwindSafe(step))
        .unwrap_or_else(|_| Err(redb::Error::Corrupted("it holds what redb never wrote".into())))
}
