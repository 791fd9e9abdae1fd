//! A registered user, and the values it is made of.

use std::{fmt, time::SystemTime};

use std::net::IpAddr;

use aws_lc_rs::{
    digest::{SHA256, digest},
    hmac,
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use uuid::{Builder, Uuid};

use super::{
    Entropy, KeptCode, SessionListEntry, Username,
    error::{Reason, Violation},
    password::PasswordHash,
    throttle::Prefix,
};

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

/// Stands for an address of a user: nobody who reads it learns the address, nor that two users have the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AddressHash(pub(crate) [u8; 8]);

impl AddressHash {
    pub(super) fn new(key: &hmac::Key, user: Option<UserId>, Prefix(address): Prefix) -> Self {
        let mut mac = hmac::Context::with_key(key);
        mac.update(user.map_or(Uuid::nil(), |user| user.0).as_bytes());
        match address {
            IpAddr::V4(v4) => mac.update(&v4.octets()),
            IpAddr::V6(v6) => mac.update(&v6.octets()),
        }
        let mut tag = [0; 8];
        tag.copy_from_slice(&mac.sign().as_ref()[..8]);
        Self(tag)
    }
}

/// A user's permanent identifier: a UUID of version 7 (RFC 9562), so that ids sort by time of registration.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct UserId(Uuid);

impl User {
    /// Somebody who registers at `now`, and has done nothing since.
    pub fn new(
        username: Username,
        password: PasswordHash,
        data: UserData,
        now: SystemTime,
        entropy: &dyn Entropy,
    ) -> Self {
        Self {
            id: UserId::new(now, entropy),
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
    pub(super) fn learn(&mut self, address: AddressHash) {
        self.known_addresses.retain(|known| *known != address);
        self.known_addresses.push(address);
        let over = self.known_addresses.len().saturating_sub(KNOWN_ADDRESSES_MAX);
        self.known_addresses.drain(..over);
    }

    /// Another password: all sessions of the one before end, and a code for a new one is spent or void.
    pub(super) fn set_password(&mut self, password: PasswordHash) {
        self.password = Some(password);
        self.reset = None;
        // Whoever knew the one before may have signed in from anywhere.
        self.known_addresses.clear();
        self.end_sessions(None);
    }

    /// Ends all sessions, or all but one.
    pub(super) fn end_sessions(&mut self, keep: Option<SessionListEntry>) {
        self.epoch += 1;
        self.kept_session = keep;
    }
}

impl UserId {
    /// Makes up a new one.
    pub fn new(now: SystemTime, entropy: &dyn Entropy) -> Self {
        Self(new_uuid(now, entropy))
    }

    /// Reads the text form.
    pub fn parse(text: &str) -> Option<Self> {
        Uuid::try_parse(text).ok().map(Self)
    }

    pub(super) fn bytes(self) -> [u8; 16] {
        self.0.into_bytes()
    }
}

/// A new UUID of version 7.
pub(crate) fn new_uuid(now: SystemTime, entropy: &dyn Entropy) -> Uuid {
    let mut random = [0; 10];
    entropy.fill(&mut random);
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

/// The caller's own text: any UTF-8, never parsed.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct UserData(String);

impl UserData {
    /// Takes `raw` as it is, when it has at most `bytes_max` bytes.
    pub fn parse(raw: String, bytes_max: usize) -> Result<Self, Violation> {
        if raw.len() > bytes_max {
            return Err(Violation::new("data", Reason::TooLong, format!("has more than {bytes_max} bytes")));
        }
        Ok(Self(raw))
    }

    /// What is stored was accepted once, perhaps under another limit.
    pub(crate) fn stored(text: String) -> Self {
        Self(text)
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Stands for this very text (AIP-154): another text has another etag.
    pub fn etag(&self) -> String {
        fingerprint(&self.0)
    }
}

/// A short text that stands for a long one: 96 bits of SHA-256.
pub(crate) fn fingerprint(text: &str) -> String {
    URL_SAFE_NO_PAD.encode(&digest(&SHA256, text.as_bytes()).as_ref()[..12])
}

// May hold anything, so it never reaches a log.
impl fmt::Debug for UserData {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("UserData")
    }
}
