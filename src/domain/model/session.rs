//! A session: what a login begins, a refresh prolongs, and logout, password change or time ends.
//!
//! Decides whether a session lives; what its tokens look like is `token/`. Sources: ASVS 5.0 7.3.1, 7.3.2, 7.4.1; RFC 9700
//! 4.14.2.

use std::{
    fmt,
    time::{Duration, SystemTime},
};

use uuid::Uuid;

use super::{User, UserId, Username, user::new_uuid};

/// Sessions of one user at once; a login beyond it ends the oldest.
pub const SESSIONS_MAX: usize = 100;

/// Bytes that are kept of a caller's user agent.
const USER_AGENT_BYTES_MAX: usize = 256;

/// How long tokens and sessions live.
#[derive(Debug, Clone, Copy)]
pub struct Lifetimes {
    /// An access token.
    pub access: Duration,
    /// A session that nobody refreshes.
    pub idle: Duration,
    /// A session, whatever happens.
    pub absolute: Duration,
}

impl Default for Lifetimes {
    fn default() -> Self {
        const DAY: u64 = 86_400;
        Self {
            access: Duration::from_secs(300),
            idle: Duration::from_secs(30 * DAY),
            absolute: Duration::from_secs(90 * DAY),
        }
    }
}

/// A session's identifier: a UUID of version 7. No secret.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionId(pub(in crate::domain) Uuid);

/// One session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// Which one.
    pub id: SessionId,
    /// Whose.
    pub user_id: UserId,
    /// The user's canonical name.
    pub username: Username,
    /// The user's epoch when the password was checked; a later one has ended the session.
    pub epoch: u64,
    /// How often it was refreshed.
    pub generation: u32,
    /// SHA-256 of the refresh secret of this generation.
    pub secret_hash: [u8; 32],
    /// When the user signed in.
    pub create_time: SystemTime,
    /// When this generation began.
    pub refresh_time: SystemTime,
    /// When it ends whatever happens.
    pub expire_time: SystemTime,
    /// What the caller said it was, shortened.
    pub user_agent: String,
    /// Where the caller was, as far as its door knew.
    pub client_address: String,
}

/// What a user's list says of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionListEntry {
    /// Which one.
    pub id: SessionId,
    /// Its epoch.
    pub epoch: u64,
}

/// Why a session is no longer one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SessionEnd {
    /// Its time is over.
    Expired,
    /// Somebody ended it, or its user is gone, changed or disabled.
    Revoked,
}

// === impl SessionId ===

impl SessionId {
    /// Makes up a new one.
    pub fn new(now: SystemTime, random: [u8; 10]) -> Self {
        Self(new_uuid(now, random))
    }

    /// Reads the text form.
    pub fn parse(text: &str) -> Option<Self> {
        Uuid::try_parse(text).ok().map(Self)
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

// === impl Session ===

impl Session {
    /// When it ends unless it is refreshed.
    pub fn idle_end(&self, lifetimes: &Lifetimes) -> SystemTime {
        (self.refresh_time + lifetimes.idle).min(self.expire_time)
    }

    /// Whether it lives beside its user, as both were read.
    pub fn check(&self, user: Option<&User>, now: SystemTime, lifetimes: &Lifetimes) -> Result<(), SessionEnd> {
        let Some(user) = user else { return Err(SessionEnd::Revoked) };
        // A deleted user's name may belong to somebody else by now.
        if user.id != self.user_id || !self.list_entry().is_of_now(user) || user.disabled {
            return Err(SessionEnd::Revoked);
        }
        if now >= self.idle_end(lifetimes) { Err(SessionEnd::Expired) } else { Ok(()) }
    }
}

impl Session {
    /// What the list says of it.
    pub fn list_entry(&self) -> SessionListEntry {
        SessionListEntry { id: self.id, epoch: self.epoch }
    }
}

impl SessionListEntry {
    /// Whether the user's epoch has not ended it.
    pub fn is_of_now(&self, user: &User) -> bool {
        self.epoch == user.epoch || user.kept_session == Some(*self)
    }

    /// Whether nothing that comes can make it count: a later epoch is one that this reader does not know yet.
    pub fn is_past(&self, user: &User) -> bool {
        self.epoch < user.epoch && user.kept_session != Some(*self)
    }
}

/// What is kept of a user agent: its beginning, without what could break a terminal or a log.
pub(in crate::domain) fn shortened(user_agent: &str) -> String {
    let mut kept = String::new();
    for c in user_agent.chars().filter(|c| !c.is_control()) {
        if kept.len() + c.len_utf8() > USER_AGENT_BYTES_MAX {
            break;
        }
        kept.push(c);
    }
    kept
}
