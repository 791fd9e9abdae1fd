//! Identifiers: of users, sessions and requests.

use std::{fmt, time::SystemTime};

use uuid::{Builder, Uuid};

use crate::domain::violation::{Reason, Violation};

/// An identifier that is a UUID of version 7 (RFC 9562): sorts by creation time, to the millisecond. No secret.
macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(pub(in crate::domain) Uuid);

        impl $name {
            /// Creates a new one.
            pub fn new(now: SystemTime, random: [u8; 10]) -> Self {
                Self(new_uuid(now, random))
            }

            /// Reads the text form.
            pub fn parse(text: &str) -> Option<Self> {
                Uuid::try_parse(text).ok().map(Self)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

id! {
    /// A user's permanent identifier.
    UserId
}

id! {
    /// A session's identifier.
    SessionId
}

impl UserId {
    pub(in crate::domain) fn bytes(self) -> [u8; 16] {
        self.0.into_bytes()
    }
}

/// What the list of a user's sessions says of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionListEntry {
    /// Which session.
    pub id: SessionId,
    /// Its epoch.
    pub epoch: u64,
}

/// A new UUID of version 7.
pub(in crate::domain) fn new_uuid(now: SystemTime, random: [u8; 10]) -> Uuid {
    let since_1970 = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let millis = u64::try_from(since_1970.as_millis()).unwrap_or(u64::MAX);
    Builder::from_unix_timestamp_millis(millis, &random).into_uuid()
}

/// Makes a registration idempotent and a refresh repeatable (AIP-155): the same id is the same request.
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

    pub(in crate::domain) fn bytes(self) -> [u8; 16] {
        self.0.into_bytes()
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
