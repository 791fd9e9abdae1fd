//! Makes users, sessions and keys of documents: the one implementation of `domain::Store`, over any place.

use std::{sync::Arc, time::SystemTime};

use async_trait::async_trait;
use tokio::sync::watch;

use super::{
    documents::{Change, Document, Documents, Key, Kind, Outcome, Put},
    record,
};
use crate::domain::{
    Alarm, Claim, KeyRing, Listed, Pulse, Replace, Revision, Session, SessionId, Store, StoreError, Stored, User,
    UserId, Username,
};

/// A store over documents.
pub struct Records(Arc<dyn Documents>);

impl Records {
    /// Reads and writes `documents`.
    pub fn over(documents: Arc<dyn Documents>) -> Self {
        Self(documents)
    }

    /// Makes a change that nothing goes before.
    async fn change(&self, key: Key, change: Change) -> Result<Replace, StoreError> {
        Ok(replaced(self.0.change(Vec::new(), key, change).await?))
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
        let document = self.0.get(&Key::new(Kind::User, name.as_str())).await?;
        document.map(|bytes| record::user::read(name, &bytes)).transpose()
    }

    async fn claim(&self, user: &User) -> Result<Claim<User>, StoreError> {
        // Before the user: an id without a user is harmless, a user without an id is not.
        let id = Put {
            key: Key::new(Kind::Id, user.id.to_string()),
            document: Some(Document::lasting(user.username.as_str().into())),
        };
        let change = Change::Insert(Document::lasting(record::user::write(user)));
        match self.0.change(vec![id], user_key(user), change).await? {
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
                drop(self.0.change(end.collect(), list_key(user.id), change).await);
            }
        }
        Ok(removed)
    }

    async fn session(&self, id: SessionId) -> Result<Option<Stored<Session>>, StoreError> {
        let document = self.0.get(&session_key(id)).await?;
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
        let list = Document::lasting(record::session::write_list(list));
        let change = match seen {
            None => Change::Insert(list),
            Some(seen) => Change::Replace { seen: seen.0.clone(), document: list },
        };
        Ok(replaced(self.0.change(begin.into_iter().chain(end).collect(), list_key(user), change).await?))
    }

    async fn replace_session(&self, seen: &Revision, session: &Session) -> Result<Replace, StoreError> {
        let bytes = record::session::rewrite(seen, session)?;
        let document = Document { bytes, expire_time: Some(record::session::forget_time(session)) };
        self.change(session_key(session.id), Change::Replace { seen: seen.0.clone(), document }).await
    }

    async fn sessions(&self, user: UserId) -> Result<Option<Stored<Vec<Listed>>>, StoreError> {
        let document = self.0.get(&list_key(user)).await?;
        Ok(document.map(|bytes| record::session::read_list(&bytes)))
    }

    async fn keys(&self) -> Result<Option<Stored<KeyRing>>, StoreError> {
        let document = self.0.get(&ring_key()).await?;
        document.map(|bytes| record::keys::read(&bytes)).transpose()
    }

    async fn claim_keys(&self, keys: &KeyRing) -> Result<Claim<KeyRing>, StoreError> {
        let change = Change::Insert(Document::lasting(record::keys::write(keys)));
        match self.0.change(Vec::new(), ring_key(), change).await? {
            Outcome::Done => Ok(Claim::Claimed),
            Outcome::Refused(theirs) => Ok(Claim::Taken(Box::new(record::keys::read(&theirs)?))),
        }
    }

    async fn replace_keys(&self, seen: &Revision, keys: &KeyRing) -> Result<Replace, StoreError> {
        let document = Document::lasting(record::keys::write(keys));
        self.change(ring_key(), Change::Replace { seen: seen.0.clone(), document }).await
    }

    fn now(&self) -> SystemTime {
        self.0.now()
    }

    fn pulse(&self) -> watch::Receiver<Pulse> {
        self.0.pulse()
    }

    fn alarms(&self) -> Vec<Alarm> {
        self.0.alarms()
    }

    async fn close(&self) {
        self.0.close().await;
    }
}
