//! The one port of the rules: where users are kept.
//!
//! What every store promises, and `tests/it/stores.rs` holds each of them to:
//! - an acknowledged write survives `kill -9` and, when the store is durable, power loss;
//! - a name is claimed exactly once under any race;
//! - `replace` changes a user only while it is as it was read;
//! - a single-use secret is spent exactly once under any race;
//! - a user that cannot be read is reported by itself and touches no other user.

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

/// Where users are kept.
#[async_trait]
pub trait Store: Send + Sync {
    /// Reads the user of that name.
    async fn user(&self, name: &Username) -> Result<Option<Stored<User>>, StoreError>;

    /// The name of the user who has, or once had, that id.
    async fn name_of(&self, id: UserId) -> Result<Option<Username>, StoreError>;

    /// Stores a new user, unless the name is taken.
    async fn claim(&self, user: &User) -> Result<Claim<User>, StoreError>;

    /// Stores the changed `user`, unless somebody changed it since `seen` was read.
    async fn replace(&self, seen: &Revision, user: &User) -> Result<Replace, StoreError>;

    /// Forgets a user, unless somebody changed it since `seen` was read. The name is free then.
    async fn remove(&self, seen: &Revision, user: &User) -> Result<Replace, StoreError>;

    /// Reads a session.
    async fn session(&self, id: SessionId) -> Result<Option<Stored<Session>>, StoreError>;

    /// Stores new sessions, and forgets those that `end`, whatever becomes of the list; and the list of
    /// the user's sessions, unless somebody changed that since `seen` was read.
    async fn change_sessions(
        &self,
        user: UserId,
        begin: &[Session],
        end: &[SessionId],
        seen: Option<&Revision>,
        list: &[SessionListEntry],
    ) -> Result<Replace, StoreError>;

    /// Stores the changed session, unless somebody changed it since `seen` was read.
    async fn replace_session(&self, seen: &Revision, session: &Session) -> Result<Replace, StoreError>;

    /// Which sessions a user has, the newest last: a hint, since a session is stored before it is listed. One that cannot
    /// be read is an empty one.
    async fn sessions(&self, user: UserId) -> Result<Option<Stored<Vec<SessionListEntry>>>, StoreError>;

    /// Reads how often a name's password was not the right one.
    async fn failures(&self, name: UsernameHash) -> Result<Option<Stored<FailedAttempts>>, StoreError>;

    /// Stores or forgets them, unless somebody changed them since `seen` was read, or stored some when there were none.
    async fn replace_failures(
        &self,
        name: UsernameHash,
        seen: Option<&Revision>,
        failures: Option<&FailedAttempts>,
    ) -> Result<Replace, StoreError>;

    /// Reads the keys that tokens are made with.
    async fn keys(&self) -> Result<Option<Stored<KeyRing>>, StoreError>;

    /// Stores the first keys, unless another node did.
    async fn claim_keys(&self, keys: &KeyRing) -> Result<Claim<KeyRing>, StoreError>;

    /// Stores the changed keys, unless somebody changed them since `seen` was read.
    async fn replace_keys(&self, seen: &Revision, keys: &KeyRing) -> Result<Replace, StoreError>;

    /// Remembers until `expire_time` that the single-use secret of that SHA-256 was spent; `false` when somebody else did,
    /// on any node.
    async fn spend(&self, hash: &[u8; 32], expire_time: SystemTime) -> Result<bool, StoreError>;

    /// What time it is for everybody who shares this store; stored times come from here.
    fn now(&self) -> SystemTime;

    /// Whether the store answers, now and whenever that changes.
    fn health(&self) -> watch::Receiver<StoreHealth>;

    /// The same as `session`, for a check that is kept: told of when it is changed (`watch`).
    async fn watched_session(&self, id: SessionId) -> Result<Option<Stored<Session>>, StoreError> {
        self.session(id).await
    }

    /// The same as `user`, for a check that is kept.
    async fn watched_user(&self, name: &Username) -> Result<Option<Stored<User>>, StoreError> {
        self.user(name).await
    }

    /// Tells what others change in what is watched, from now on, where the store can hear of it. One that cannot says
    /// nothing.
    fn watch(&self, _hear: ChangeHandler<Changed>) {}

    /// What is wrong with the store although it answers.
    fn warnings(&self) -> Vec<ConfigurationWarning> {
        Vec::new()
    }

    /// Ends all work and lets go of files and connections.
    async fn close(&self);
}

/// A user, or whatever is kept, as it was read.
#[derive(Debug, Clone)]
pub struct Stored<T> {
    /// It.
    pub value: T,
    /// Which state of it this is.
    pub revision: Revision,
}

/// One state of something stored: its bytes. Only stores look inside.
#[derive(Clone)]
pub struct Revision(pub(crate) Box<[u8]>);

// Holds the whole record.
impl std::fmt::Debug for Revision {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Revision")
    }
}

/// What became of a claim.
#[derive(Debug)]
pub enum Claim<T> {
    /// It is stored.
    Claimed,
    /// This one has the place.
    Taken(Box<Stored<T>>),
}

/// What became of a replacement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Replace {
    /// The changed user is stored.
    Replaced,
    /// The user is no longer as it was read; nothing was stored.
    Changed,
}

/// How long after it was read a change of something must still be told; a change that time alone makes, and that is
/// nearer, is told when it is read.
pub const WATCH_DURATION: Duration = Duration::from_secs(60);

/// Hears of changes. Called before any answer is given that the store made after the change, so it must not wait.
pub type ChangeHandler<T> = Arc<dyn Fn(ChangeNotice<T>) + Send + Sync>;

/// What a store that watches has to tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChangeNotice<T> {
    /// This was changed, or may have been.
    Changed(T),
    /// Anything may have been.
    Anything,
    /// Of all that was asked for after `since` and is watched, every change before `until` has been told.
    Complete {
        /// When the store began to watch.
        since: Instant,
        /// When it was asked whether it still does.
        until: Instant,
    },
}

/// What a check of a token depends on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Changed {
    /// A session.
    Session(SessionId),
    /// The user of that name.
    User(Username),
}

/// A setting of the store with which acknowledged users can be lost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigurationWarning {
    /// The setting, as the store calls it.
    pub setting: &'static str,
    /// What it is, what that does and how to change it. Holds no secret.
    pub text: String,
}

/// Whether a store answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreHealth {
    /// It does.
    Up,
    /// It does not, and may again.
    Down,
    /// It does not, and will not in this process.
    Failed,
}
