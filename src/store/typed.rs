//! Makes users, sessions and keys of documents: the one implementation of `domain::Store`, over any place.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::SystemTime,
};

use async_trait::async_trait;
use tokio::sync::watch;

use super::{
    OpenError, codec,
    document_store::{Change, Document, DocumentStore, Key, Kind, Outcome, Put},
    seal::{Opened, Seal},
};
use crate::common::time::to_the_millisecond;
use crate::domain::{
    ChangeHandler, ChangeNotice, Changed, Claim, ConfigurationWarning, FailedAttempts, KeyRing, Replace, Revision,
    Session, SessionId, SessionListEntry, Store, StoreError, StoreHealth, Stored, User, UserId, Username, UsernameHash,
};

/// A store over documents.
pub struct TypedStore {
    documents: Arc<dyn DocumentStore>,
    seal: Arc<Seal>,
    /// Read where there is no user.
    decoy: codec::user::Decoy,
    /// Why the keys could not be read when they were last read.
    ring_trouble: Mutex<Option<String>>,
}

/// Nodes that start together may all want to write the keys anew; one of them does.
const SEAL_TRIES: usize = 3;

impl TypedStore {
    /// Reads and writes `documents`.
    pub fn over(documents: Arc<dyn DocumentStore>) -> Self {
        Self::with(documents, Arc::new(Seal::none()))
    }

    /// The same, with the keys of tokens kept as `seal` says, from what is there already on.
    ///
    /// # Errors
    /// That they cannot be read.
    pub async fn sealed(documents: Arc<dyn DocumentStore>, seal: Arc<Seal>) -> Result<Self, OpenError> {
        let records = Self::with(documents, seal);
        for _ in 0..SEAL_TRIES {
            if records.keep_ring_as_said().await? {
                break;
            }
        }
        Ok(records)
    }

    fn with(documents: Arc<dyn DocumentStore>, seal: Arc<Seal>) -> Self {
        Self { documents, seal, decoy: codec::user::Decoy::new(), ring_trouble: Mutex::default() }
    }

    /// Writes the keys anew if they are kept in another way; `false` when another node was faster.
    async fn keep_ring_as_said(&self) -> Result<bool, OpenError> {
        let failed = |error| match error {
            StoreError::Unavailable | StoreError::OutcomeUnknown => OpenError("the store does not answer".into()),
            StoreError::Corrupt(why) => unreadable(&why),
        };
        let Some(seen) = self.documents.get(&ring_key()).await.map_err(failed)? else { return Ok(true) };
        // Whatever is not a ring is left as it is, for somebody who can read it.
        let (_, Opened { content, is_stale }) = open_ring(&self.seal, &seen).map_err(|why| unreadable(&why))?;
        if !is_stale {
            return Ok(true);
        }
        let kept = self.seal.close(&content);
        let change = Change::Replace { seen: seen.clone().into(), document: Document::lasting(kept.clone()) };
        let is_kept = self.change(ring_key(), change).await.map_err(failed)? == Replace::Replaced;
        if is_kept {
            tracing::warn!(
                before = Seal::describe(&seen),
                now = Seal::describe(&kept),
                "the keys of tokens are kept anew"
            );
        }
        Ok(is_kept)
    }

    fn ring(&self, document: &[u8]) -> Result<Stored<KeyRing>, StoreError> {
        let read = open_ring(&self.seal, document);
        *self.ring_trouble.lock().unwrap_or_else(PoisonError::into_inner) = read.as_ref().err().cloned();
        let (value, _) = read.map_err(StoreError::Corrupt)?;
        Ok(Stored { value, revision: Revision(document.into()) })
    }

    /// Makes a change that nothing goes before.
    async fn change(&self, key: Key, change: Change) -> Result<Replace, StoreError> {
        Ok(replaced(self.documents.change(Vec::new(), key, change).await?))
    }
}

/// What a node with this seal would make of the keys in a store, in one line.
pub(super) fn inspect_ring(seal: &Seal, document: Option<&[u8]>) -> Result<String, OpenError> {
    let Some(document) = document else { return Ok("keys of tokens: none yet".into()) };
    open_ring(seal, document).map_err(|why| unreadable(&why))?;
    Ok(format!("keys of tokens: {}", Seal::describe(document)))
}

/// The keys in a document, and what was in its seal.
fn open_ring(seal: &Seal, document: &[u8]) -> Result<(KeyRing, Opened), String> {
    let opened = seal.open(document)?;
    Ok((codec::keys::read(&opened.content)?, opened))
}

fn unreadable(why: &str) -> OpenError {
    OpenError(format!("{why}; --seal-key-file says how they may be kept"))
}

fn user_key(user: &User) -> Key {
    Key::new(Kind::User, user.username.as_str())
}

fn session_document(session: &Session) -> Document {
    let bytes = codec::session::write(session);
    Document { bytes, expire_time: Some(codec::session::forget_time(session)) }
}

fn session_key(id: SessionId) -> Key {
    Key::new(Kind::Session, id.to_string())
}

fn failures_key(name: UsernameHash) -> Key {
    Key::new(Kind::FailedAttempts, codec::encode_base64(&name.0))
}

fn list_key(user: UserId) -> Key {
    Key::new(Kind::Sessions, user.to_string())
}

pub(super) fn ring_key() -> Key {
    Key::new(Kind::Keys, "")
}

/// What news of documents say of users and sessions, if anything.
fn news_of(news: ChangeNotice<Key>) -> Option<ChangeNotice<Changed>> {
    Some(match news {
        ChangeNotice::Changed(key) => {
            let changed = match key.kind {
                Kind::Session => SessionId::parse(&key.name).map(Changed::Session),
                Kind::User => Username::parse(&key.name).ok().map(Changed::User),
                // No check of a token reads them.
                Kind::Id | Kind::Sessions | Kind::Keys | Kind::Once | Kind::FailedAttempts => return None,
            };
            // A name that nobody can have is not watched either, but then something else is wrong.
            changed.map_or(ChangeNotice::Anything, ChangeNotice::Changed)
        }
        ChangeNotice::Anything => ChangeNotice::Anything,
        ChangeNotice::Complete { since, until } => ChangeNotice::Complete { since, until },
    })
}

fn replaced(outcome: Outcome) -> Replace {
    match outcome {
        Outcome::Done => Replace::Replaced,
        Outcome::Refused(_) => Replace::Changed,
    }
}

#[async_trait]
impl Store for TypedStore {
    async fn user(&self, name: &Username) -> Result<Option<Stored<User>>, StoreError> {
        let document = self.documents.get(&Key::new(Kind::User, name.as_str())).await?;
        let Some(bytes) = document else {
            self.decoy.read();
            return Ok(None);
        };
        codec::user::read(name, &bytes).map(Some)
    }

    async fn name_of(&self, id: UserId) -> Result<Option<Username>, StoreError> {
        let Some(name) = self.documents.get(&Key::new(Kind::Id, id.to_string())).await? else { return Ok(None) };
        let name = str::from_utf8(&name).ok().and_then(|name| Username::parse(name).ok());
        name.map(Some).ok_or_else(|| StoreError::Corrupt("an id whose name is none".into()))
    }

    async fn claim(&self, user: &User) -> Result<Claim<User>, StoreError> {
        // Before the user: an id without a user is harmless, a user without an id is not.
        let id = Put {
            key: Key::new(Kind::Id, user.id.to_string()),
            document: Some(Document::lasting(user.username.as_str().into())),
        };
        let change = Change::Insert(Document::lasting(codec::user::write(user)));
        match self.documents.change(vec![id], user_key(user), change).await? {
            Outcome::Done => Ok(Claim::Claimed),
            Outcome::Refused(existing) => Ok(Claim::Taken(Box::new(codec::user::read(&user.username, &existing)?))),
        }
    }

    async fn replace(&self, seen: &Revision, user: &User) -> Result<Replace, StoreError> {
        let document = Document::lasting(codec::user::rewrite(seen, user)?);
        self.change(user_key(user), Change::Replace { seen: seen.0.clone(), document }).await
    }

    async fn remove(&self, seen: &Revision, user: &User) -> Result<Replace, StoreError> {
        let removed = self.change(user_key(user), Change::Remove { seen: seen.0.clone() }).await?;
        if removed == Replace::Replaced {
            // What is left is harmless, so a failure here is no failure of the call.
            let seen = user.username.as_str().as_bytes().into();
            drop(self.change(Key::new(Kind::Id, user.id.to_string()), Change::Remove { seen }).await);
            if let Ok(Some(list)) = self.sessions(user.id).await {
                let end = list.value.iter().map(|list_entry| Put { key: session_key(list_entry.id), document: None });
                let change = Change::Remove { seen: list.revision.0 };
                drop(self.documents.change(end.collect(), list_key(user.id), change).await);
            }
        }
        Ok(removed)
    }

    async fn session(&self, id: SessionId) -> Result<Option<Stored<Session>>, StoreError> {
        let document = self.documents.get(&session_key(id)).await?;
        document.map(|bytes| codec::session::read(id, &bytes)).transpose()
    }

    async fn change_sessions(
        &self,
        user: UserId,
        begin: &[Session],
        end: &[SessionId],
        seen: Option<&Revision>,
        list: &[SessionListEntry],
    ) -> Result<Replace, StoreError> {
        let begin =
            begin.iter().map(|session| Put { key: session_key(session.id), document: Some(session_document(session)) });
        let end = end.iter().map(|id| Put { key: session_key(*id), document: None });
        let list = Document::lasting(codec::session::write_list(seen, list));
        let change = match seen {
            None => Change::Insert(list),
            Some(seen) => Change::Replace { seen: seen.0.clone(), document: list },
        };
        Ok(replaced(self.documents.change(begin.chain(end).collect(), list_key(user), change).await?))
    }

    async fn replace_session(&self, seen: &Revision, session: &Session) -> Result<Replace, StoreError> {
        let bytes = codec::session::rewrite(seen, session)?;
        let document = Document { bytes, expire_time: Some(codec::session::forget_time(session)) };
        self.change(session_key(session.id), Change::Replace { seen: seen.0.clone(), document }).await
    }

    async fn sessions(&self, user: UserId) -> Result<Option<Stored<Vec<SessionListEntry>>>, StoreError> {
        let document = self.documents.get(&list_key(user)).await?;
        Ok(document.map(|bytes| codec::session::read_list(&bytes)))
    }

    async fn failures(&self, name: UsernameHash) -> Result<Option<Stored<FailedAttempts>>, StoreError> {
        let document = self.documents.get(&failures_key(name)).await?;
        document.map(|bytes| codec::failures::read(&bytes)).transpose()
    }

    async fn replace_failures(
        &self,
        name: UsernameHash,
        seen: Option<&Revision>,
        failures: Option<&FailedAttempts>,
    ) -> Result<Replace, StoreError> {
        let document = failures.map(|failures| Document {
            bytes: codec::failures::write(failures),
            expire_time: Some(codec::failures::forget_time(failures)),
        });
        let change = match (seen.map(|seen| seen.0.clone()), document) {
            (Some(seen), Some(document)) => Change::Replace { seen, document },
            (Some(seen), None) => Change::Remove { seen },
            (None, Some(document)) => Change::Insert(document),
            (None, None) => return Ok(Replace::Replaced),
        };
        self.change(failures_key(name), change).await
    }

    async fn keys(&self) -> Result<Option<Stored<KeyRing>>, StoreError> {
        let document = self.documents.get(&ring_key()).await?;
        document.map(|bytes| self.ring(&bytes)).transpose()
    }

    async fn claim_keys(&self, keys: &KeyRing) -> Result<Claim<KeyRing>, StoreError> {
        let change = Change::Insert(Document::lasting(self.seal.close(&codec::keys::write(keys))));
        match self.documents.change(Vec::new(), ring_key(), change).await? {
            Outcome::Done => Ok(Claim::Claimed),
            Outcome::Refused(theirs) => Ok(Claim::Taken(Box::new(self.ring(&theirs)?))),
        }
    }

    async fn replace_keys(&self, seen: &Revision, keys: &KeyRing) -> Result<Replace, StoreError> {
        let seen_content = self.seal.open(&seen.0).map_err(StoreError::Corrupt)?.content;
        let document = Document::lasting(self.seal.close(&codec::keys::rewrite(&seen_content, keys)?));
        self.change(ring_key(), Change::Replace { seen: seen.0.clone(), document }).await
    }

    async fn spend(&self, hash: &[u8; 32], expire_time: SystemTime) -> Result<bool, StoreError> {
        let expire_time = to_the_millisecond(expire_time);
        let document = Document { bytes: codec::once::write(expire_time), expire_time: Some(expire_time) };
        let key = Key::new(Kind::Once, codec::encode_base64(hash));
        Ok(self.documents.change(Vec::new(), key, Change::Insert(document)).await? == Outcome::Done)
    }

    fn now(&self) -> SystemTime {
        self.documents.now()
    }

    fn health(&self) -> watch::Receiver<StoreHealth> {
        self.documents.health()
    }

    async fn watched_session(&self, id: SessionId) -> Result<Option<Stored<Session>>, StoreError> {
        let document = self.documents.get_watched(&session_key(id)).await?;
        document.map(|bytes| codec::session::read(id, &bytes)).transpose()
    }

    async fn watched_user(&self, name: &Username) -> Result<Option<Stored<User>>, StoreError> {
        let document = self.documents.get_watched(&Key::new(Kind::User, name.as_str())).await?;
        document.map(|bytes| codec::user::read(name, &bytes)).transpose()
    }

    fn watch(&self, hear: ChangeHandler<Changed>) {
        self.documents.watch(Arc::new(move |news| {
            if let Some(news) = news_of(news) {
                hear(news);
            }
        }));
    }

    fn warnings(&self) -> Vec<ConfigurationWarning> {
        let trouble = self.ring_trouble.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let trouble = trouble.map(|why| ConfigurationWarning {
            setting: "seal-key-file",
            text: format!("--seal-key-file: no token counts here, since the keys cannot be read: {why}"),
        });
        trouble.into_iter().chain(self.documents.warnings()).collect()
    }

    async fn close(&self) {
        self.documents.close().await;
    }
}
