//! A session: a login creates it, a refresh extends it, and logout, a password change or expiry ends it.
//!
//! Decides whether a session is active. `token/` has the form of its tokens. Sources: ASVS 5.0 7.3.1, 7.3.2, 7.4.1; RFC 9700
//! section 4.14.2.

use std::{
    fmt,
    time::{Duration, SystemTime},
};

use uuid::Uuid;

use super::{User, UserId, Username, user::new_uuid};

/// The maximum number of sessions of one user. A login beyond it ends the oldest.
pub const SESSIONS_MAX: usize = 100;

/// The maximum length of a stored user agent in bytes.
const USER_AGENT_BYTES_MAX: usize = 256;

/// The lifetimes of tokens and sessions.
#[derive(Debug, Clone, Copy)]
pub struct Lifetimes {
    /// An access token.
    pub access: Duration,
    /// A session that is not refreshed.
    pub idle: Duration,
    /// A session, even if it is refreshed.
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

/// The identifier of a session: a UUID of version 7. Not a secret.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionId(pub(in crate::domain) Uuid);

/// One session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// The identifier.
    pub id: SessionId,
    /// The user.
    pub user_id: UserId,
    /// The canonical username.
    pub username: Username,
    /// The epoch of the user when the password was verified. A later epoch ends the session.
    pub epoch: u64,
    /// How often it was refreshed.
    pub generation: u32,
    /// SHA-256 of the refresh secret of this generation.
    pub secret_hash: [u8; 32],
    /// When the user logged in.
    pub create_time: SystemTime,
    /// When this generation began.
    pub refresh_time: SystemTime,
    /// When it ends even if it is refreshed.
    pub expire_time: SystemTime,
    /// The user agent of the caller, shortened.
    pub user_agent: String,
    /// The client address, as far as the API knew it.
    pub client_address: String,
}

/// A session in the list of its user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionListEntry {
    /// The identifier.
    pub id: SessionId,
    /// The epoch of the session.
    pub epoch: u64,
}

/// Why a session has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SessionEnd {
    /// It has expired.
    Expired,
    /// It was revoked, or its user was deleted, changed or disabled.
    Revoked,
}

// === impl SessionId ===

impl SessionId {
    /// A new identifier.
    pub fn new(now: SystemTime, random: [u8; 10]) -> Self {
        Self(new_uuid(now, random))
    }

    /// Parses the text form.
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

    /// Whether it is active, given its user.
    pub fn check(&self, user: Option<&User>, now: SystemTime, lifetimes: &Lifetimes) -> Result<(), SessionEnd> {
        let Some(user) = user else { return Err(SessionEnd::Revoked) };
        // The name of a deleted user may belong to another user.
        if user.id != self.user_id || !self.list_entry().is_current(user) || user.disabled {
            return Err(SessionEnd::Revoked);
        }
        if now >= self.idle_end(lifetimes) { Err(SessionEnd::Expired) } else { Ok(()) }
    }
}

impl Session {
    /// Its entry in the list of sessions.
    pub fn list_entry(&self) -> SessionListEntry {
        SessionListEntry { id: self.id, epoch: self.epoch }
    }
}

impl SessionListEntry {
    /// Whether the epoch of the user has not ended it.
    pub fn is_current(&self, user: &User) -> bool {
        self.epoch == user.epoch || user.kept_session == Some(*self)
    }

    /// Whether it has ended for certain. A session with a later epoch has not: `user` was read before it was created.
    pub fn is_past(&self, user: &User) -> bool {
        self.epoch < user.epoch && user.kept_session != Some(*self)
    }
}

/// The stored form of a user agent: shortened, without control characters.
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
