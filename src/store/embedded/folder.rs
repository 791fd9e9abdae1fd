//! The data folder: who may use it, and which file in it is the database.
//!
//! One process at a time. A new database is made under another name and renamed when its first commit is durable, so
//! that the real name never stands for a half-made file: whatever is found under it was whole once.

use std::{
    fs::{self, DirBuilder, File, TryLockError},
    io::{ErrorKind, Write},
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

use redb::{Builder, Database, DatabaseError, ReadableDatabase};

use super::{CACHE_BYTES, IDS, META, OpenError, USERS};

const DATABASE: &str = "watchword.redb";
const UNFINISHED: &str = "watchword.redb.new";
const LOCK: &str = "lock";

/// The form of the file, under `format` in [`META`].
const FORMAT: &str = "1";

/// A data folder that this process alone uses.
pub(super) struct Folder {
    path: PathBuf,
    // Unlocked by the operating system when it is closed, however this process ends.
    _lock: File,
}

impl Folder {
    /// Makes the folder when it is not there, for this user alone, and takes it.
    pub(super) fn lock(path: &Path) -> Result<Self, OpenError> {
        let failed = |what: &str, cause: std::io::Error| {
            OpenError(format!(
                "--data-dir {}: {what}: {cause}; it must be a folder that this user may write",
                path.display()
            ))
        };
        DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(|e| failed("cannot be made", e))?;
        let path = fs::canonicalize(path).map_err(|e| failed("cannot be found", e))?;
        let mut lock = File::options()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(path.join(LOCK))
            .map_err(|e| failed("cannot be written", e))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(in_use(&path)),
            Err(TryLockError::Error(e)) => return Err(failed("cannot be locked", e)),
        }
        lock.set_len(0)
            .and_then(|()| writeln!(lock, "{}", std::process::id()))
            .map_err(|e| failed("cannot be written", e))?;
        Ok(Self { path, _lock: lock })
    }

    pub(super) fn database_path(&self) -> PathBuf {
        self.path.join(DATABASE)
    }

    /// Opens the database and says whether it is new.
    pub(super) fn open_database(&self) -> Result<(Database, bool), OpenError> {
        let path = self.database_path();
        match fs::metadata(&path) {
            Ok(_) => Ok((open_existing(&path)?, false)),
            Err(e) if e.kind() == ErrorKind::NotFound => Ok((self.create(&path)?, true)),
            Err(e) => Err(OpenError(format!("{}: {e}", path.display()))),
        }
    }

    fn create(&self, path: &Path) -> Result<Database, OpenError> {
        let unfinished = self.path.join(UNFINISHED);
        let failed = |cause: &dyn std::fmt::Display| OpenError(format!("{}: cannot be made: {cause}", path.display()));
        match fs::remove_file(&unfinished) {
            Ok(()) => {}
            Err(e) if e.kind() == ErrorKind::NotFound => {}
            Err(e) => return Err(failed(&e)),
        }
        let database = Builder::new().set_cache_size(CACHE_BYTES).create(&unfinished).map_err(|e| failed(&e))?;
        first_commit(&database).map_err(|e| failed(&e))?;
        fs::rename(&unfinished, path).map_err(|e| failed(&e))?;
        // The new name must be as durable as what it names.
        File::open(&self.path).and_then(|folder| folder.sync_all()).map_err(|e| failed(&e))?;
        Ok(database)
    }
}

fn first_commit(database: &Database) -> Result<(), redb::Error> {
    let mut transaction = database.begin_write()?;
    transaction.set_quick_repair(true);
    transaction.open_table(USERS)?;
    transaction.open_table(IDS)?;
    transaction.open_table(META)?.insert("format", FORMAT)?;
    transaction.commit()?;
    Ok(())
}

fn open_existing(path: &Path) -> Result<Database, OpenError> {
    // redb would make a database of an empty file, and whoever truncated it would never know.
    if fs::metadata(path).is_ok_and(|file| file.len() == 0) {
        return Err(damaged(path, "the file is empty"));
    }
    let database = Builder::new().set_cache_size(CACHE_BYTES).open(path).map_err(|error| match error {
        DatabaseError::DatabaseAlreadyOpen => in_use(path),
        DatabaseError::Storage(redb::StorageError::Io(e))
            if matches!(
                e.kind(),
                ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem | ErrorKind::StorageFull
            ) =>
        {
            OpenError(format!("{}: {e}; it must be writable by this user, on a disk with room", path.display()))
        }
        other => damaged(path, &other.to_string()),
    })?;
    match format(&database) {
        Ok(Some(format)) if format == FORMAT => Ok(database),
        Ok(Some(format)) => Err(OpenError(format!(
            "{}: has format {format}, which a newer version of Watchword wrote; use that version",
            path.display()
        ))),
        Ok(None) => Err(damaged(path, "it lacks what the first commit wrote")),
        Err(error) => Err(damaged(path, &error.to_string())),
    }
}

fn format(database: &Database) -> Result<Option<String>, redb::Error> {
    let transaction = database.begin_read()?;
    // All three, so that a later read finds no surprise.
    transaction.open_table(USERS)?;
    transaction.open_table(IDS)?;
    Ok(transaction.open_table(META)?.get("format")?.map(|format| format.value().to_owned()))
}

/// Says what is in the folder, and changes nothing.
pub(super) fn inspect(folder: &Path) -> Result<String, OpenError> {
    let path = folder.join(DATABASE);
    let lock = match File::open(folder.join(LOCK)) {
        Ok(lock) => lock,
        Err(e) if e.kind() == ErrorKind::NotFound => {
            return Ok(format!("embedded: {} will be made", path.display()));
        }
        Err(e) => return Err(OpenError(format!("--data-dir {}: {e}", folder.display()))),
    };
    if let Err(TryLockError::WouldBlock) = lock.try_lock() {
        return Ok(format!("embedded: {} is in use by a running node", path.display()));
    }
    if !path.exists() {
        return Ok(format!("embedded: {} will be made", path.display()));
    }
    open_existing(&path).map(|_| format!("embedded: {} is whole", path.display()))
}

fn in_use(path: &Path) -> OpenError {
    let owner = fs::read_to_string(path.join(LOCK)).unwrap_or_default();
    let owner = owner.trim();
    OpenError(format!(
        "--data-dir {}: another watchword{} uses it; stop that one, or give this one a folder of its own",
        path.display(),
        if owner.is_empty() { String::new() } else { format!(" (process {owner})") },
    ))
}

fn damaged(path: &Path, why: &str) -> OpenError {
    OpenError(format!(
        "{}: is damaged ({why}); nothing was changed. Restore it from a backup, or move it away to start without users",
        path.display()
    ))
}
