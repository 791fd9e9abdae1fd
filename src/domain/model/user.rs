//! A registered user, and the values it is made of.

use std::time::SystemTime;

use super::{AddressHash, KeptCode, PasswordHash, RequestId, SessionListEntry, UserData, UserId, Username};

/// A registered user, as the rules see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// Who it is, for ever.
    pub id: UserId,
    /// The canonical name.
    pub username: Username,
    /// The stored form of the password; without one no password is right.
    pub password: Option<PasswordHash>,
    /// The caller's own text.
    pub data: UserData,
    /// Raised to end every session of the user at once.
    pub epoch: u64,
    /// The one session that the present epoch did not end.
    pub kept_session: Option<SessionListEntry>,
    /// When the user was registered.
    pub create_time: SystemTime,
    /// When the user was last changed; a login is no change.
    pub update_time: SystemTime,
    /// The last login, to the hour.
    pub last_login_time: Option<SystemTime>,
    /// Which request made the user, when it said.
    pub request_id: Option<RequestId>,
    /// Whether logins are refused.
    pub disabled: bool,
    /// Where the user has signed in from, the latest last.
    pub known_addresses: Vec<AddressHash>,
    /// The outstanding code for a new password.
    pub reset: Option<KeptCode>,
}

/// Addresses that are kept of a user.
const KNOWN_ADDRESSES_MAX: usize = 16;

impl User {
    /// Somebody who registers at `now`, and has done nothing since.
    pub fn new(username: Username, password: PasswordHash, data: UserData, now: SystemTime, random: [u8; 10]) -> Self {
        Self {
            id: UserId::new(now, random),
            username,
            password: Some(password),
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

    /// Remembers where the user has signed in from; the oldest is forgotten for it.
    pub(in crate::domain) fn learn(&mut self, address: AddressHash) {
        self.known_addresses.retain(|known| *known != address);
        self.known_addresses.push(address);
        let over = self.known_addresses.len().saturating_sub(KNOWN_ADDRESSES_MAX);
        self.known_addresses.drain(..over);
    }

    /// Another password: all sessions of the one before end, and a code for a new one is spent or void.
    pub(in crate::domain) fn set_password(&mut self, password: PasswordHash) {
        self.password = Some(password);
        self.reset = None;
        // Whoever knew the one before may have signed in from anywhere.
        self.known_addresses.clear();
        self.end_sessions(None);
    }

    /// Whether the epoch has not ended this session.
    pub(in crate::domain) fn is_current(&self, entry: SessionListEntry) -> bool {
        entry.epoch == self.epoch || self.kept_session == Some(entry)
    }

    /// Whether the epoch has ended this session for good. A later epoch is one that this reader does not know yet.
    pub(in crate::domain) fn has_ended(&self, entry: SessionListEntry) -> bool {
        entry.epoch < self.epoch && self.kept_session != Some(entry)
    }

    /// Ends all sessions, or all but one.
    pub(in crate::domain) fn end_sessions(&mut self, keep: Option<SessionListEntry>) {
        self.epoch += 1;
        self.kept_session = keep;
    }
}
