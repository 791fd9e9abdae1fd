//! Files that no other user can have changed. What is opened is checked, and refused with the command that fixes it.
//!
//! Guarantees that the check is of the open file (`fstat`), so that a file that is replaced after a check is not used
//! unchecked. In an [`OwnFolder`] no symbolic link is followed; the path of a file that a setting names is followed, because
//! Kubernetes and systemd mount secrets through links. Of their contents it knows only
//! lines, and the form of a key.

use std::{
    fs::{self, DirBuilder, File, Metadata},
    io::{self, ErrorKind, Read},
    os::unix::fs::{DirBuilderExt, MetadataExt},
    path::{Path, PathBuf},
};

use rustix::{
    fs::{AtFlags, Mode, OFlags, open, openat, renameat, unlinkat},
    io::Errno,
    process::geteuid,
};
use zeroize::Zeroizing;

/// Bytes of a key in a file of keys.
pub(crate) const KEY_BYTES: usize = 32;

/// Bytes of a file of secrets at most.
const SECRET_FILE_BYTES_MAX: u64 = 1024 * 1024;

/// Permissions to write, of the group and of other users.
const GROUP_WRITES: u32 = 0o020;
const OTHERS_WRITE: u32 = 0o002;

/// The permission of other users to read.
const OTHERS_READ: u32 = 0o004;

/// In such a folder only the owner of a file can remove or rename it.
const STICKY: u32 = 0o1000;

/// A folder of this user that no other user can write.
pub(crate) struct OwnFolder {
    path: PathBuf,
    folder: File,
}

impl OwnFolder {
    /// Opens the folder, and creates it with access for this user alone where it does not exist.
    pub(crate) fn open_or_create(path: &Path) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(path)?;
        Self::open(path)
    }

    /// Opens the folder. Links in its path are followed, because the operator wrote the path.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let path = fs::canonicalize(path)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let folder = File::from(open(&path, flags, Mode::empty())?);
        refuse_other_users(&path, &folder.metadata()?)?;
        Ok(Self { path, folder })
    }

    /// The absolute path, without links.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The permissions.
    pub(crate) fn mode(&self) -> io::Result<u32> {
        Ok(self.folder.metadata()?.mode() & 0o777)
    }

    /// Opens a file for reading.
    pub(crate) fn read(&self, name: &str) -> io::Result<File> {
        self.open_file(name, OFlags::RDONLY)
    }

    /// Opens a file for reading and writing.
    pub(crate) fn write(&self, name: &str) -> io::Result<File> {
        self.open_file(name, OFlags::RDWR)
    }

    /// Opens a file for reading and writing, and creates it where it does not exist.
    pub(crate) fn write_or_create(&self, name: &str) -> io::Result<File> {
        self.open_file(name, OFlags::RDWR | OFlags::CREATE)
    }

    /// Creates a file for reading and writing.
    pub(crate) fn create_new(&self, name: &str) -> io::Result<File> {
        self.open_file(name, OFlags::RDWR | OFlags::CREATE | OFlags::EXCL)
    }

    /// Renames a file.
    pub(crate) fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        Ok(renameat(&self.folder, from, &self.folder, to)?)
    }

    /// Removes a file, or the link to it.
    pub(crate) fn remove(&self, name: &str) -> io::Result<()> {
        Ok(unlinkat(&self.folder, name, AtFlags::empty())?)
    }

    /// Makes the names of the files durable.
    pub(crate) fn sync(&self) -> io::Result<()> {
        self.folder.sync_all()
    }

    fn open_file(&self, name: &str, flags: OFlags) -> io::Result<File> {
        let path = self.path.join(name);
        // Without NONBLOCK a pipe in the place of the file would stop the start.
        let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        // Access for this user alone: the files have password hashes.
        let opened = openat(&self.folder, name, flags, Mode::RUSR | Mode::WUSR);
        let file = File::from(opened.map_err(|cause| match cause {
            Errno::LOOP => denied(format!(
                "{0} is a symbolic link, which is not followed: remove it (rm {0}), or put the file itself in its place",
                path.display()
            )),
            cause => cause.into(),
        })?);
        let found = file.metadata()?;
        if !found.is_file() {
            return Err(denied(format!("{} is not a regular file: move it away", path.display())));
        }
        refuse_other_users(&path, &found)?;
        if found.nlink() > 1 {
            return Err(denied(format!(
                "{0} has another name (a hard link), whose content would change too: give it a file of its own \
                 (cp -p {0} {0}.own && mv {0}.own {0})",
                path.display()
            )));
        }
        Ok(file)
    }
}

/// Refuses what belongs to another user, or what other users can write.
fn refuse_other_users(path: &Path, found: &Metadata) -> io::Result<()> {
    let (owner, user, path) = (found.uid(), geteuid().as_raw(), path.display());
    if owner != user {
        return Err(denied(format!(
            "{path} belongs to user {owner}, and this process runs as user {user}: run it as user {owner}, or change the \
             owner (chown -hR {user} {path})"
        )));
    }
    if found.mode() & (GROUP_WRITES | OTHERS_WRITE) != 0 {
        return Err(denied(format!(
            "other users can write {path} (mode {:04o}): chmod go-w {path}",
            found.mode() & 0o7777
        )));
    }
    Ok(())
}

/// Refuses a folder in which other users can replace a socket of this user: one of another user than root, or one that others
/// can write and that is not sticky.
pub(crate) fn refuse_shared_folder(path: &Path) -> io::Result<()> {
    let found = fs::metadata(path)?;
    let (owner, user, path) = (found.uid(), geteuid().as_raw(), path.display());
    if owner != user && owner != 0 {
        return Err(denied(format!(
            "the folder {path} belongs to user {owner}, and this process runs as user {user}: use a folder of that user or \
             of root"
        )));
    }
    if found.mode() & (GROUP_WRITES | OTHERS_WRITE) != 0 && found.mode() & STICKY == 0 {
        return Err(denied(format!(
            "other users can write the folder {path} (mode {:04o}) and replace the socket: chmod go-w {path}, or use a \
             folder in it",
            found.mode() & 0o7777
        )));
    }
    Ok(())
}

/// The user of a folder that no other user can write.
pub(crate) fn only_writer(path: &Path) -> Option<u32> {
    let found = fs::metadata(path).ok()?;
    (found.mode() & (GROUP_WRITES | OTHERS_WRITE) == 0).then(|| found.uid())
}

// === files that settings name ===

/// Opens a file that a setting names, and refuses one that its group (other than root's) or other users can write.
pub(crate) fn open_named(path: &Path) -> io::Result<File> {
    let file = File::open(path)?;
    let found = file.metadata()?;
    let is_group_writable = found.mode() & GROUP_WRITES != 0 && found.gid() != 0;
    if found.is_file() && (is_group_writable || found.mode() & OTHERS_WRITE != 0) {
        return Err(denied(format!(
            "other users can write it (mode {:04o}): chmod go-w {}",
            found.mode() & 0o7777,
            path.display()
        )));
    }
    Ok(file)
}

/// Reads a file of secrets that a setting names.
pub(crate) fn read_secret(path: &Path) -> io::Result<Zeroizing<String>> {
    let file = open_named(path)?;
    let bytes = file.metadata()?.len().min(SECRET_FILE_BYTES_MAX);
    // Enough for the whole file: a text that grows leaves copies behind.
    let mut text = Zeroizing::new(String::with_capacity(usize::try_from(bytes).unwrap_or_default() + 1));
    file.take(SECRET_FILE_BYTES_MAX + 1).read_to_string(&mut text)?;
    if text.len() as u64 > SECRET_FILE_BYTES_MAX {
        return Err(io::Error::new(ErrorKind::InvalidData, format!("has more than {SECRET_FILE_BYTES_MAX} bytes")));
    }
    Ok(text)
}

/// The warning that other users can read a file of secrets, if they can.
pub(crate) fn exposure(path: &Path) -> Option<String> {
    let found = fs::metadata(path).ok()?;
    let is_exposed = found.is_file() && found.mode() & OTHERS_READ != 0;
    is_exposed.then(|| {
        let mode = found.mode() & 0o7777;
        format!("{0}: every user of this machine can read it (mode {mode:04o}): chmod o-r {0}", path.display())
    })
}

fn denied(why: String) -> io::Error {
    io::Error::new(ErrorKind::PermissionDenied, why)
}

/// The entries of a file that has one in each line, with the numbers of their lines. Blank lines and lines that begin with
/// `#` are skipped.
pub(crate) fn entries(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let lines = (1..).zip(text.lines().map(str::trim));
    lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
}

/// The key in 64 hexadecimal digits of either case; `None` if the text is anything else.
pub(crate) fn key_from_hex(text: &str) -> Option<Zeroizing<[u8; KEY_BYTES]>> {
    let mut bytes = Zeroizing::new([0; KEY_BYTES]);
    if text.len() != 2 * KEY_BYTES || !text.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    for (byte, digits) in bytes.iter_mut().zip(text.as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
    }
    Some(bytes)
}
