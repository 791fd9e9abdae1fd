//! Makes users, sessions and keys of documents: the one implementation of `domain::Store`, over any place.

use std::{sync::Arc, time::SystemTime};

use async_trait::async_trait;
use tokio::sync::watch;
use zeroize::Zeroizing;

use super::{
    OpenError,
    documents::{Change, Document, Documents, Key, Kind, Outcome, Put},
    record,
    seal::{self, Opened, SealKeys},
};
use crate::domain::{
    Alarm, Claim, KeyRing, Listed, Pulse, Replace, Revision, Session, SessionId, Store, StoreError, Stored, User,
    UserId, Username,
};

/// A store over documents.
pub struct Records {
    documents: Arc<dyn Documents>,
    seal: Option<Arc<SealKeys>>,
}

/// Nodes that start together may all want to seal; one of them does.
const SEAL_TRIES: usize = 3;

impl Records {
    /// Reads and writes `documents`.
    pub fn over(documents: Arc<dyn Documents>) -> Self {
        Self { documents, seal: None }
    }

    /// The same, with the token keys sealed, from what is there already on.
    ///
    /// # Errors
    /// That they are sealed and no given key opens them.
    pub async fn sealed(documents: Arc<dyn Documents>, seal: Option<Arc<SealKeys>>) -> Result<Self, OpenError> {
        let records = Self { documents, seal };
        for _ in 0..SEAL_TRIES {
            if records.seal_anew().await? == Replace::Replaced {
                break;
            }
        }
        Ok(records)
    }

    async fn seal_anew(&self) -> Result<Replace, OpenError> {
        let failed = |error| OpenError(format!("the keys of tokens cannot be used: {error:?}"));
        let Some(seen) = self.documents.get(&ring_key()).await.map_err(failed)? else { return Ok(Replace::Replaced) };
        let opened = seal::open(self.seal.as_deref(), &seen)
            .map_err(|why| OpenError(format!("{why}: --seal-key-file names the file of the key")))?;
        let content = match (opened, &self.seal) {
            (Opened::Unsealed { content, stale: true }, Some(_)) => content,
            (Opened::Plain, Some(_)) => seen.clone().into(),
            (Opened::Plain, None) | (Opened::Unsealed { .. }, _) => return Ok(Replace::Replaced),
        };
        let change = Change::Replace { seen: seen.into(), document: Document::lasting(self.seal(content)) };
        let changed = self.change(ring_key(), change).await.map_err(failed)?;
        if changed == Replace::Replaced {
            tracing::info!("the keys of tokens are sealed with the first key of --seal-key-file now");
        }
        Ok(changed)
    }

    fn seal(&self, document: Zeroizing<Vec<u8>>) -> Vec<u8> {
        match &self.seal {
            Some(keys) => keys.seal(&document),
            None => document.to_vec(),
        }
    }

    fn unsealed(&self, document: &[u8]) -> Result<Zeroizing<Vec<u8>>, StoreError> {
        match seal::open(self.seal.as_deref(), document).map_err(StoreError::Corrupt)? {
            Opened::Plain => Ok(document.to_vec().into()),
            Opened::Unsealed { content, .. } => Ok(content),
        }
    }

    fn ring(&self, document: &[u8]) -> Result<Stored<KeyRing>, StoreError> {
        let value = record::keys::read(&self.unsealed(document)?)?;
        Ok(Stored { value, revision: Revision(document.into()) })
    }

    /// Makes a change that nothing goes before.
    async fn change(&self, key: Key, change: Change) -> Result<Replace, StoreError> {
        Ok(replaced(self.documents.change(Vec::new(), key, change).await?))
    }
}

fn user_key(user: &User) -> Key {
    Key::new(Kind::User, user.username.as_str())
}

fn session_document(session: &Session) -> Document {
    let bytes = record::session::write(session);
    Document { bytes, expire_time: Some(record::session::forget_time(session)) }
}

fn session_key(id: SessionId) -> Key {
    Key::new(Kind::Session, id.to_string())
}

fn list_key(user: UserId) -> Key {
    Key::new(Kind::Sessions, user.to_string())
}

fn ring_key() -> Key {
    Key::new(Kind::Keys, "")
}

fn replaced(outcome: Outcome) -> Replace {
    match outcome {
        Outcome::Done => Replace::Replaced,
        Outcome::Refused(_) => Replace::Changed,
    }
}

#[async_trait]
impl Store for Records {
    async fn user(&self, name: &Username) -> Result<Option<Stored<User>>, StoreError> {
        let document = self.documents.get(&Key::new(Kind::User, name.as_str())).await?;
        document.map(|bytes| record::user::read(name, &bytes)).transpose()
    }

    async fn claim(&self, user: &User) -> Result<Claim<User>, StoreError> {
        // Before the user: an id without a user is harmless, a user without an id is not.
        let id = Put {
            key: Key::new(Kind::Id, user.id.to_string()),
            document: Some(Document::lasting(user.username.as_str().into())),
        };
        let change = Change::Insert(Document::lasting(record::user::write(user)));
        match self.documents.change(vec![id], user_key(user), change).await? {
            Outcome::Done => Ok(Claim::Claimed),
            Outcome::Refused(existing) => Ok(Claim::Taken(Box::new(record::user::read(&user.username, &existing)?))),
        }
    }

    async fn replace(&self, seen: &Revision, user: &User) -> Result<Replace, StoreError> {
        let document = Document::lasting(record::user::rewrite(seen, user)?);
        self.change(user_key(user), Change::Replace { seen: seen.0.clone(), document }).await
    }

    async fn remove(&self, seen: &Revision, user: &User) -> Result<Replace, StoreError> {
        let removed = self.change(user_key(user), Change::Remove { seen: seen.0.clone() }).await?;
        if removed == Replace::Replaced {
            // What is left is harmless, so a failure here is no failure of the call.
            let seen = user.username.as_str().as_bytes().into();
            drop(self.change(Key::new(Kind::Id, user.id.to_string()), Change::Remove { seen }).await);
            if let Ok(Some(list)) = self.sessions(user.id).await {
                let end = list.value.iter().map(|listed| Put { key: session_key(listed.id), document: None });
                let change = Change::Remove { seen: list.revision.0 };
                drop(self.documents.change(end.collect(), list_key(user.id), change).await);
            }
        }
        Ok(removed)
    }

    async fn session(&self, id: SessionId) -> Result<Option<Stored<Session>>, StoreError> {
        let document = self.documents.get(&session_key(id)).await?;
        document.map(|bytes| record::session::read(id, &bytes)).transpose()
    }

    async fn change_sessions(
        &self,
        user: UserId,
        begin: Option<&Session>,
        end: &[SessionId],
        seen: Option<&Revision>,
        list: &[Listed],
    ) -> Result<Replace, StoreError> {
        let begin =
            begin.map(|session| Put { key: session_key(session.id), document: Some(session_document(session)) });
        let end = end.iter().map(|id| Put { key: session_key(*id), document: None });
        let list = Document::lasting(record::session::write_list(seen, list));
        let change = match seen {
            None => Change::Insert(list),
            Some(seen) => Change::Replace { seen: seen.0.clone(), document: list },
        };
        Ok(replaced(self.documents.change(begin.into_iter().chain(end).collect(), list_key(user), change).await?))
    }

    async fn replace_session(&self, seen: &Revision, session: &Session) -> Result<Replace, StoreError> {
        let bytes = record::session::rewrite(seen, session)?;
        let document = Document { bytes, expire_time: Some(record::session::forget_time(session)) };
        self.change(session_key(session.id), Change::Replace { seen: seen.0.clone(), document }).await
    }

    async fn sessions(&self, user: UserId) -> Result<Option<Stored<Vec<Listed>>>, StoreError> {
        let document = self.documents.get(&list_key(user)).await?;
        Ok(document.map(|bytes| record::session::read_list(&bytes)))
    }

    async fn keys(&self) -> Result<Option<Stored<KeyRing>>, StoreError> {
        let document = self.documents.get(&ring_key()).await?;
        document.map(|bytes| self.ring(&bytes)).transpose()
    }

    async fn claim_keys(&self, keys: &KeyRing) -> Result<Claim<KeyRing>, StoreError> {
        let change = Change::Insert(Document::lasting(self.seal(record::keys::write(keys))));
        match self.documents.change(Vec::new(), ring_key(), change).await? {
            Outcome::Done => Ok(Claim::Claimed),
            Outcome::Refused(theirs) => Ok(Claim::Taken(Box::new(self.ring(&theirs)?))),
        }
    }

    async fn replace_keys(&self, seen: &Revision, keys: &KeyRing) -> Result<Replace, StoreError> {
        let document = record::keys::rewrite(&self.unsealed(&seen.0)?, keys)?;
        let document = Document::lasting(self.seal(document));
        self.change(ring_key(), Change::Replace { seen: seen.0.clone(), document }).await
    }

    fn now(&self) -> SystemTime {
        self.documents.now()
    }

    fn pulse(&self) -> watch::Receiver<Pulse> {
        self.documents.pulse()
    }

    fn alarms(&self) -> Vec<Alarm> {
        self.documents.alarms()
    }

    async fn close(&self) {
        self.documents.close().await;
    }
}
