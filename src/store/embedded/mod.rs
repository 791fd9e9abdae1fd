//! The embedded store: documents in one file, with redb. The default.
//!
//! One thread writes, and puts the changes that wait into one commit; reads run beside it. Every commit is durable,
//! two-phase, and has what a quick reopening needs. A file that is damaged, or lacks what the first commit wrote, is refused
//! and never taken for an empty one. After an I/O error redb does not answer any more, so the store reports
//! `StoreHealth::Failed` and the node ends; so it does when the data folder is lost (`folder_watch.rs`). Does not know other
//! processes: one process has the data folder. Reports no changes, because all of them are its own.

mod commit_delay;
mod data_folder;
mod database;
mod folder_watch;
mod tables;
mod writer;

use std::{
    fmt,
    io::ErrorKind,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    sync::{Arc, Mutex},
    time::SystemTime,
};

use async_trait::async_trait;
use redb::{Database, ReadableDatabase, StorageBackend};
use tokio::sync::{oneshot, watch};

use self::{
    data_folder::DataFolder,
    folder_watch::FolderWatch,
    writer::{QueuedChange, WriterHandle},
};
use super::{
    InspectedDocuments, OpenError, StoreInspection, UsersByPepperKey,
    document::{Change, ChangeOutcome, DocumentKey, UnconditionalWrite},
    document_store::{DocumentStore, ScanCursor, ScanPage, ScanPosition},
    kind::Kind,
};
use crate::{
    common::lock::lock,
    domain::{Clock, StoreError, StoreHealth},
};

/// A store in one file.
pub struct Embedded {
    database: Arc<Database>,
    /// `None` once the store is closed.
    writer: Mutex<Option<WriterHandle>>,
    /// Becomes true when the writer has ended.
    writer_ended: watch::Receiver<bool>,
    health: watch::Sender<StoreHealth>,
    clock: Arc<dyn Clock>,
    // Last, so that the folder is unlocked after the database is closed.
    _folder: Option<DataFolder>,
}

impl fmt::Debug for Embedded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Embedded")
    }
}

impl Embedded {
    /// Opens the store in `folder`, and creates both where they do not exist. Needs a tokio runtime.
    pub fn open(folder: &Path, clock: Arc<dyn Clock>) -> Result<Self, OpenError> {
        let folder = DataFolder::lock(folder)?;
        let (database, new) = folder.open_database()?;
        let path = folder.database_path();
        tracing::info!(file = %path.display(), new, "store: embedded");
        Self::start(database, clock, Some(folder))
    }

    /// Opens the store in `folder`, which must exist.
    pub(in crate::store) fn open_existing(folder: &Path, clock: Arc<dyn Clock>) -> Result<Self, OpenError> {
        require_existing(folder)?;
        Self::open(folder, clock)
    }

    /// Opens the store on a storage of the caller instead of a file, for tests of disk faults. An empty storage is a new
    /// store.
    pub fn open_on(storage: impl StorageBackend, clock: Arc<dyn Clock>) -> Result<Self, OpenError> {
        Self::start(database::open_storage(storage)?, clock, None)
    }

    fn start(database: Database, clock: Arc<dyn Clock>, folder: Option<DataFolder>) -> Result<Self, OpenError> {
        let database = Arc::new(database);
        let health = watch::Sender::new(StoreHealth::Up);
        let watch = folder.as_ref().map(|folder| FolderWatch::start(folder.paths(), health.clone())).transpose();
        let watch = watch.map_err(|cause| OpenError(format!("--data-dir: cannot be watched: {cause}")))?;
        let (writer, writer_ended) = writer::start(database.clone(), health.clone(), clock.clone(), watch);
        Ok(Self { database, writer: Mutex::new(Some(writer)), writer_ended, health, clock, _folder: folder })
    }

    /// Says what is in `folder`, and changes nothing.
    pub(in crate::store) fn inspect(
        folder: &Path,
        must_exist: bool,
        counts_users: bool,
    ) -> Result<StoreInspection, OpenError> {
        if must_exist {
            require_existing(folder)?;
        }
        data_folder::inspect(folder, counts_users)
    }

    fn read_failed(&self, cause: &redb::Error) -> StoreError {
        tracing::error!(%cause, "the store cannot be read");
        self.health.send_replace(StoreHealth::Failed);
        StoreError::Unavailable
    }
}

#[async_trait]
impl DocumentStore for Embedded {
    /// Reads a page that is not in the cache from the disk on the caller's thread: the file usually fits into memory, and one
    /// page costs less than a change of threads.
    async fn get(&self, key: &DocumentKey) -> Result<Option<Vec<u8>>, StoreError> {
        guarded(|| tables::get(&self.database.begin_read()?, key)).map_err(|cause| self.read_failed(&cause))
    }

    /// Sends the change to the writer and waits for its commit.
    async fn change(
        &self,
        first: Vec<UnconditionalWrite>,
        key: DocumentKey,
        change: Change,
    ) -> Result<ChangeOutcome, StoreError> {
        let (answer, answered) = oneshot::channel();
        let writer = lock(&self.writer).clone().ok_or(StoreError::Unavailable)?;
        // Not sent: the writer has ended and nothing was executed. Sent and not answered: the outcome is unknown.
        writer.send(QueuedChange { first, key, change, answer }).await?;
        drop(writer);
        answered.await.unwrap_or(Err(StoreError::OutcomeUnknown))
    }

    async fn scan(&self, kind: Option<Kind>, cursor: Option<ScanCursor>) -> Result<ScanPage, StoreError> {
        let after = ScanPosition::after(cursor)?;
        let page = guarded(|| tables::page(&self.database.begin_read()?, kind, after.as_ref()));
        page.map(ScanPage::in_key_order).map_err(|cause| self.read_failed(&cause))
    }

    fn now(&self) -> SystemTime {
        self.clock.now()
    }

    fn health(&self) -> watch::Receiver<StoreHealth> {
        self.health.subscribe()
    }

    async fn close(&self) {
        // Without a handle the writer ends after its current commit.
        drop(lock(&self.writer).take());
        let ended = self.writer_ended.clone().wait_for(|ended| *ended).await.is_ok();
        if !ended {
            tracing::error!("the store's writer ended with a panic");
        }
    }
}

fn require_existing(folder: &Path) -> Result<(), OpenError> {
    let why = match data_folder::find_database(folder) {
        Ok(()) => return Ok(()),
        Err(cause) if cause.kind() == ErrorKind::NotFound => "there is no store in it (is its disk mounted?)".into(),
        Err(cause) => format!("cannot be used: {cause}"),
    };
    Err(OpenError(format!("--data-dir {}: {why}", folder.display())))
}

/// Runs a step of redb. redb panics where it reads what it never wrote, such as a page that something else overwrote. Here
/// that is one more form of a damaged file.
fn guarded<T>(step: impl FnOnce() -> Result<T, redb::Error>) -> Result<T, redb::Error> {
    catch_unwind(AssertUnwindSafe(step))
        .unwrap_or_else(|_| Err(redb::Error::Corrupted("it holds what redb never wrote".into())))
}
