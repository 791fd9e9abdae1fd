//! The database file: how a new one is created, and what is refused when an existing one is opened.
//!
//! A file without what the first commit wrote is damaged and never taken for a new one. Does not know the data folder, nor
//! which name the file has in it.

use std::{fs::File, io::ErrorKind, path::Path};

use redb::{Builder, Database, ReadTransaction, ReadableDatabase, StorageBackend, backends::FileBackend};

use super::{
    InspectedDocuments, OpenError, UsersByPepperKey, guarded,
    tables::{self, CommitTables, META},
};
use crate::store::{document::DocumentKey, kind::Kind};

/// Bytes of pages in memory at most.
const CACHE_BYTES_MAX: usize = 32 * 1024 * 1024;

/// The form of the file, under `format` in [`META`].
const FORMAT: &str = "1";

/// Errors of a disk that is whole and does not accept a write.
const DISK_REFUSALS: [ErrorKind; 3] =
    [ErrorKind::PermissionDenied, ErrorKind::ReadOnlyFilesystem, ErrorKind::StorageFull];

/// What a file that was opened for reading has.
pub(super) enum ReadState {
    /// It is whole; the documents that a start reads.
    Whole(InspectedDocuments),
    /// A running node has it open.
    InUse,
    /// Its process ended without closing it.
    NotClosed,
}

/// Creates a database on an empty storage.
pub(super) fn create_on(storage: impl StorageBackend) -> Result<Database, redb::Error> {
    let database = builder().create_with_backend(storage)?;
    let mut transaction = database.begin_write()?;
    transaction.set_quick_repair(true);
    drop(CommitTables::open(&transaction)?);
    transaction.open_table(META)?.insert("format", FORMAT)?;
    transaction.commit()?;
    Ok(database)
}

/// Opens or creates a database on any storage.
pub(super) fn open_storage(storage: impl StorageBackend) -> Result<Database, OpenError> {
    let name = Path::new("storage");
    let failed = |cause: redb::Error| damaged(name, &cause.to_string());
    let is_new = storage.len().map_err(|cause| failed(redb::Error::Io(cause)))? == 0;
    let database = guarded(|| match is_new {
        true => create_on(storage),
        false => Ok(builder().create_with_backend(storage)?),
    });
    let database = database.map_err(failed)?;
    let format = guarded(|| format(&database)).map_err(failed)?;
    check_format(name, format.as_deref()).map(|()| database)
}

/// Opens `file`, which is at `path`. `in_use` makes the error for a file that another process has open.
pub(super) fn open_file(path: &Path, file: File, in_use: impl FnOnce() -> OpenError) -> Result<Database, OpenError> {
    refuse_empty(path, &file)?;
    let opened = guarded(|| {
        let database = builder().create_with_backend(FileBackend::new(file)?)?;
        format(&database).map(|format| (database, format))
    });
    let (database, format) = opened.map_err(|error| match error {
        redb::Error::DatabaseAlreadyOpen => in_use(),
        redb::Error::Io(cause) if DISK_REFUSALS.contains(&cause.kind()) => OpenError(format!(
            "{}: {cause}; this user must be able to write it, on a disk with free space",
            path.display()
        )),
        other => damaged(path, &other.to_string()),
    })?;
    check_format(path, format.as_deref()).map(|()| database)
}

/// Reads `file`, which is at `path`, and says what it has.
pub(super) fn inspect_file(path: &Path, file: File, counts_users: bool) -> Result<ReadState, OpenError> {
    refuse_empty(path, &file)?;
    let opened = guarded(|| {
        let database = builder().open_read_only_with_backend(FileBackend::new(file)?)?;
        let format = format(&database)?;
        let transaction = database.begin_read()?;
        let documents = InspectedDocuments {
            key_ring: tables::get(&transaction, &DocumentKey::key_ring())?,
            pepper_keys: tables::get(&transaction, &DocumentKey::pepper_keys())?,
            users_by_pepper_key: counts_users.then(|| users_by_pepper_key(&transaction)).transpose()?,
        };
        Ok((format, documents))
    });
    match opened {
        Ok((format, documents)) => check_format(path, format.as_deref()).map(|()| ReadState::Whole(documents)),
        Err(redb::Error::DatabaseAlreadyOpen) => Ok(ReadState::InUse),
        Err(redb::Error::RepairAborted) => Ok(ReadState::NotClosed),
        Err(cause) => Err(damaged(path, &cause.to_string())),
    }
}

/// Reads all users, a page at a time.
fn users_by_pepper_key(transaction: &ReadTransaction) -> Result<UsersByPepperKey, redb::Error> {
    let mut counted = UsersByPepperKey::default();
    let mut after = None;
    loop {
        let page = tables::page(transaction, Some(Kind::User), after.as_ref())?;
        page.iter().for_each(|user| counted.count(&user.bytes));
        match page.into_iter().last() {
            Some(last) => after = Some(last.key),
            None => return Ok(counted),
        }
    }
}

fn builder() -> Builder {
    let mut builder = Builder::new();
    builder.set_cache_size(CACHE_BYTES_MAX);
    builder
}

/// redb would create a database in an empty file, and a truncated file would look like a new store.
fn refuse_empty(path: &Path, file: &File) -> Result<(), OpenError> {
    if file.metadata().is_ok_and(|file| file.len() == 0) {
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

fn damaged(path: &Path, why: &str) -> OpenError {
    OpenError(format!(
        "{}: is damaged ({why}); nothing was changed. Restore it from a backup, or move it away to start without users",
        path.display()
    ))
}
