//! A registered user and its identifiers.

use std::time::SystemTime;

use super::{AddressHash, KeptCode, PasswordHash, RequestId, SessionListEntry, UserData, UserId, Username};
use crate::common::time::{credible_or_now, is_credible};

/// A registered user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// The permanent identifier.
    pub id: UserId,
    /// The canonical username.
    pub username: Username,
    /// The password hash. Without one no password matches.
    pub password: Option<PasswordHash>,
    /// The password that a required reset made invalid. The reset must not set it again.
    pub former_password: Option<PasswordHash>,
    /// The text that the client keeps with the user.
    pub data: UserData,
    /// Raised to end every session of the user at once.
    pub epoch: u64,
    /// The one session that the current epoch did not end.
    pub kept_session: Option<SessionListEntry>,
    /// When the user was registered.
    pub create_time: SystemTime,
    /// When the user was last changed, except by a login.
    pub update_time: SystemTime,
    /// The last login, rounded to the hour.
    pub last_login_time: Option<SystemTime>,
    /// The request id of the registration, if it had one.
    pub request_id: Option<RequestId>,
    /// Whether logins are refused.
    pub disabled: bool,
    /// Familiar addresses: those of the latest logins, newest last.
    pub known_addresses: Vec<AddressHash>,
    /// The current reset code.
    pub reset: Option<KeptCode>,
}

/// The maximum number of familiar addresses of a user.
const KNOWN_ADDRESSES_MAX: usize = 16;

impl User {
    /// A user who registers at `now`.
    pub fn new(username: Username, password: PasswordHash, data: UserData, now: SystemTime, random: [u8; 10]) -> Self {
        Self {
            id: UserId::new(now, random),
            username,
            password: Some(password),
            former_password: None,
            data,
            epoch: 0,
            kept_session: None,
            create_time: now,
            update_time: now,
            last_login_time: None,
            request_id: None,
            disabled: false,
            known_addresses: Vec::new(),
            reset: None,
        }
    }

    /// The user without times that a wrong clock wrote: what happened in the future happened now, a login in the future is
    /// not known, and a reset code that is valid for too long is void. The next write of the user stores it.
    pub(crate) fn with_credible_times(self, now: SystemTime) -> Self {
        // Every field by name, so that a new time is not forgotten.
        let Self {
            id: _,
            username: _,
            password: _,
            former_password: _,
            data: _,
            epoch: _,
            kept_session: _,
            create_time,
            update_time,
            last_login_time,
            request_id: _,
            disabled: _,
            known_addresses: _,
            reset,
        } = self;
        Self {
            create_time: credible_or_now(create_time, now),
            update_time: credible_or_now(update_time, now),
            last_login_time: last_login_time.filter(|time| is_credible(*time, now)),
            reset: reset.filter(|code| code.is_credible(now)),
            ..self
        }
    }

    /// Adds a familiar address, and removes the oldest beyond the limit.
    pub(in crate::domain) fn learn(&mut self, address: AddressHash) {
        self.known_addresses.retain(|known| *known != address);
        self.known_addresses.push(address);
        let excess = self.known_addresses.len().saturating_sub(KNOWN_ADDRESSES_MAX);
        self.known_addresses.drain(..excess);
    }

    /// Sets a new password. Ends all sessions and removes the reset code.
    pub(in crate::domain) fn set_password(&mut self, password: PasswordHash) {
        self.password = Some(password);
        self.former_password = None;
        self.reset = None;
        // An attacker who knew the old password may have added addresses.
        self.known_addresses.clear();
        self.end_sessions(None);
    }

    /// Makes the password invalid until a reset sets another one, and ends all sessions.
    pub(in crate::domain) fn require_reset(&mut self) {
        if let Some(password) = self.password.take() {
            self.former_password = Some(password);
        }
        // An attacker who knew the password may have added addresses.
        self.known_addresses.clear();
        self.end_sessions(None);
    }

    /// Whether the epoch has not ended this session.
    pub(in crate::domain) fn is_current(&self, entry: SessionListEntry) -> bool {
        entry.epoch == self.epoch || self.kept_session == Some(entry)
    }

    /// Whether it has ended for certain. A session with a later epoch has not: this record was read before it was created.
    pub(in crate::domain) fn has_ended(&self, entry: SessionListEntry) -> bool {
        entry.epoch < self.epoch && self.kept_session != Some(entry)
    }

    /// Ends all sessions except `keep`.
    pub(in crate::domain) fn end_sessions(&mut self, keep: Option<SessionListEntry>) {
        self.epoch += 1;
        self.kept_session = keep;
    }
}
