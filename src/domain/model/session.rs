//! A session: a login creates it, a refresh extends it, and logout, a password change or expiry ends it.
//!
//! Decides whether a session is active. `token/` has the form of its tokens. Sources: ASVS 5.0 7.3.1, 7.3.2, 7.4.1; RFC 9700
//! section 4.14.2.

use std::time::{Duration, SystemTime};

use super::{SessionId, SessionListEntry, User, UserId, Username};
use crate::common::time::is_credible;

/// The maximum number of sessions of one user. A login beyond it ends the oldest.
pub const SESSIONS_MAX: usize = 100;

/// The length of each hash of a [`RefreshOrigin`].
pub const ORIGIN_HASH_BYTES: usize = 16;

/// Generations in a row in which a repeat is remembered: all bits of [`Repeats`].
const REPEATED_GENERATIONS: u8 = 0b1111;

/// The precision of the times of a refresh that are shown: finer ones would tell the thief of a token when its user has
/// exchanged it.
const SHOWN_REFRESH_PRECISION: Duration = Duration::from_secs(60);

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
    /// The session epoch of the key ring at the login. A later one ends the session.
    pub session_epoch: u64,
    /// How often it was refreshed.
    pub generation: u32,
    /// SHA-256 of the refresh secret of this generation.
    pub secret_hash: [u8; 32],
    /// Random: from it and the previous secret the secret of this generation was derived. So an attacker with the key
    /// ring and a spent refresh token cannot derive the tokens that followed. Zeros for the first generation, which is
    /// random itself.
    pub refresh_nonce: [u8; 16],
    /// When the user logged in.
    pub create_time: SystemTime,
    /// When this generation began.
    pub refresh_time: SystemTime,
    /// The refresh that began this generation; none before the first.
    pub refreshed_by: Option<RefreshOrigin>,
    /// Which of the last generations began with a refresh that was repeated.
    pub repeats: Repeats,
    /// Whether the token before the present one was sent again from elsewhere, which was refused: one of two holders is a
    /// thief, and the next exchange ends the session.
    pub is_contested: bool,
    /// When it ends even if it is refreshed.
    pub expire_time: SystemTime,
    /// The client that the session belongs to: `client_id` of its access tokens (RFC 9068).
    pub client_id: String,
    /// The user agent of the caller, 256 bytes at most.
    pub user_agent: String,
    /// The client address, as far as the API knew it.
    pub client_address: String,
}

/// Where a refresh came from, to recognize its repeats. Both hashes are keyed with the secret of the exchanged token, which
/// the store does not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RefreshOrigin {
    /// Of the request id; none if the call had none.
    pub request: Option<[u8; ORIGIN_HASH_BYTES]>,
    /// Of the API, the address prefix and the user agent.
    pub caller: [u8; ORIGIN_HASH_BYTES],
}

/// Which of the last four generations began with a refresh that was repeated. The lowest bit is the present generation.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Repeats {
    /// Repeated at all.
    pub any: u8,
    /// Repeated later than two concurrent calls of one client are.
    pub late: u8,
}

/// Why a session has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SessionEnd {
    /// It has expired.
    Expired,
    /// It was revoked, or its user was deleted, changed or disabled.
    Revoked,
}

// === impl Session ===

impl Session {
    /// When it ends unless it is refreshed.
    pub fn idle_end(&self, lifetimes: &Lifetimes) -> SystemTime {
        (self.refresh_time + lifetimes.idle).min(self.expire_time)
    }

    /// When this generation began, to the minute; never before the login.
    pub fn shown_refresh_time(&self) -> SystemTime {
        self.refresh_minute().max(self.create_time)
    }

    /// When it ends unless it is refreshed, to the minute.
    pub fn shown_idle_end(&self, lifetimes: &Lifetimes) -> SystemTime {
        (self.refresh_minute() + lifetimes.idle).min(self.expire_time)
    }

    fn refresh_minute(&self) -> SystemTime {
        let since_1970 = self.refresh_time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let precision = SHOWN_REFRESH_PRECISION.as_secs();
        SystemTime::UNIX_EPOCH + Duration::from_secs(since_1970.as_secs() / precision * precision)
    }

    /// Whether it is active, given its user and the session epoch of the key ring.
    pub fn check(
        &self,
        user: Option<&User>,
        session_epoch: u64,
        now: SystemTime,
        lifetimes: &Lifetimes,
    ) -> Result<(), SessionEnd> {
        let Some(user) = user else { return Err(SessionEnd::Revoked) };
        // The name of a deleted user may belong to another user.
        if user.id != self.user_id || !user.is_current(self.list_entry()) || user.disabled {
            return Err(SessionEnd::Revoked);
        }
        // A later epoch is one that this node does not know yet.
        if self.session_epoch < session_epoch {
            return Err(SessionEnd::Revoked);
        }
        if now >= self.idle_end(lifetimes) { Err(SessionEnd::Expired) } else { Ok(()) }
    }

    /// The session without times that a wrong clock wrote. One that began in the future is not active: by its times it
    /// would live too long. A refresh in the future counts as one at the login.
    pub(crate) fn with_credible_times(self, now: SystemTime) -> Self {
        // Every field by name, so that a new time is not forgotten.
        let Self {
            id: _,
            user_id: _,
            username: _,
            epoch: _,
            session_epoch: _,
            generation: _,
            secret_hash: _,
            refresh_nonce: _,
            create_time,
            refresh_time,
            refreshed_by: _,
            repeats: _,
            is_contested: _,
            expire_time,
            client_id: _,
            user_agent: _,
            client_address: _,
        } = self;
        Self {
            refresh_time: if is_credible(refresh_time, now) { refresh_time } else { create_time },
            expire_time: if is_credible(create_time, now) { expire_time } else { expire_time.min(now) },
            ..self
        }
    }

    /// Its entry in the list of sessions.
    pub fn list_entry(&self) -> SessionListEntry {
        SessionListEntry { id: self.id, epoch: self.epoch }
    }
}

// === impl Repeats ===

impl Repeats {
    /// Those of the next generation, which is not repeated yet.
    pub(in crate::domain) fn of_next_generation(self) -> Self {
        Self { any: (self.any << 1) & REPEATED_GENERATIONS, late: (self.late << 1) & REPEATED_GENERATIONS }
    }

    /// With a repeat in the present generation.
    pub(in crate::domain) fn with_repeat(self, is_late: bool) -> Self {
        Self { any: self.any | 1, late: self.late | u8::from(is_late) }
    }

    /// Whether every one of the last four generations was repeated, and one of them late.
    pub(in crate::domain) fn are_reuse(self) -> bool {
        self.any & REPEATED_GENERATIONS == REPEATED_GENERATIONS && self.late & REPEATED_GENERATIONS != 0
    }
}
