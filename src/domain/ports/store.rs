//! The store, as the rules need it.
//!
//! Every store guarantees the following; `tests/it/store/contract.rs` tests it for each of them:
//! - an acknowledged write survives `kill -9` and, if the store is durable, power loss;
//! - a username is claimed exactly once, also by concurrent calls;
//! - `replace` changes a user only if it has not changed since it was read;
//! - a single-use secret is used exactly once, also by concurrent calls;
//! - a user that cannot be decoded is an error of its own and affects no other user;
//! - a time that is read is not one that only a wrong clock can have written (`with_credible_times`).

use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use async_trait::async_trait;
use tokio::sync::watch;

use crate::domain::{
    error::StoreError,
    model::{FailedAttempts, KeyRing, Session, SessionId, SessionListEntry, User, UserId, Username, UsernameHash},
};

/// The store.
#[async_trait]
pub trait Store: Send + Sync {
    /// Reads the user with this username.
    async fn user(&self, name: &Username) -> Result<Option<Stored<User>>, StoreError>;

    /// The username of the user who has, or had, this id.
    async fn name_of(&self, id: UserId) -> Result<Option<Username>, StoreError>;

    /// Stores a new user, unless the username is taken.
    async fn claim(&self, user: &User) -> Result<Claim<User>, StoreError>;

    /// Stores the changed `user`, unless it has changed since `seen` was read.
    async fn replace(&self, seen: &Revision, user: &User) -> Result<Replace, StoreError>;

    /// Deletes a user, unless it has changed since `seen` was read. The username is then free.
    async fn remove(&self, seen: &Revision, user: &User) -> Result<Replace, StoreError>;

    /// Reads a session.
    async fn session(&self, id: SessionId) -> Result<Option<Stored<Session>>, StoreError>;

    /// Stores new sessions and deletes the sessions in `end`, in any case. Stores the list of the sessions of the user,
    /// unless it has changed since `seen` was read.
    async fn change_sessions(
        &self,
        user: UserId,
        begin: &[Session],
        end: &[SessionId],
        seen: Option<&Revision>,
        list: &[SessionListEntry],
    ) -> Result<Replace, StoreError>;

    /// Stores the changed session, unless it has changed since `seen` was read.
    async fn replace_session(&self, seen: &Revision, session: &Session) -> Result<Replace, StoreError>;

    /// The list of the sessions of a user, newest last. A hint, since a session is stored before it is listed. A list that
    /// cannot be decoded is an empty list.
    async fn sessions(&self, user: UserId) -> Result<Option<Stored<Vec<SessionListEntry>>>, StoreError>;

    /// Reads the failed attempts of a username.
    async fn failures(&self, name: UsernameHash) -> Result<Option<Stored<FailedAttempts>>, StoreError>;

    /// Stores or deletes the failed attempts, unless they have changed since `seen` was read; `None` is for none.
    async fn replace_failures(
        &self,
        name: UsernameHash,
        seen: Option<&Revision>,
        failures: Option<&FailedAttempts>,
    ) -> Result<Replace, StoreError>;

    /// Reads the key ring.
    async fn keys(&self) -> Result<Option<Stored<KeyRing>>, StoreError>;

    /// Stores the first key ring, unless another node has stored one.
    async fn claim_keys(&self, keys: &KeyRing) -> Result<Claim<KeyRing>, StoreError>;

    /// Stores the changed key ring, unless it has changed since `seen` was read.
    async fn replace_keys(&self, seen: &Revision, keys: &KeyRing) -> Result<Replace, StoreError>;

    /// Records until `expire_time` that the single-use secret with this SHA-256 was used. `false` if it was used before, on
    /// any node.
    async fn spend(&self, hash: &[u8; 32], expire_time: SystemTime) -> Result<bool, StoreError>;

    /// The clock of the store, which all nodes share. Stored times come from it.
    fn now(&self) -> SystemTime;

    /// The health of the store, and its changes.
    fn health(&self) -> watch::Receiver<StoreHealth>;

    /// Like `session`, for a result that is cached: later changes are reported to `watch`.
    async fn watched_session(&self, id: SessionId) -> Result<Option<Stored<Session>>, StoreError> {
        self.session(id).await
    }

    /// Like `user`, for a result that is cached.
    async fn watched_user(&self, name: &Username) -> Result<Option<Stored<User>>, StoreError> {
        self.user(name).await
    }

    /// Reports changes by other nodes to watched documents from now on, if the store supports it.
    fn watch(&self, _handler: ChangeHandler<Changed>) {}

    /// Settings of the store that can lose data.
    fn warnings(&self) -> Vec<ConfigurationWarning> {
        Vec::new()
    }

    /// Ends all work and closes files and connections.
    async fn close(&self);
}

/// A stored value, as it was read.
#[derive(Debug, Clone)]
pub struct Stored<T> {
    /// The value.
    pub value: T,
    /// Its revision.
    pub revision: Revision,
}

impl<T> Stored<T> {
    /// Changes the value. The revision stays that of the stored bytes.
    pub(crate) fn map<U>(self, change: impl FnOnce(T) -> U) -> Stored<U> {
        Stored { value: change(self.value), revision: self.revision }
    }
}

/// The revision of a stored value: its bytes. Only stores read it.
#[derive(Clone)]
pub struct Revision(pub(crate) Box<[u8]>);

// Does not print the document.
impl std::fmt::Debug for Revision {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Revision")
    }
}

/// The result of a claim.
#[derive(Debug)]
pub enum Claim<T> {
    /// The value is stored.
    Claimed,
    /// This value was stored before.
    Taken(Box<Stored<T>>),
}

/// The result of a replacement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Replace {
    /// The changed value is stored.
    Replaced,
    /// The value has changed since it was read. Nothing was stored.
    Changed,
}

/// How long after a read a change must be reported. An expiry within this time is reported at the read.
pub const WATCH_DURATION: Duration = Duration::from_secs(60);

/// Receives changes. Called before any response that the store gave after the change is returned, so it must not block.
pub type ChangeHandler<T> = Arc<dyn Fn(ChangeNotice<T>) + Send + Sync>;

/// A report of a store that watches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChangeNotice<T> {
    /// This has changed, or may have changed.
    Changed(T),
    /// Any document may have changed.
    Anything,
    /// For documents that were read after `since`, every change before `until` has been reported.
    Complete {
        /// When the watch began.
        since: Instant,
        /// When the store last confirmed the watch.
        until: Instant,
    },
}

/// A document that the validity of a token depends on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Changed {
    /// A session.
    Session(SessionId),
    /// The user with this username.
    User(Username),
}

/// A setting with which acknowledged data can be lost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigurationWarning {
    /// The name of the setting.
    pub setting: &'static str,
    /// Its value, the consequence and the fix. Contains no secret.
    pub text: String,
}

/// Whether a store answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreHealth {
    /// It answers.
    Up,
    /// It does not answer, but may recover.
    Down,
    /// It failed, and cannot recover in this process.
    Failed,
}
