//! The stored forms: one JSON document each, written and read by serde alone, the same bytes in every store.
//!
//! Times are RFC 3339 in UTC, empty fields are left out, and each document says the version of its form in `v`. Golden
//! documents of every form ever written: `tests/data/records/`.

pub(super) mod failures;
pub(super) mod keys;
pub(super) mod once;
pub(super) mod session;
pub(super) mod user;

use std::time::SystemTime;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de, de::DeserializeOwned};
use zeroize::Zeroizing;

use super::document_store::Kind;

/// When a document says that it is of no more use; `None` when it stays.
pub(super) fn expire_time(kind: Kind, bytes: &[u8]) -> Result<Option<SystemTime>, String> {
    match kind {
        Kind::Session => session::expire_time(bytes).map(Some),
        Kind::Once => once::expire_time(bytes).map(Some),
        Kind::FailedAttempts => failures::expire_time(bytes).map(Some),
        Kind::Id | Kind::User | Kind::Sessions | Kind::Keys => Ok(None),
    }
}

pub(super) fn encode_base64(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

pub(super) fn decode_base64(text: &str) -> Result<Zeroizing<Vec<u8>>, String> {
    URL_SAFE_NO_PAD.decode(text).map(Zeroizing::new).map_err(|_| "has a part that is not base64url".into())
}

#[derive(Serialize, Deserialize)]
struct Time(#[serde(serialize_with = "write_time", deserialize_with = "read_time")] SystemTime);

/// Reads a form of at most this version; says what is wrong without the document's content.
pub(super) fn decode<T: DeserializeOwned>(bytes: &[u8], newest: u32) -> Result<T, String> {
    /// Read before anything else: a newer form may differ in every other field.
    #[derive(Deserialize)]
    struct Version {
        v: u32,
    }
    // The position is enough to find the fault; the content stays out of the log.
    let fault = |error: serde_json::Error| {
        format!("not the JSON that it must be (line {}, column {})", error.line(), error.column())
    };
    let Version { v } = serde_json::from_slice(bytes).map_err(fault)?;
    if v > newest {
        return Err(format!("written by a newer version of Watchword (v{v}; this one reads up to v{newest})"));
    }
    serde_json::from_slice(bytes).map_err(fault)
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

fn write_time<S: Serializer>(time: &SystemTime, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&humantime::format_rfc3339_millis(*time))
}

fn read_time<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SystemTime, D::Error> {
    let text = String::deserialize(deserializer)?;
    humantime::parse_rfc3339(&text).map_err(|_| de::Error::custom("not a time of RFC 3339 in UTC"))
}
