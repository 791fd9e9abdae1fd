//! The one implementation of `domain::Store`: users, sessions and keys as documents, over any document store.
//!
//! Each method maps to one change of one document, with writes before it that are harmless without it. Values go through
//! `codec/`, the key ring also through the seal. Does not know which store it is over, nor the rules that its values follow.

mod key_ring;
mod keys;
mod pepper_keys;

use std::{
    sync::{Arc, Mutex},
    time::SystemTime,
};

use async_trait::async_trait;
use tokio::sync::watch;

pub use self::pepper_keys::UsersByPepperKey;
pub(super) use self::{key_ring::inspect_key_ring, pepper_keys::check_pepper_keys};
use super::{
    OpenError, codec,
    document::{Change, ChangeOutcome, Document, DocumentKey, UnconditionalWrite},
    document_store::DocumentStore,
    seal::Seal,
};
use crate::{
    common::time::to_the_millisecond,
    domain::{
        ChangeHandler, ChangeNotice, Changed, Claim, ConfigurationWarning, FailedAttempts, KeyRing, Replace, Revision,
        Session, SessionId, SessionListEntry, Store, StoreError, StoreHealth, Stored, User, UserId, Username,
        UsernameHash,
    },
};

/// A store over documents.
pub struct TypedStore {
    documents: Arc<dyn DocumentStore>,
    seal: Arc<Seal>,
    /// Decoded where there is no user.
    decoy: codec::user::DecoyDocument,
    /// Why the key ring could not be read when it was last read.
    key_ring_fault: Mutex<Option<String>>,
}

impl TypedStore {
    /// Reads and writes `documents`, with a plain key ring.
    pub fn over(documents: Arc<dyn DocumentStore>) -> Self {
        Self::with(documents, Arc::new(Seal::none()))
    }

    /// Reads and writes `documents`, and seals the key ring as `seal` says, beginning with the one that is there.
    ///
    /// # Errors
    /// The key ring cannot be read.
    pub async fn sealed(documents: Arc<dyn DocumentStore>, seal: Arc<Seal>) -> Result<Self, OpenError> {
        let store = Self::with(documents, seal);
        store.reseal().await?;
        Ok(store)
    }

    fn with(documents: Arc<dyn DocumentStore>, seal: Arc<Seal>) -> Self {
        Self { documents, seal, decoy: codec::user::DecoyDocument::new(), key_ring_fault: Mutex::default() }
    }

    /// Puts `document` in the place of what was `seen`, after the writes in `first`. Without a document it deletes, and
    /// without either it does nothing.
    async fn put(
        &self,
        first: Vec<UnconditionalWrite>,
        key: DocumentKey,
        seen: Option<&Revision>,
        document: Option<Document>,
    ) -> Result<Replace, StoreError> {
        let change = match (seen.map(|Revision(bytes)| bytes.clone()), document) {
            (Some(seen), Some(document)) => Change::Replace { seen, document },
            (Some(seen), None) => Change::Remove { seen },
            (None, Some(document)) => Change::Insert(document),
            (None, None) => return Ok(Replace::Replaced),
        };
        Ok(match self.documents.change(first, key, change).await? {
            ChangeOutcome::Done => Replace::Replaced,
            ChangeOutcome::Refused(_) => Replace::Changed,
        })
    }

    /// Inserts `document`, after the writes in `first`. Returns the bytes of the document that is there already.
    async fn insert(
        &self,
        first: Vec<UnconditionalWrite>,
        key: DocumentKey,
        document: Document,
    ) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(match self.documents.change(first, key, Change::Insert(document)).await? {
            ChangeOutcome::Done => None,
            ChangeOutcome::Refused(existing) => Some(existing),
        })
    }

    fn decoded_user(&self, name: &Username, bytes: &[u8]) -> Result<Stored<User>, StoreError> {
        let user = DocumentKey::user(name).read(bytes, |bytes| codec::user::read(name, bytes))?;
        Ok(user.map(|user| user.with_credible_times(self.now())))
    }

    fn decoded_session(&self, id: SessionId, bytes: &[u8]) -> Result<Stored<Session>, StoreError> {
        let session = DocumentKey::session(id).read(bytes, |bytes| codec::session::read(id, bytes))?;
        Ok(session.map(|session| session.with_credible_times(self.now())))
    }

    /// Deletes what belonged to a removed user. What remains is harmless, so a failure here is not one of the call.
    async fn remove_leftovers(&self, user: &User) {
        let name = Revision(user.username.as_str().as_bytes().into());
        drop(self.put(Vec::new(), DocumentKey::username_of(user.id), Some(&name), None).await);
        if let Ok(Some(Stored { value, revision })) = self.sessions(user.id).await {
            let ended = value.iter().map(|entry| write(DocumentKey::session(entry.id), None)).collect();
            drop(self.put(ended, DocumentKey::session_list(user.id), Some(&revision), None).await);
        }
    }
}

fn write(key: DocumentKey, document: Option<Document>) -> UnconditionalWrite {
    UnconditionalWrite { key, document }
}

/// What a change of a document means to token checks, if anything.
fn change_notice(notice: ChangeNotice<DocumentKey>) -> Option<ChangeNotice<Changed>> {
    match notice {
        ChangeNotice::Changed(key) => key.kind.change_notice(&key.name),
        ChangeNotice::Anything => Some(ChangeNotice::Anything),
        ChangeNotice::Complete { since, until } => Some(ChangeNotice::Complete { since, until }),
    }
}

#[async_trait]
impl Store for TypedStore {
    async fn user(&self, name: &Username) -> Result<Option<Stored<User>>, StoreError> {
        let key = DocumentKey::user(name);
        let Some(bytes) = self.documents.get(&key).await? else {
            self.decoy.read();
            return Ok(None);
        };
        self.decoded_user(name, &bytes).map(Some)
    }

    async fn name_of(&self, id: UserId) -> Result<Option<Username>, StoreError> {
        let key = DocumentKey::username_of(id);
        let Some(name) = self.documents.get(&key).await? else { return Ok(None) };
        let parse = |name| str::from_utf8(name).ok().and_then(|name| Username::parse(name).ok());
        key.read(&name, |name| parse(name).ok_or_else(|| "its username is not valid".into())).map(Some)
    }

    async fn claim(&self, user: &User) -> Result<Claim<User>, StoreError> {
        // Before the user: an id without a user is harmless, a user without an id is not.
        let id = Document::lasting(user.username.as_str().into());
        let first = vec![write(DocumentKey::username_of(user.id), Some(id))];
        let (key, document) = (DocumentKey::user(&user.username), Document::lasting(codec::user::write(user)));
        match self.insert(first, key.clone(), document).await? {
            None => Ok(Claim::Claimed),
            Some(existing) => Ok(Claim::Taken(Box::new(self.decoded_user(&user.username, &existing)?))),
        }
    }

    async fn replace(&self, seen: &Revision, user: &User) -> Result<Replace, StoreError> {
        let key = DocumentKey::user(&user.username);
        let document = Document::lasting(key.read(&seen.0, |_| codec::user::rewrite(seen, user))?);
        self.put(Vec::new(), key, Some(seen), Some(document)).await
    }

    async fn remove(&self, seen: &Revision, user: &User) -> Result<Replace, StoreError> {
        let removed = self.put(Vec::new(), DocumentKey::user(&user.username), Some(seen), None).await?;
        if removed == Replace::Replaced {
            self.remove_leftovers(user).await;
        }
        Ok(removed)
    }

    async fn session(&self, id: SessionId) -> Result<Option<Stored<Session>>, StoreError> {
        let document = self.documents.get(&DocumentKey::session(id)).await?;
        document.map(|bytes| self.decoded_session(id, &bytes)).transpose()
    }

    async fn change_sessions(
        &self,
        user: UserId,
        begin: &[Session],
        end: &[SessionId],
        seen: Option<&Revision>,
        list: &[SessionListEntry],
    ) -> Result<Replace, StoreError> {
        let begin = begin.iter().map(|session| {
            let document = Document::expiring(codec::session::write(session), codec::session::kept_until(session));
            write(DocumentKey::session(session.id), Some(document))
        });
        let end = end.iter().map(|id| write(DocumentKey::session(*id), None));
        let list = Document::lasting(codec::session::write_list(seen, list));
        self.put(begin.chain(end).collect(), DocumentKey::session_list(user), seen, Some(list)).await
    }

    async fn replace_session(&self, seen: &Revision, session: &Session) -> Result<Replace, StoreError> {
        let key = DocumentKey::session(session.id);
        let bytes = key.read(&seen.0, |_| codec::session::rewrite(seen, session))?;
        let document = Document::expiring(bytes, codec::session::kept_until(session));
        self.put(Vec::new(), key, Some(seen), Some(document)).await
    }

    async fn sessions(&self, user: UserId) -> Result<Option<Stored<Vec<SessionListEntry>>>, StoreError> {
        let key = DocumentKey::session_list(user);
        let Some(bytes) = self.documents.get(&key).await? else { return Ok(None) };
        let value = codec::session::read_list(&bytes).unwrap_or_else(|cause| {
            let record = key.record(&bytes);
            tracing::warn!(record, cause, "a list of sessions cannot be read and counts as empty");
            Vec::new()
        });
        Ok(Some(Stored { value, revision: Revision(bytes.into()) }))
    }

    async fn failures(&self, name: UsernameHash) -> Result<Option<Stored<FailedAttempts>>, StoreError> {
        let key = DocumentKey::failed_attempts(name);
        let read = async || -> Result<_, StoreError> {
            let Some(bytes) = self.documents.get(&key).await? else { return Ok(None) };
            let Stored { value, revision } = key.read(&bytes, codec::failures::read)?;
            let credible = value.with_credible_times(self.now());
            Ok(Some((value != credible, Stored { value: credible, revision })))
        };
        let Some((was_wrong, stored)) = read().await? else { return Ok(None) };
        if !was_wrong {
            return Ok(Some(stored));
        }
        // Stored at once: with times ahead of the clock a GCRA state would not drain. Where another node was faster, it did
        // the same.
        self.replace_failures(name, Some(&stored.revision), Some(&stored.value)).await?;
        Ok(read().await?.map(|(_, stored)| stored))
    }

    async fn replace_failures(
        &self,
        name: UsernameHash,
        seen: Option<&Revision>,
        failures: Option<&FailedAttempts>,
    ) -> Result<Replace, StoreError> {
        let key = DocumentKey::failed_attempts(name);
        let document = failures.map(|failures| {
            let seen_bytes = seen.map_or(&[][..], |seen| &*seen.0);
            let bytes = key.read(seen_bytes, |_| codec::failures::write(seen, failures))?;
            Ok(Document { bytes, expire_time: codec::failures::kept_until(failures) })
        });
        let document = document.transpose()?;
        self.put(Vec::new(), key, seen, document).await
    }

    async fn keys(&self) -> Result<Option<Stored<KeyRing>>, StoreError> {
        let document = self.documents.get(&DocumentKey::key_ring()).await?;
        document.map(|bytes| self.key_ring(&bytes)).transpose()
    }

    async fn claim_keys(&self, keys: &KeyRing) -> Result<Claim<KeyRing>, StoreError> {
        match self.insert(Vec::new(), DocumentKey::key_ring(), self.sealed_key_ring(None, keys)?).await? {
            None => Ok(Claim::Claimed),
            Some(existing) => Ok(Claim::Taken(Box::new(self.key_ring(&existing)?))),
        }
    }

    async fn replace_keys(&self, seen: &Revision, keys: &KeyRing) -> Result<Replace, StoreError> {
        let document = self.sealed_key_ring(Some(seen), keys)?;
        self.put(Vec::new(), DocumentKey::key_ring(), Some(seen), Some(document)).await
    }

    async fn spend(&self, hash: &[u8; 32], expire_time: SystemTime) -> Result<bool, StoreError> {
        let expire_time = to_the_millisecond(expire_time);
        let document = Document::expiring(codec::once::write(expire_time), expire_time);
        Ok(self.insert(Vec::new(), DocumentKey::spent_secret(hash), document).await?.is_none())
    }

    fn now(&self) -> SystemTime {
        self.documents.now()
    }

    fn health(&self) -> watch::Receiver<StoreHealth> {
        self.documents.health()
    }

    async fn watched_session(&self, id: SessionId) -> Result<Option<Stored<Session>>, StoreError> {
        let document = self.documents.get_watched(&DocumentKey::session(id)).await?;
        document.map(|bytes| self.decoded_session(id, &bytes)).transpose()
    }

    async fn watched_user(&self, name: &Username) -> Result<Option<Stored<User>>, StoreError> {
        let document = self.documents.get_watched(&DocumentKey::user(name)).await?;
        document.map(|bytes| self.decoded_user(name, &bytes)).transpose()
    }

    fn watch(&self, handler: ChangeHandler<Changed>) {
        self.documents.watch(Arc::new(move |notice| {
            if let Some(notice) = change_notice(notice) {
                handler(notice);
            }
        }));
    }

    fn warnings(&self) -> Vec<ConfigurationWarning> {
        self.key_ring_warning().into_iter().chain(self.documents.warnings()).collect()
    }

    async fn close(&self) {
        self.documents.close().await;
    }
}
