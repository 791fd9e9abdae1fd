//! A registered user and its identifiers.

use std::{fmt, time::SystemTime};

use uuid::{Builder, Uuid};

use super::{AddressHash, KeptCode, PasswordHash, Reason, SessionListEntry, UserData, Username, Violation};

/// A registered user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// The permanent identifier.
    pub id: UserId,
    /// The canonical username.
    pub username: Username,
    /// The password hash. Without one no password matches.
    pub password: Option<PasswordHash>,
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

/// The permanent identifier of a user: a UUID of version 7 (RFC 9562), so that ids sort by the time of registration.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct UserId(Uuid);

impl User {
    /// A user who registers at `now`.
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
        self.reset = None;
        // An attacker who knew the old password may have added addresses.
        self.known_addresses.clear();
        self.end_sessions(None);
    }

    /// Ends all sessions except `keep`.
    pub(in crate::domain) fn end_sessions(&mut self, keep: Option<SessionListEntry>) {
        self.epoch += 1;
        self.kept_session = keep;
    }
}

impl UserId {
    /// A new identifier.
    pub fn new(now: SystemTime, random: [u8; 10]) -> Self {
        Self(new_uuid(now, random))
    }

    /// Parses the text form.
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

/// Makes a registration idempotent (AIP-155): the same id is the same request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RequestId(Uuid);

impl RequestId {
    /// Parses the text form: any UUID except nil. An empty text is `None`.
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
