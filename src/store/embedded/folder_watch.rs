//! Watches that the paths of the store still lead to the files that are open.
//!
//! A folder that is deleted, unmounted or replaced leaves its open files behind: commits would go on to succeed in them, and
//! end with the process. A thread looks at the paths four times a second, so that no write pays for it. A commit is
//! acknowledged only while the last look is recent, so also not while the disk does not answer.

use std::{
    fs, io,
    os::unix::fs::MetadataExt,
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, Thread},
    time::Duration,
};

use tokio::{sync::watch, time::Instant};

use crate::{common::lock::lock, domain::StoreHealth};

/// The time between two looks.
const LOOK_INTERVAL: Duration = Duration::from_millis(250);

/// The age of the last look up to which commits are acknowledged.
const LOOK_AGE_MAX: Duration = Duration::from_secs(1);

/// Watches until it is dropped.
pub(super) struct FolderWatch {
    folder: Arc<WatchedFolder>,
    thread: Thread,
}

struct WatchedFolder {
    files: Vec<KnownFile>,
    /// The time of the last look that found every file; `None` once one was lost.
    last_look: Mutex<Option<Instant>>,
    health: watch::Sender<StoreHealth>,
    is_closing: AtomicBool,
}

/// A path, and what was found at it: device and inode.
struct KnownFile {
    path: PathBuf,
    identity: (u64, u64),
}

impl FolderWatch {
    /// Watches these paths. When one of them leads elsewhere, the store has failed.
    pub(super) fn start(paths: Vec<PathBuf>, health: watch::Sender<StoreHealth>) -> io::Result<Self> {
        let files = paths.into_iter().map(KnownFile::find).collect::<io::Result<Vec<_>>>()?;
        let (last_look, is_closing) = (Mutex::new(Some(Instant::now())), AtomicBool::new(false));
        let folder = Arc::new(WatchedFolder { files, last_look, health, is_closing });
        let watched = folder.clone();
        let thread = thread::Builder::new().name("store-watch".into()).spawn(move || {
            while !watched.is_closing.load(Ordering::Relaxed) && watched.look() {
                thread::park_timeout(LOOK_INTERVAL);
            }
        })?;
        Ok(Self { folder, thread: thread.thread().clone() })
    }

    /// Whether every file was found a moment ago. Looks itself where the thread did not get to it.
    pub(super) fn is_in_place(&self) -> bool {
        let last = *lock(&self.folder.last_look);
        last.is_some_and(|last| last.elapsed() < LOOK_AGE_MAX || self.folder.look())
    }
}

impl Drop for FolderWatch {
    fn drop(&mut self) {
        self.folder.is_closing.store(true, Ordering::Relaxed);
        self.thread.unpark();
    }
}

impl WatchedFolder {
    /// Looks for every file; `false` if one is lost.
    fn look(&self) -> bool {
        // The time at which the look began: it may wait for the disk.
        let began = Instant::now();
        let lost = self.files.iter().find_map(|file| file.is_lost().map(|why| (&file.path, why)));
        let mut last = lock(&self.last_look);
        let Some((path, why)) = lost else {
            *last = last.map(|_| began);
            return last.is_some();
        };
        if last.take().is_some() {
            tracing::error!(
                path = %path.display(),
                "{why}: it was deleted, unmounted or replaced while the store was open. This node writes no more and ends. \
                 With --store-must-exist it does not start again without its users"
            );
        }
        self.health.send_replace(StoreHealth::Failed);
        false
    }
}

impl KnownFile {
    fn find(path: PathBuf) -> io::Result<Self> {
        let identity = identity(&path)?;
        Ok(Self { path, identity })
    }

    /// Why the path no longer leads to the file, if it does not.
    fn is_lost(&self) -> Option<String> {
        match identity(&self.path) {
            Ok(found) if found == self.identity => None,
            Ok(_) => Some("another file is in the place of one of the store".into()),
            Err(cause) => Some(format!("a file of the store is not found: {cause}")),
        }
    }
}

fn identity(path: &PathBuf) -> io::Result<(u64, u64)> {
    fs::symlink_metadata(path).map(|file| (file.dev(), file.ino()))
}
