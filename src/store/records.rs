//! Makes users, sessions and keys of documents: the one implementation of `domain::Store`, over any place.

use std::{sync::Arc, time::SystemTime};

use async_trait::async_trait;
use tokio::sync::watch;

use super::{
    documents::{Change, Document, Documents, Key, Kind, Outcome, Put},
    record,
};
use crate::domain::{Alarm, Claim, Pulse, Replace, Revision, Store, StoreError, Stored, User, Username};

/// A store over documents.
pub struct Records(Arc<dyn Documents>);

impl Records {
    /// Reads and writes `documents`.
    pub fn over(documents: Arc<dyn Documents>) -> Self {
        Self(documents)
    }

    async fn replace_user(&self, user: &User, change: Change) -> Result<Replace, StoreError> {
        let key = Key::new(Kind::User, user.username.as_str());
        Ok(replaced(self.0.change(Vec::new(), key, change).await?))
    }
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
            document: Document::lasting(user.username.as_str().into()),
        };
        let change = Change::Insert(Document::lasting(record::user::write(user)));
        match self.0.change(vec![id], Key::new(Kind::User, user.username.as_str()), change).await? {
            Outcome::Done => Ok(Claim::Claimed),
            Outcome::Refused(existing) => Ok(Claim::Taken(Box::new(record::user::read(&user.username, &existing)?))),
        }
    }

    async fn replace(&self, seen: &Revision, user: &User) -> Result<Replace, StoreError> {
        let document = Document::lasting(record::user::rewrite(seen, user)?);
        self.replace_user(user, Change::Replace { seen: seen.0.clone(), document }).await
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
