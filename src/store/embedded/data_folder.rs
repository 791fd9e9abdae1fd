//! The data folder: one process at a time, and which file in it is the database.
//!
//! A new database is written under another name and renamed when its first commit is durable, so a file under the real name
//! was whole once. The folder and its files belong to this user alone (`common/files.rs`). Does not know what is in the
//! file; that is `database.rs`.

use std::{
    fmt,
    fs::{File, TryLockError},
    io::{self, ErrorKind, Read, Write},
    path::{Path, PathBuf},
};

use redb::{Database, backends::FileBackend};
use rustix::fs::Access;

use super::{
    InspectedDocuments, OpenError, StoreInspection, UsersByPepperKey,
    database::{self, ReadState},
};
use crate::common::files::OwnFolder;

const DATABASE: &str = "watchword.redb";
const UNFINISHED: &str = "watchword.redb.new";
const LOCK: &str = "lock";

/// Bytes of the lock that are read.
const OWNER_BYTES_MAX: u64 = 20;

/// The permissions of other users.
const OTHERS: u32 = 0o077;

/// A data folder that only this process uses.
pub(super) struct DataFolder {
    folder: OwnFolder,
    // The operating system unlocks it when it is closed, however this process ends.
    _lock: File,
}

impl DataFolder {
    /// Locks the folder, and creates it with access for this user alone where it does not exist.
    pub(super) fn lock(path: &Path) -> Result<Self, OpenError> {
        let failed = |what: &str| {
            let what = what.to_owned();
            move |cause: io::Error| OpenError(format!("--data-dir {}: {what}: {cause}", path.display()))
        };
        let folder = OwnFolder::open_or_create(path).map_err(failed("cannot be used"))?;
        let mode = folder.mode().map_err(failed("cannot be read"))?;
        if mode & OTHERS != 0 {
            let path = folder.path().display();
            tracing::warn!(folder = %path, mode = format!("{mode:o}"), "other users can read the data folder; chmod 700 stops that");
        }
        let mut lock = folder.write_or_create(LOCK).map_err(failed("cannot be used"))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(in_use(&folder)),
            Err(TryLockError::Error(cause)) => return Err(failed("cannot be locked")(cause)),
        }
        lock.set_len(0).and_then(|()| writeln!(lock, "{}", std::process::id())).map_err(failed("cannot be written"))?;
        Ok(Self { folder, _lock: lock })
    }

    pub(super) fn database_path(&self) -> PathBuf {
        self.folder.path().join(DATABASE)
    }

    /// The folder and its files. Another process could use the folder once its lock is gone.
    pub(super) fn paths(&self) -> Vec<PathBuf> {
        let folder = self.folder.path();
        vec![folder.to_owned(), folder.join(DATABASE), folder.join(LOCK)]
    }

    /// Opens the database and says whether it is new.
    pub(super) fn open_database(&self) -> Result<(Database, bool), OpenError> {
        let path = self.database_path();
        match self.folder.write(DATABASE) {
            Ok(file) => Ok((database::open_file(&path, file, || in_use(&self.folder))?, false)),
            Err(cause) if cause.kind() == ErrorKind::NotFound => Ok((self.create(&path)?, true)),
            Err(cause) => Err(OpenError(format!("{}: {cause}", path.display()))),
        }
    }

    fn create(&self, path: &Path) -> Result<Database, OpenError> {
        let failed = |cause: &dyn fmt::Display| OpenError(format!("{}: cannot be created: {cause}", path.display()));
        match self.folder.remove(UNFINISHED) {
            Ok(()) => {}
            Err(cause) if cause.kind() == ErrorKind::NotFound => {}
            Err(cause) => return Err(failed(&cause)),
        }
        let file = self.folder.create_new(UNFINISHED).map_err(|cause| failed(&cause))?;
        let file = FileBackend::new(file).map_err(|cause| failed(&cause))?;
        let database = database::create_on(file).map_err(|cause| failed(&cause))?;
        self.folder.rename(UNFINISHED, DATABASE).map_err(|cause| failed(&cause))?;
        // The new name must be as durable as the file.
        self.folder.sync().map_err(|cause| failed(&cause))?;
        Ok(database)
    }
}

/// Looks for the database in the folder.
pub(super) fn find_database(folder: &Path) -> io::Result<()> {
    folder.join(DATABASE).symlink_metadata().map(drop)
}

/// Says what is in the folder, and changes nothing.
pub(super) fn inspect(path: &Path, counts_users: bool) -> Result<StoreInspection, OpenError> {
    let file = path.join(DATABASE);
    if !path.exists() {
        return inspect_absent(path, &file, counts_users);
    }
    let failed = |cause: io::Error| OpenError(format!("--data-dir {}: cannot be used: {cause}", path.display()));
    let folder = OwnFolder::open(path).map_err(failed)?;
    if_present(folder.read(LOCK)).map_err(failed)?;
    let Some(opened) = if_present(folder.read(DATABASE)).map_err(failed)? else {
        return inspect_absent(path, &file, counts_users);
    };
    let (state, documents) = match database::inspect_file(&file, opened, counts_users)? {
        ReadState::Whole(documents) => ("is whole", Some(documents)),
        ReadState::InUse => ("is in use by a running node; its keys were not checked", None),
        ReadState::NotClosed => ("was not closed; the next start recovers it; its keys were not checked", None),
    };
    Ok(StoreInspection { users: format!("embedded: {} {state}", file.display()), documents })
}

fn if_present(opened: io::Result<File>) -> io::Result<Option<File>> {
    match opened {
        Ok(file) => Ok(Some(file)),
        Err(cause) if cause.kind() == ErrorKind::NotFound => Ok(None),
        Err(cause) => Err(cause),
    }
}

/// Says whether a database could be created at `path`.
fn inspect_absent(folder: &Path, path: &Path, counts_users: bool) -> Result<StoreInspection, OpenError> {
    // The innermost folder that exists must accept a new one.
    let parent = folder.ancestors().find(|part| part.exists() || part.as_os_str().is_empty());
    let parent = parent.filter(|part| !part.as_os_str().is_empty()).unwrap_or(Path::new("."));
    match rustix::fs::access(parent, Access::WRITE_OK | Access::EXEC_OK) {
        Ok(()) if parent.is_dir() => Ok(StoreInspection {
            users: format!("embedded: {} will be created", path.display()),
            documents: Some(InspectedDocuments {
                users_by_pepper_key: counts_users.then(UsersByPepperKey::default),
                ..InspectedDocuments::default()
            }),
        }),
        Ok(()) => Err(OpenError(format!("--data-dir {}: {} is not a folder", folder.display(), parent.display()))),
        Err(cause) => Err(OpenError(format!("--data-dir {}: {}: {cause}", folder.display(), parent.display()))),
    }
}

fn in_use(folder: &OwnFolder) -> OpenError {
    let mut owner = String::new();
    // The number of a process has few digits. A lock that cannot be read names none.
    drop(folder.read(LOCK).and_then(|lock| lock.take(OWNER_BYTES_MAX).read_to_string(&mut owner)));
    let owner = owner.trim();
    OpenError(format!(
        "--data-dir {}: another watchword{} uses it; stop that one, or give this one a folder of its own",
        folder.path().display(),
        if owner.is_empty() { String::new() } else { format!(" (process {owner})") },
    ))
}
