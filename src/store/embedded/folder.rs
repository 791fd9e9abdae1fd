//! The data folder: who may use it, and which file in it is the database.
//!
//! One process at a time. A new database is made under another name and renamed when its first commit is durable, so
//! that the real name never stands for a half-made file: whatever is found under it was whole once.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io::{ErrorKind, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use redb::{Builder, Database, ReadableDatabase, StorageBackend, backends::FileBackend};
use rustix::fs::Access;

use super::{
    CACHE_BYTES, OpenError, guarded,
    tables::{self, META, Tables},
};
use crate::store::{Inspected, typed::ring_key};

const DATABASE: &str = "watchword.redb";
const UNFINISHED: &str = "watchword.redb.new";
const LOCK: &str = "lock";

/// The permissions of a folder that others have.
const OTHERS: u32 = 0o077;

/// What a disk says that is whole and will not take a write.
const DISK_REFUSALS: [ErrorKind; 3] =
    [ErrorKind::PermissionDenied, ErrorKind::ReadOnlyFilesystem, ErrorKind::StorageFull];

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
        let mode = fs::metadata(&path).map_err(|e| failed("cannot be read", e))?.permissions().mode();
        if mode & OTHERS != 0 {
            tracing::warn!(folder = %path.display(), mode = format!("{:o}", mode & 0o777), "others may look into the data folder");
        }
        let mut lock = private(File::options().create(true).truncate(false))
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
        let file = private(File::options().create_new(true)).open(&unfinished).map_err(|e| failed(&e))?;
        let file = FileBackend::new(file).map_err(|e| failed(&e))?;
        let database = builder().create_with_backend(file).map_err(|e| failed(&e))?;
        first_commit(&database).map_err(|e| failed(&e))?;
        fs::rename(&unfinished, path).map_err(|e| failed(&e))?;
        // The new name must be as durable as what it names.
        File::open(&self.path).and_then(|folder| folder.sync_all()).map_err(|e| failed(&e))?;
        Ok(database)
    }
}

/// For this user alone: the file holds password hashes, whatever folder it is in.
fn private(options: &mut OpenOptions) -> &mut OpenOptions {
    options.read(true).write(true).mode(0o600)
}

fn builder() -> Builder {
    let mut builder = Builder::new();
    builder.set_cache_size(CACHE_BYTES);
    builder
}

fn first_commit(database: &Database) -> Result<(), redb::Error> {
    let mut transaction = database.begin_write()?;
    transaction.set_quick_repair(true);
    drop(Tables::open(&transaction)?);
    transaction.open_table(META)?.insert("format", FORMAT)?;
    transaction.commit()?;
    Ok(())
}

/// What [`Folder::open_database`] does with a file, on any storage.
pub(super) fn open_storage(storage: impl StorageBackend) -> Result<Database, OpenError> {
    let name = Path::new("storage");
    let failed = |cause: redb::Error| damaged(name, &cause.to_string());
    let is_new = storage.len().map_err(|cause| failed(redb::Error::Io(cause)))? == 0;
    let database = guarded(|| {
        let database = builder().create_with_backend(storage)?;
        if is_new {
            first_commit(&database)?;
        }
        Ok(database)
    });
    let database = database.map_err(failed)?;
    let format = guarded(|| format(&database)).map_err(failed)?;
    check_format(name, format.as_deref()).map(|()| database)
}

fn open_existing(path: &Path) -> Result<Database, OpenError> {
    refuse_empty(path)?;
    let opened = guarded(|| {
        let database = builder().open(path)?;
        format(&database).map(|format| (database, format))
    });
    let (database, format) = opened.map_err(|error| match error {
        redb::Error::DatabaseAlreadyOpen => in_use(path.parent().unwrap_or(path)),
        redb::Error::Io(cause) if DISK_REFUSALS.contains(&cause.kind()) => {
            OpenError(format!("{}: {cause}; it must be writable by this user, on a disk with room", path.display()))
        }
        other => damaged(path, &other.to_string()),
    })?;
    check_format(path, format.as_deref()).map(|()| database)
}

/// redb would make a database of an empty file, and whoever truncated it would never know.
fn refuse_empty(path: &Path) -> Result<(), OpenError> {
    if fs::metadata(path).is_ok_and(|file| file.len() == 0) {
        return Err(damaged(path, "the file is empty"));
    }
    Ok(())
}

fn check_format(path: &Path, format: Option<&str>) -> Result<(), OpenError> {
    match format {
        Some(FORMAT) => Ok(()),
        Some(newer) => Err(OpenError(format!(
            "{}: has format {newer}, which a newer version of Watchword wrote; use that version",
            path.display()
        ))),
        None => Err(damaged(path, "it lacks what the first commit wrote")),
    }
}

fn format(database: &impl ReadableDatabase) -> Result<Option<String>, redb::Error> {
    let transaction = database.begin_read()?;
    tables::check(&transaction)?;
    Ok(transaction.open_table(META)?.get("format")?.map(|format| format.value().to_owned()))
}

/// Whether there is a database in the folder.
pub(super) fn exists(folder: &Path) -> bool {
    folder.join(DATABASE).exists()
}

/// Says what is in the folder, and changes nothing: the database is opened for reading only.
pub(super) fn inspect(folder: &Path) -> Result<Inspected, OpenError> {
    let path = folder.join(DATABASE);
    if !path.exists() {
        // What is there of the folder must take a new one.
        let ground = folder.ancestors().find(|part| part.exists() || part.as_os_str().is_empty());
        let ground = ground.filter(|part| !part.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let writable = rustix::fs::access(ground, Access::WRITE_OK | Access::EXEC_OK);
        return match writable {
            Ok(()) if ground.is_dir() => Ok((format!("embedded: {} will be made", path.display()), Some(None))),
            Ok(()) => Err(OpenError(format!("--data-dir {}: {} is no folder", folder.display(), ground.display()))),
            Err(cause) => Err(OpenError(format!("--data-dir {}: {}: {cause}", folder.display(), ground.display()))),
        };
    }
    refuse_empty(&path)?;
    let opened = guarded(|| {
        let database = builder().open_read_only(&path)?;
        let format = format(&database)?;
        Ok((format, tables::get(&database.begin_read()?, &ring_key())?))
    });
    let (state, keys) = match opened {
        Ok((format, keys)) => check_format(&path, format.as_deref()).map(|()| ("is whole", Some(keys)))?,
        Err(redb::Error::DatabaseAlreadyOpen) => ("is in use by a running node", None),
        Err(redb::Error::RepairAborted) => ("was not closed; the next start recovers it", None),
        Err(cause) => return Err(damaged(&path, &cause.to_string())),
    };
    Ok((format!("embedded: {} {state}", path.display()), keys))
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
