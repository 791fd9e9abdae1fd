//! A registered user, and the values it is made of.

use std::{fmt, time::SystemTime};

use uuid::{Builder, Uuid};

use super::{AddressHash, KeptCode, PasswordHash, Reason, SessionListEntry, UserData, Username, Violation};

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

/// A user's permanent identifier: a UUID of version 7 (RFC 9562), so that ids sort by time of registration.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct UserId(Uuid);

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

    /// Ends all sessions, or all but one.
    pub(in crate::domain) fn end_sessions(&mut self, keep: Option<SessionListEntry>) {
        self.epoch += 1;
        self.kept_session = keep;
    }
}

impl UserId {
    /// Makes up a new one.
    pub fn new(now: SystemTime, random: [u8; 10]) -> Self {
        Self(new_uuid(now, random))
    }

    /// Reads the text form.
    pub fn parse(text: &str) -> Option<Self> {
        Uuid::try_parse(text).ok().map(Self)
    }

    pub(in crate::domain) fn bytes(self) -> [u8; 16] {
        self.0.into_bytes()
    }
}

/// A new UUID of version 7.
pub(crate) fn new_uuid(now: SystemTime, random: [u8; 10]) -> Uuid {
    let since_1970 = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let millis = u64::try_from(since_1970.as_millis()).unwrap_or(u64::MAX);
    Builder::from_unix_timestamp_millis(millis, &random).into_uuid()
}

impl fmt::Display for UserId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for UserId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What makes a registration safe to repeat (AIP-155): the same id is the same request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RequestId(Uuid);

impl RequestId {
    /// Reads the text form; any UUID but the nil one will do. An empty text is no id.
    pub fn parse(raw: &str) -> Result<Option<Self>, Violation> {
        if raw.is_empty() {
            return Ok(None);
        }
        match Uuid::try_parse(raw) {
            Ok(uuid) if !uuid.is_nil() => Ok(Some(Self(uuid))),
            Ok(_) | Err(_) => Err(Violation::new("request_id", Reason::NotAUuid, "is not a UUID")),
        }
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
