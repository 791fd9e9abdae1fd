//! Moves users from one store to another: `watchword copy`.
//!
//! Streams documents as they are, byte for byte, and never touches one that the target has already. Both stores must be
//! at rest; the embedded one's lock sees to that by itself. Afterwards the target is read once more: every document of
//! the source must be in it. Safe to repeat, so whatever stopped half-way is simply started again; until it ended well
//! the target must not be used.

use std::{
    collections::HashSet,
    fmt,
    time::{Duration, SystemTime},
};

use async_trait::async_trait;
use aws_lc_rs::digest::{Context, SHA256};

use super::{
    Embedded, OpenError, Redis, Settings, codec,
    document_store::{Document, Key, Kind, Outcome},
};
use crate::domain::Environment;

/// Documents at once; bounds memory and the length of a commit.
pub(super) const PAGE_DOCUMENTS_MAX: usize = 500;

/// What expires within this is not worth copying.
const EXPIRY_MARGIN: Duration = Duration::from_secs(3_600);

/// Keys that differ and are named in the report.
const DIFFERENT_NAMED_MAX: usize = 10;

/// One stored document and where it is.
pub(super) struct Placed {
    pub(super) key: Key,
    pub(super) bytes: Vec<u8>,
}

impl Placed {
    /// The document with the time at which it expires, which it says itself.
    pub(super) fn document(&self) -> Result<Document, String> {
        Ok(Document { bytes: self.bytes.clone(), expire_time: codec::expire_time(self.key.kind, &self.bytes)? })
    }
}

/// A store as a shelf of documents.
#[async_trait]
pub(super) trait Shelf: Send + Sync {
    /// The next documents; none when there are no more. May answer one twice.
    async fn next(&mut self) -> Result<Option<Vec<Placed>>, OpenError>;

    /// Begins again with the first document.
    fn rewind(&mut self);

    /// Keeps each document, unless its key is taken.
    async fn put(&mut self, documents: &[Placed]) -> Result<Vec<Outcome>, OpenError>;

    /// Ends all work.
    async fn close(&mut self);
}

/// What was copied.
#[derive(Debug, Default)]
pub struct Report {
    users: u64,
    documents: u64,
    new: u64,
    checksum: u128,
    expired: u64,
    different: u64,
    /// The first of them.
    different_keys: Vec<String>,
    missing: usize,
}

impl Report {
    /// Whether the target now has all that the source has.
    pub fn is_whole(&self) -> bool {
        self.different == 0 && self.missing == 0
    }
}

/// Copies every document of `from` to `to`, and reads `to` again to be sure.
pub async fn copy(from: &Settings, to: &Settings, environment: &Environment) -> Result<Report, OpenError> {
    if from == to {
        return Err(OpenError("--from and --to are the same store".into()));
    }
    let mut source = open(from, "--from", false, environment).await?;
    let mut target = open(to, "--to", true, environment).await?;
    let report = copy_all(&mut *source, &mut *target, environment.clock.now()).await;
    source.close().await;
    target.close().await;
    report
}

async fn copy_all(source: &mut dyn Shelf, target: &mut dyn Shelf, now: SystemTime) -> Result<Report, OpenError> {
    let mut report = Report::default();
    // 16 bytes a document: Redis may show one twice, and what is left over in the end is missing.
    let mut digests = HashSet::new();
    while let Some(mut documents) = source.next().await? {
        let all = documents.len();
        // A spent secret stays spent, however short its memory.
        documents.retain(|document| document.key.kind == Kind::Once || !is_nearly_over(document, now));
        report.expired += (all - documents.len()) as u64;
        for (document, outcome) in documents.iter().zip(target.put(&documents).await?) {
            // That memory may be over before the target is read again.
            if document.key.kind != Kind::Once && digests.insert(digest(document)) {
                report.count(document, &outcome);
            }
        }
    }
    if report.documents == 0 {
        return Err(OpenError("--from holds no user; is it the right folder, database or prefix?".into()));
    }
    target.rewind();
    while let Some(documents) = target.next().await? {
        for document in &documents {
            digests.remove(&digest(document));
        }
    }
    report.missing = digests.len();
    Ok(report)
}

async fn open(
    settings: &Settings,
    flag: &str,
    may_be_new: bool,
    environment: &Environment,
) -> Result<Box<dyn Shelf>, OpenError> {
    let opened: Result<Box<dyn Shelf>, OpenError> = match settings {
        Settings::Memory => Err(OpenError("memory: keeps nothing that could be copied".into())),
        Settings::Embedded(folder) => {
            Embedded::shelf(folder, may_be_new, environment.clock.clone()).map(|shelf| Box::new(shelf) as _)
        }
        Settings::Redis(settings) => Redis::shelf(settings).await.map(|shelf| Box::new(shelf) as _),
    };
    opened.map_err(|OpenError(why)| OpenError(format!("{flag} {why}")))
}

/// Whether a document would be forgotten before the copy is done with it.
fn is_nearly_over(document: &Placed, now: SystemTime) -> bool {
    // What cannot be read is copied as it is, or refused where it is put.
    matches!(document.document(), Ok(Document { expire_time: Some(time), .. }) if time < now + EXPIRY_MARGIN)
}

/// Stands for one document among all: two different ones never share it.
fn digest(document: &Placed) -> u128 {
    let mut hash = Context::new(&SHA256);
    // The lengths keep the parts apart.
    for part in [document.key.kind.name().as_bytes(), document.key.name.as_bytes(), &document.bytes] {
        hash.update(&(part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    u128::from_be_bytes(hash.finish().as_ref()[..16].try_into().expect("SHA-256 has 32 bytes"))
}

impl Report {
    fn count(&mut self, document: &Placed, outcome: &Outcome) {
        self.documents += 1;
        self.users += u64::from(document.key.kind == Kind::User);
        self.new += u64::from(*outcome == Outcome::Done);
        // A sum, so that the order in which a store lists its documents does not matter.
        self.checksum = self.checksum.wrapping_add(digest(document));
        if matches!(outcome, Outcome::Refused(present) if *present != document.bytes) {
            self.different += 1;
            if self.different_keys.len() < DIFFERENT_NAMED_MAX {
                self.different_keys.push(format!("{}:{}", document.key.kind.name(), document.key.name));
            }
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { users, documents, new, checksum, expired, different, different_keys, missing } = self;
        writeln!(f, "{users} users in {documents} documents, {new} of them new to the target")?;
        writeln!(f, "checksum {checksum:032x}")?;
        if *expired > 0 {
            writeln!(f, "{expired} sessions that are over were left behind")?;
        }
        if self.is_whole() {
            return writeln!(f, "the target was read again: it has all of them");
        }
        writeln!(f, "the target lacks {missing} of them")?;
        for key in different_keys {
            writeln!(f, "  {key} is there already, and differs; it was left as it is")?;
        }
        match *different - different_keys.len() as u64 {
            0 => Ok(()),
            more => writeln!(f, "  and {more} more"),
        }
    }
}
