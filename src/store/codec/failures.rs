//! The codec of the failure counter: consecutive failed attempts and when they are forgotten, the last one, and the GCRA states
//! of the account.
//!
//! Guarantees that unknown members survive a rewrite. Does not know usernames: the key has a keyed hash.

use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::{StoredTime, decode, encode, read_time, unknown::encode_over, write_time};
use crate::{
    common::time::to_the_millisecond,
    domain::{ByEvidence, Evidence, FailedAttempts, FailureCount, Revision, Stored},
};

/// The newest version of the form that this program reads.
const VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
struct FailedAttemptsDocument {
    v: u32,
    /// With no evidence.
    count: u32,
    #[serde(default, skip_serializing_if = "is_zero")]
    familiar_count: u32,
    /// With proof of work.
    #[serde(default, skip_serializing_if = "is_zero")]
    proof_of_work_count: u32,
    #[serde(serialize_with = "write_time", deserialize_with = "read_time")]
    last_time: SystemTime,
    #[serde(serialize_with = "write_time", deserialize_with = "read_time")]
    forget_time: SystemTime,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    familiar_forget_time: Option<StoredTime>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    proof_of_work_forget_time: Option<StoredTime>,
    #[serde(serialize_with = "write_time", deserialize_with = "read_time")]
    clear_time: SystemTime,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    proof_of_work_clear_time: Option<StoredTime>,
    #[serde(default, skip_serializing_if = "is_zero")]
    lasting_count: u32,
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
pub(in crate::store) fn expire_time(bytes: &[u8]) -> Result<Option<SystemTime>, String> {
    decode(bytes, VERSION).map(|document| kept_until(&decoded(document)))
}

/// Until when failed attempts are kept; `None` is for ever.
pub(in crate::store) fn kept_until(failures: &FailedAttempts) -> Option<SystemTime> {
    failures.kept_until().map(to_the_millisecond)
}

fn decoded(document: FailedAttemptsDocument) -> FailedAttempts {
    let FailedAttemptsDocument {
        v: _,
        count,
        familiar_count,
        proof_of_work_count,
        last_time,
        forget_time,
        familiar_forget_time,
        proof_of_work_forget_time,
        clear_time,
        proof_of_work_clear_time,
        lasting_count,
    } = document;
    let or_last = |time: &Option<StoredTime>| time.as_ref().map_or(last_time, |time| time.0);
    let counts = ByEvidence::each(|evidence| match evidence {
        Evidence::None => FailureCount { consecutive: count, forget_time, clear_time },
        Evidence::Familiar => FailureCount {
            consecutive: familiar_count,
            forget_time: or_last(&familiar_forget_time),
            // Has no limit of the account.
            clear_time: last_time,
        },
        Evidence::ProofOfWork => FailureCount {
            consecutive: proof_of_work_count,
            forget_time: or_last(&proof_of_work_forget_time),
            clear_time: or_last(&proof_of_work_clear_time),
        },
    });
    FailedAttempts { last_time, counts, lasting: lasting_count }
}

fn encoded(failures: &FailedAttempts) -> FailedAttemptsDocument {
    let FailedAttempts { last_time, counts, lasting } = *failures;
    let [unproven, familiar, proven] = Evidence::ALL.map(|evidence| *counts.of(evidence));
    let if_later = |time: SystemTime| (time > last_time).then_some(StoredTime(time));
    FailedAttemptsDocument {
        v: VERSION,
        count: unproven.consecutive,
        familiar_count: familiar.consecutive,
        proof_of_work_count: proven.consecutive,
        last_time,
        forget_time: unproven.forget_time,
        familiar_forget_time: if_later(familiar.forget_time),
        proof_of_work_forget_time: if_later(proven.forget_time),
        clear_time: unproven.clear_time,
        proof_of_work_clear_time: if_later(proven.clear_time),
        lasting_count: lasting,
    }
}

fn is_zero(count: &u32) -> bool {
    *count == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rewrite_changes_the_known_members_alone() {
        let times = r#""last_time":"2026-11-24T04:12:47.014Z","forget_time":"2026-11-24T07:12:46.014Z""#;
        let new = format!(r#"{{"v":1,"count":3,{times},"clear_time":"2026-11-24T04:12:48.014Z"}}"#);
        let unknown = r#","z":18446744073709551616,"a":1e400}"#;
        for document in [new.clone(), new.replace('}', unknown)] {
            let seen = read(document.as_bytes()).unwrap();
            let mut changed = seen.value;
            changed.counts.of_mut(Evidence::None).consecutive = 4;
            let rewritten = String::from_utf8(write(Some(&seen.revision), &changed).unwrap()).unwrap();
            assert_eq!(rewritten, document.replace("\"count\":3", "\"count\":4"));
        }
    }
}
