//! The codec of the failure counter: how many consecutive failed attempts, the last one, and the GCRA state of the account.
//!
//! Guarantees that unknown members survive a rewrite. Does not know usernames: the key has a keyed hash.

use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::{decode, encode, read_time, unknown::encode_over, write_time};
use crate::{
    common::time::to_the_millisecond,
    domain::{FailedAttempts, Revision, Stored},
};

/// The newest version of the form that this program reads.
const VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
struct FailedAttemptsDocument {
    v: u32,
    count: u32,
    #[serde(serialize_with = "write_time", deserialize_with = "read_time")]
    last_time: SystemTime,
    #[serde(serialize_with = "write_time", deserialize_with = "read_time")]
    clear_time: SystemTime,
}

/// Decodes the document.
pub(in crate::store) fn read(bytes: &[u8]) -> Result<Stored<FailedAttempts>, String> {
    let failures = decode(bytes, VERSION).map(decoded)?;
    Ok(Stored { value: failures, revision: Revision(bytes.into()) })
}

/// Encodes failed attempts. Members of `seen` that are not known here stay.
pub(in crate::store) fn write(seen: Option<&Revision>, failures: &FailedAttempts) -> Result<Vec<u8>, String> {
    let document = encoded(failures);
    match seen {
        None => Ok(encode(&document)),
        Some(seen) => encode_over(&seen.0, &document),
    }
}

/// Until when the document is kept, by its bytes.
pub(in crate::store) fn expire_time(bytes: &[u8]) -> Result<SystemTime, String> {
    decode(bytes, VERSION).map(|document| kept_until(&decoded(document)))
}

/// Until when failed attempts are kept.
pub(in crate::store) fn kept_until(failures: &FailedAttempts) -> SystemTime {
    to_the_millisecond(failures.forget_time())
}

fn decoded(document: FailedAttemptsDocument) -> FailedAttempts {
    let FailedAttemptsDocument { v: _, count, last_time, clear_time } = document;
    FailedAttempts { count, last_time, clear_time }
}

fn encoded(failures: &FailedAttempts) -> FailedAttemptsDocument {
    let FailedAttempts { count, last_time, clear_time } = *failures;
    FailedAttemptsDocument { v: VERSION, count, last_time, clear_time }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rewrite_changes_the_known_members_alone() {
        let new = r#"{"v":1,"count":3,"last_time":"2026-11-24T04:12:47.014Z","clear_time":"2026-11-24T04:12:48.014Z"}"#;
        let unknown = r#","z":18446744073709551616,"a":1e400}"#;
        for document in [new.to_owned(), new.replace('}', unknown)] {
            let seen = read(document.as_bytes()).unwrap();
            let changed = FailedAttempts { count: 4, ..seen.value };
            let rewritten = String::from_utf8(write(Some(&seen.revision), &changed).unwrap()).unwrap();
            assert_eq!(rewritten, document.replace("\"count\":3", "\"count\":4"));
        }
    }
}
