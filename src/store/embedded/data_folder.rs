//! The data folder: one process at a time, and which file in it is the database.
//!
//! A new database is written under another name and renamed when its first commit is durable, so a file under the real name
//! was whole once. Does not know what is in the file; that is `database.rs`.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io::{ErrorKind, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use redb::{Database, backends::FileBackend};
use rustix::fs::Access;

use super::{
    InspectedDocuments, OpenError, StoreInspection, UsersByPepperKey,
    database::{self, ReadState},
};

const DATABASE: &str = "watchword.redb";
const UNFINISHED: &str = "watchword.redb.new";
const LOCK: &str = "lock";

/// The permissions of other users.
const OTHERS: u32 = 0o077;

/// A data folder that only this process uses.
pub(super) struct DataFolder {
    path: PathBuf,
    // The operating system unlocks it when it is closed, however this process ends.
    _lock: File,
}

impl DataFolder {
    /// Locks the folder, and creates it with access for this user alone where it does not exist.
    pub(super) fn lock(path: &Path) -> Result<Self, OpenError> {
        let failed = |what: &str, cause: std::io::Error| {
            OpenError(format!(
                "--data-dir {}: {what}: {cause}; it must be a folder that this user can write",
                path.display()
            ))
        };
        DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(|e| failed("cannot be created", e))?;
        let path = fs::canonicalize(path).map_err(|e| failed("cannot be found", e))?;
        let mode = fs::metadata(&path).map_err(|e| failed("cannot be read", e))?.permissions().mode();
        if mode & OTHERS != 0 {
            tracing::warn!(folder = %path.display(), mode = format!("{:o}", mode & 0o777), "other users have access to the data folder");
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
            Ok(_) => Ok((database::open_file(&path, || in_use(&self.path))?, false)),
            Err(e) if e.kind() == ErrorKind::NotFound => Ok((self.create(&path)?, true)),
            Err(e) => Err(OpenError(format!("{}: {e}", path.display()))),
        }
    }

    fn create(&self, path: &Path) -> Result<Database, OpenError> {
        let unfinished = self.path.join(UNFINISHED);
        let failed =
            |cause: &dyn std::fmt::Display| OpenError(format!("{}: cannot be created: {cause}", path.display()));
        match fs::remove_file(&unfinished) {
            Ok(()) => {}
            Err(e) if e.kind() == ErrorKind::NotFound => {}
            Err(e) => return Err(failed(&e)),
        }
        let file = private(File::options().create_new(true)).open(&unfinished).map_err(|e| failed(&e))?;
        let file = FileBackend::new(file).map_err(|e| failed(&e))?;
        let database = database::create_on(file).map_err(|e| failed(&e))?;
        fs::rename(&unfinished, path).map_err(|e| failed(&e))?;
        // The new name must be as durable as the file.
        File::open(&self.path).and_then(|folder| folder.sync_all()).map_err(|e| failed(&e))?;
        Ok(database)
    }
}

/// Access for this user alone, in whatever folder: the file contains password hashes.
fn private(options: &mut OpenOptions) -> &mut OpenOptions {
    options.read(true).write(true).mode(0o600)
}

/// Whether there is a database in the folder.
pub(super) fn has_database(folder: &Path) -> bool {
    folder.join(DATABASE).exists()
}

/// Says what is in the folder, and changes nothing.
pub(super) fn inspect(folder: &Path, counts_users: bool) -> Result<StoreInspection, OpenError> {
    let path = folder.join(DATABASE);
    if !path.exists() {
        return inspect_absent(folder, &path, counts_users);
    }
    let (state, documents) = match database::inspect_file(&path, counts_users)? {
        ReadState::Whole(documents) => ("is whole", Some(documents)),
        ReadState::InUse => ("is in use by a running node", None),
        ReadState::NotClosed => ("was not closed; the next start recovers it", None),
    };
    Ok(StoreInspection { users: format!("embedded: {} {state}", path.display()), documents })
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

fn in_use(path: &Path) -> OpenError {
    let owner = fs::read_to_string(path.join(LOCK)).unwrap_or_default();
    let owner = owner.trim();
    OpenError(format!(
        "--data-dir {}: another watchword{} uses it; stop that one, or give this one a folder of its own",
        path.display(),
        if owner.is_empty() { String::new() } else { format!(" (process {owner})") },
    ))
}
