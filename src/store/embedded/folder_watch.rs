//! Watches that the paths of the store still lead to the files that are open.
//!
//! A folder that is deleted, unmounted or replaced leaves its open files behind: commits would go on to succeed in them, and
//! be lost when the process ends. The writer looks before and after each commit; a thread looks four times a second, so that
//! a node without writes ends too.

use std::{
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, Thread},
    time::Duration,
};

use tokio::sync::watch;

use crate::domain::StoreHealth;

/// The time between two looks of the thread.
const LOOK_INTERVAL: Duration = Duration::from_millis(250);

/// Watches until it is dropped.
pub(super) struct FolderWatch {
    folder: Arc<WatchedFolder>,
    thread: Thread,
}

struct WatchedFolder {
    files: Vec<KnownFile>,
    health: watch::Sender<StoreHealth>,
    is_lost: AtomicBool,
    is_closing: AtomicBool,
}

/// A path, and what was found at it: device and inode.
struct KnownFile {
    path: PathBuf,
    identity: (u64, u64),
}

/// Why the path of a file cannot be trusted.
enum Missing {
    /// It leads elsewhere, or nowhere.
    Lost(String),
    /// The lookup failed for another reason.
    Unknown(io::Error),
}

impl FolderWatch {
    /// Watches these paths. When one of them leads elsewhere, the store has failed.
    pub(super) fn start(paths: Vec<PathBuf>, health: watch::Sender<StoreHealth>) -> io::Result<Self> {
        let files = paths.into_iter().map(KnownFile::find).collect::<io::Result<Vec<_>>>()?;
        let [is_lost, is_closing] = [false, false].map(AtomicBool::new);
        let folder = Arc::new(WatchedFolder { files, health, is_lost, is_closing });
        let watched = folder.clone();
        let thread = thread::Builder::new().name("store-watch".into()).spawn(move || {
            while !watched.is_closing.load(Ordering::Relaxed) && !watched.is_lost.load(Ordering::Relaxed) {
                watched.look();
                thread::park_timeout(LOOK_INTERVAL);
            }
        })?;
        Ok(Self { folder, thread: thread.thread().clone() })
    }

    /// Whether every file is in its place now: three `lstat` calls, microseconds beside a durable commit.
    pub(super) fn is_in_place(&self) -> bool {
        self.folder.look()
    }
}

impl Drop for FolderWatch {
    fn drop(&mut self) {
        self.folder.is_closing.store(true, Ordering::Relaxed);
        self.thread.unpark();
    }
}

impl WatchedFolder {
    /// Looks for every file; `false` if one is not found.
    fn look(&self) -> bool {
        let missing = self.files.iter().find_map(|file| Some((&file.path, file.missing()?)));
        match missing {
            None => !self.is_lost.load(Ordering::Relaxed),
            Some((path, Missing::Unknown(cause))) => {
                tracing::debug!(path = %path.display(), %cause, "a file of the store cannot be looked for");
                false
            }
            Some((path, Missing::Lost(why))) => {
                self.report_loss(path, &why);
                false
            }
        }
    }

    fn report_loss(&self, path: &Path, why: &str) {
        // A folder that is removed after the end is no loss.
        if self.is_closing.load(Ordering::Relaxed) || self.is_lost.swap(true, Ordering::Relaxed) {
            return;
        }
        tracing::error!(
            path = %path.display(),
            "{why}: the data folder was deleted, unmounted or replaced while the store was open; the node ends. Bring the \
             folder back, and set --store-must-exist so that no start begins without users"
        );
        self.health.send_replace(StoreHealth::Failed);
    }
}

impl KnownFile {
    fn find(path: PathBuf) -> io::Result<Self> {
        let identity = identity(&path)?;
        Ok(Self { path, identity })
    }

    /// Why the path does not lead to the file, if it does not.
    fn missing(&self) -> Option<Missing> {
        use io::ErrorKind::{NotADirectory, NotFound, StaleNetworkFileHandle};
        match identity(&self.path) {
            Ok(found) if found == self.identity => None,
            Ok(_) => Some(Missing::Lost("the path leads to another file".into())),
            Err(cause) if matches!(cause.kind(), NotFound | NotADirectory | StaleNetworkFileHandle) => {
                Some(Missing::Lost(format!("a file of the store is not found ({cause})")))
            }
            Err(cause) => Some(Missing::Unknown(cause)),
        }
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    fs::symlink_metadata(path).map(|file| (file.dev(), file.ino()))
}
