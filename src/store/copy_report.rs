//! What a copy did, and its text for the operator.
//!
//! The checksum is the same for the same documents, in whatever order a store lists them. Keys appear in the report, because
//! its reader has both stores; documents do not. Does not know stores.

use std::fmt;

use super::{document::ChangeOutcome, document_store::ScannedDocument, kind::Kind};
use crate::common::sha256::sha256_of;

/// Keys of documents that differ, by name in the report at most.
const DIFFERENT_NAMED_MAX: usize = 10;

/// What was copied.
#[derive(Debug, Default)]
pub struct CopyReport {
    users: u64,
    pub(super) documents: u64,
    new: u64,
    checksum: u128,
    pub(super) expired: u64,
    different: u64,
    /// The first of them.
    different_keys: Vec<String>,
    pub(super) missing: usize,
}

impl CopyReport {
    /// Whether the target now has every document of the source.
    pub fn is_whole(&self) -> bool {
        self.different == 0 && self.missing == 0
    }

    /// The digest of a document: two different documents never share it.
    pub(super) fn digest(document: &ScannedDocument) -> u128 {
        let parts = [document.key.kind.name().as_bytes(), document.key.name.as_bytes(), &document.bytes];
        // The lengths keep the parts apart.
        let lengths = parts.map(|part| (part.len() as u64).to_be_bytes());
        let hash = sha256_of(lengths.iter().zip(parts).flat_map(|(length, part)| [length.as_slice(), part]));
        let (half, _) = hash.split_first_chunk().expect("SHA-256 has 32 bytes");
        u128::from_be_bytes(*half)
    }

    pub(super) fn count(&mut self, document: &ScannedDocument, digest: u128, outcome: &ChangeOutcome) {
        self.documents += 1;
        self.users += u64::from(document.key.kind == Kind::User);
        self.new += u64::from(*outcome == ChangeOutcome::Done);
        // A sum, so that the order does not matter.
        self.checksum = self.checksum.wrapping_add(digest);
        if matches!(outcome, ChangeOutcome::Refused(present) if *present != document.bytes) {
            self.different += 1;
            if self.different_keys.len() < DIFFERENT_NAMED_MAX {
                self.different_keys.push(format!("{}:{}", document.key.kind.name(), document.key.name));
            }
        }
    }
}

impl fmt::Display for CopyReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { users, documents, new, checksum, expired, different, different_keys, missing } = self;
        writeln!(f, "{users} users in {documents} documents, {new} of them new to the target")?;
        writeln!(f, "checksum {checksum:032x}")?;
        if *expired > 0 {
            writeln!(f, "{expired} sessions that have ended were not copied")?;
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
