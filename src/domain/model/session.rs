//! A session: what a login begins, a refresh prolongs, and logout, password change or time ends.
//!
//! Decides whether a session lives; what its tokens look like is `token/`. Sources: ASVS 5.0 7.3.1, 7.3.2, 7.4.1; RFC 9700
//! 4.14.2.

use std::time::{Duration, SystemTime};

use super::{SessionId, SessionListEntry, User, UserId, Username};

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

/// Why a session is no longer one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SessionEnd {
    /// Its time is over.
    Expired,
    /// Somebody ended it, or its user is gone, changed or disabled.
    Revoked,
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
        if user.id != self.user_id || !user.is_current(self.list_entry()) || user.disabled {
            return Err(SessionEnd::Revoked);
        }
        if now >= self.idle_end(lifetimes) { Err(SessionEnd::Expired) } else { Ok(()) }
    }

    /// What the list says of it.
    pub fn list_entry(&self) -> SessionListEntry {
        SessionListEntry { id: self.id, epoch: self.epoch }
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
