//! The key ring in the store: read and written through the seal.
//!
//! At its start a node writes the key ring again where it is not sealed as the settings say. A document that is not a key
//! ring, or that this node cannot unseal, is left as it is. Does not know when keys are rotated.

use super::TypedStore;
use crate::{
    common::lock::lock,
    domain::{ConfigurationWarning, CorruptRecord, KeyRing, Replace, Revision, StoreError, Stored},
    store::{
        OpenError, codec,
        document::{Document, DocumentKey},
        seal::{Seal, Unsealed},
    },
};

/// Nodes that start together may all want to write the key ring again; one of them does.
const RESEAL_ATTEMPTS_MAX: usize = 3;

/// What a node with this seal finds in the document of the key ring, in one line.
pub(in crate::store) fn inspect_key_ring(seal: &Seal, document: Option<&[u8]>) -> Result<String, OpenError> {
    let Some(document) = document else { return Ok("keys of tokens: none yet".into()) };
    unsealed(seal, document).map_err(|why| unreadable(&why))?;
    Ok(format!("keys of tokens: {}", Seal::describe(document)))
}

impl TypedStore {
    /// Seals the key ring as the settings say.
    pub(super) async fn reseal(&self) -> Result<(), OpenError> {
        for _ in 0..RESEAL_ATTEMPTS_MAX {
            if self.reseal_once().await? {
                break;
            }
        }
        Ok(())
    }

    /// Writes the key ring again if it is sealed in another way; `false` when another node was faster.
    async fn reseal_once(&self) -> Result<bool, OpenError> {
        let failed = |error| match error {
            StoreError::Unavailable | StoreError::OutcomeUnknown => OpenError("the store does not answer".into()),
            StoreError::Corrupt(CorruptRecord { record: _, cause }) => unreadable(&cause),
        };
        let Some(seen) = self.documents.get(&DocumentKey::key_ring()).await.map_err(failed)? else { return Ok(true) };
        let (_, Unsealed { content, is_stale }) = unsealed(&self.seal, &seen).map_err(|why| unreadable(&why))?;
        if !is_stale {
            return Ok(true);
        }
        let sealed = self.seal.seal(&content);
        let (revision, document) = (Revision(seen.clone().into()), Document::lasting(sealed.clone()));
        let written = self.put(Vec::new(), DocumentKey::key_ring(), Some(&revision), Some(document)).await;
        let is_written = written.map_err(failed)? == Replace::Replaced;
        if is_written {
            let (before, now) = (Seal::describe(&seen), Seal::describe(&sealed));
            tracing::warn!(before, now, "the seal of the key ring has changed");
        }
        Ok(is_written)
    }

    /// Decodes the document of the key ring, and remembers the cause where that fails.
    pub(super) fn key_ring(&self, document: &[u8]) -> Result<Stored<KeyRing>, StoreError> {
        let read = unsealed(&self.seal, document);
        *lock(&self.key_ring_fault) = read.as_ref().err().cloned();
        let (value, _) = read.map_err(|cause| DocumentKey::key_ring().corrupt(document, cause))?;
        Ok(Stored { value, revision: Revision(document.into()) })
    }

    /// Encodes a key ring that takes the place of `seen`.
    pub(super) fn sealed_key_ring(&self, seen: Option<&Revision>, keys: &KeyRing) -> Result<Document, StoreError> {
        let content = match seen {
            None => codec::keys::write(keys),
            Some(seen) => {
                let rewritten =
                    self.seal.unseal(&seen.0).and_then(|Unsealed { content, .. }| codec::keys::rewrite(&content, keys));
                rewritten.map_err(|cause| DocumentKey::key_ring().corrupt(&seen.0, cause))?
            }
        };
        Ok(Document::lasting(self.seal.seal(&content)))
    }

    /// The warning that the key ring could not be read when it was last read.
    pub(super) fn key_ring_warning(&self) -> Option<ConfigurationWarning> {
        let fault = lock(&self.key_ring_fault).clone()?;
        let text = format!("--seal-key-file: no token is valid here, because the keys cannot be read: {fault}");
        Some(ConfigurationWarning { setting: "seal-key-file", text })
    }
}

/// The key ring in a document, and what was in its seal.
fn unsealed(seal: &Seal, document: &[u8]) -> Result<(KeyRing, Unsealed), String> {
    let unsealed = seal.unseal(document)?;
    Ok((codec::keys::read(&unsealed.content)?, unsealed))
}

fn unreadable(why: &str) -> OpenError {
    OpenError(format!("{why}; --seal-key-file says how they may be kept"))
}
