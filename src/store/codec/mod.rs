//! Codecs: each turns a value of the domain into a stored JSON document and back. The same bytes in every store.
//!
//! Times are RFC 3339 in UTC, empty members are left out, and each document has the version of its form in `v`. Encoders
//! and decoders name every field, so a new field that is not stored does not compile. Members that this version does not
//! know survive a rewrite exactly (`unknown.rs`). Errors and logs never contain parts of a document. Golden documents of
//! every form that was ever written: `tests/data/records/`. Codecs do not know keys, nor where documents are kept.

pub(super) mod failures;
pub(super) mod keys;
pub(super) mod once;
pub(super) mod pepper;
pub(super) mod session;
mod unknown;
pub(super) mod user;

use std::{fmt, time::SystemTime};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use zeroize::Zeroizing;

pub(super) fn encode_base64(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

pub(super) fn decode_base64(text: &str) -> Result<Zeroizing<Vec<u8>>, String> {
    URL_SAFE_NO_PAD.decode(text).map(Zeroizing::new).map_err(|_| "has a part that is not base64url".into())
}

/// Encodes a new document.
pub(super) fn encode(document: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(document).expect("strings, numbers and times are always JSON")
}

/// Decodes a form of at most the version `newest`. The error says what is wrong without the document's content.
pub(super) fn decode<'a, T: Deserialize<'a>>(bytes: &'a [u8], newest: u32) -> Result<T, String> {
    /// Decoded first: a newer form may differ in every other member.
    #[derive(Deserialize)]
    struct FormVersion {
        v: u32,
    }
    // Before the JSON: a member that is skipped is not checked, and a rewrite needs text.
    let text = std::str::from_utf8(bytes).map_err(|_| "not UTF-8".to_owned())?;
    let FormVersion { v } = serde_json::from_str(text).map_err(fault)?;
    if v > newest {
        return Err(format!("written by a newer version of Watchword (v{v}; this one reads up to v{newest})"));
    }
    serde_json::from_str(text).map_err(fault)
}

/// The position is enough to find the fault; the content stays out of the log.
fn fault(error: serde_json::Error) -> String {
    format!("not the JSON that it must be (line {}, column {})", error.line(), error.column())
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

fn is_empty(text: &str) -> bool {
    text.is_empty()
}

/// A time, as documents have it.
#[derive(Serialize, Deserialize)]
struct StoredTime(#[serde(serialize_with = "write_time", deserialize_with = "read_time")] SystemTime);

fn write_time<S: Serializer>(time: &SystemTime, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&humantime::format_rfc3339_millis(*time))
}

fn read_time<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SystemTime, D::Error> {
    deserializer.deserialize_str(TimeVisitor)
}

struct TimeVisitor;

impl de::Visitor<'_> for TimeVisitor {
    type Value = SystemTime;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a time of RFC 3339 in UTC")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<SystemTime, E> {
        humantime::parse_rfc3339(text).map_err(|_| E::custom("not a time of RFC 3339 in UTC"))
    }
}
