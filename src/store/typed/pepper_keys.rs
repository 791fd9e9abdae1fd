//! Which pepper keys the password hashes of a store need.
//!
//! A node records its current key before it makes a hash with it, and refuses to start without a key that is recorded: one
//! read tells it, however many users there are. A key stays recorded until the operator retires it. `UsersByPepperKey` counts
//! who needs which key, for `check-config`. Does not know the keys, only their ids.

use std::{collections::BTreeMap, fmt};

use super::TypedStore;
use crate::{
    domain::{PepperKeyId, Replace, Revision, StoreError, password::Pepper},
    store::{
        OpenError, codec,
        document::{Document, DocumentKey},
    },
};

/// Nodes that start together may all want to record a key; one of them does.
const RECORD_ATTEMPTS_MAX: usize = 3;

/// The users of a store, by the pepper key that their password hashes need.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct UsersByPepperKey {
    /// The number of users for each key; those under `None` have a hash without a key.
    pub users: BTreeMap<Option<PepperKeyId>, u64>,
    /// Users without a password.
    pub without_password: u64,
    /// User records that cannot be read.
    pub unreadable: u64,
}

/// Refuses a pepper that lacks a key that is recorded in the document.
pub(in crate::store) fn check_pepper_keys(pepper: &Pepper, document: Option<&[u8]>) -> Result<(), OpenError> {
    let recorded = document.map(codec::pepper::read).transpose().map_err(|why| unreadable(&why))?;
    let missing: Vec<_> = recorded.into_iter().flatten().filter(|id| pepper.is_missing(*id)).collect();
    if missing.is_empty() { Ok(()) } else { Err(missing_keys(&missing)) }
}

impl TypedStore {
    /// Refuses a pepper that lacks a key that hashes need, and records that they need its current key.
    pub(in crate::store) async fn record_pepper_key(&self, pepper: &Pepper) -> Result<(), OpenError> {
        for _ in 0..RECORD_ATTEMPTS_MAX {
            if self.record_pepper_key_once(pepper).await? {
                return Ok(());
            }
        }
        Err(OpenError("other nodes keep changing which pepper keys the store needs; start again".into()))
    }

    /// Whether the record is as it should be; `false` when another node was faster.
    async fn record_pepper_key_once(&self, pepper: &Pepper) -> Result<bool, OpenError> {
        let failed = |error| match error {
            StoreError::Unavailable | StoreError::OutcomeUnknown => OpenError("the store does not answer".into()),
            StoreError::Corrupt(corrupt) => unreadable(&corrupt.cause),
        };
        let seen = self.documents.get(&DocumentKey::pepper_keys()).await.map_err(failed)?;
        check_pepper_keys(pepper, seen.as_deref())?;
        let recorded = seen.as_deref().map(codec::pepper::read).transpose().map_err(|why| unreadable(&why))?;
        let recorded = recorded.unwrap_or_default();
        let mut wanted = recorded.clone();
        wanted.retain(|id| !pepper.is_retired(*id));
        wanted.extend(pepper.current());
        if wanted == recorded {
            return Ok(true);
        }
        let bytes = codec::pepper::rewrite(seen.as_deref(), &wanted).map_err(|why| unreadable(&why))?;
        let revision = seen.map(|seen| Revision(seen.into()));
        let document = Some(Document::lasting(bytes));
        let written = self.put(Vec::new(), DocumentKey::pepper_keys(), revision.as_ref(), document).await;
        let is_written = written.map_err(failed)? == Replace::Replaced;
        if is_written {
            tracing::warn!(before = ?recorded, now = ?wanted, "the pepper keys that password hashes need have changed");
        }
        Ok(is_written)
    }
}

impl UsersByPepperKey {
    /// Counts the document of a user.
    pub(in crate::store) fn count(&mut self, document: &[u8]) {
        match codec::user::password(document) {
            Ok(Some(hash)) => *self.users.entry(hash.pepper_key()).or_default() += 1,
            Ok(None) => self.without_password += 1,
            Err(_) => self.unreadable += 1,
        }
    }

    /// Refuses a pepper that lacks the key of a user.
    pub(in crate::store) fn check(&self, pepper: &Pepper) -> Result<(), OpenError> {
        let missing: Vec<_> = self.users.keys().flatten().copied().filter(|id| pepper.is_missing(*id)).collect();
        if missing.is_empty() { Ok(()) } else { Err(OpenError(format!("{}\n{self}", missing_keys(&missing)))) }
    }
}

impl fmt::Display for UsersByPepperKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { users, without_password, unreadable } = self;
        f.write_str("users by pepper key: ")?;
        for (key, count) in users {
            match key {
                Some(key) => write!(f, "{key} {count}, ")?,
                None => write!(f, "no key {count}, ")?,
            }
        }
        write!(f, "no password {without_password}, unreadable {unreadable}")
    }
}

fn missing_keys(ids: &[PepperKeyId]) -> OpenError {
    let named = ids.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    OpenError(format!(
        "password hashes need pepper keys that --pepper-key-file lacks: {named}; add them to the file, or, if they are lost \
         or no user needs them any more, a line `retired` and the id for each"
    ))
}

fn unreadable(why: &str) -> OpenError {
    OpenError(format!("the record of pepper keys cannot be read: {why}"))
}
