//! The stored form of a name's failures: how many in a row, the last one, and until when the account's backlog lasts.

use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::{decode, read_time, write_time};
use crate::common::time::to_the_millisecond;
use crate::domain::{FailedAttempts, Revision, StoreError, Stored};

/// The newest version of the form that this program reads.
const VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
struct Record {
    v: u32,
    count: u32,
    #[serde(serialize_with = "write_time", deserialize_with = "read_time")]
    last_time: SystemTime,
    #[serde(serialize_with = "write_time", deserialize_with = "read_time")]
    clear_time: SystemTime,
}

/// Reads the document of a name's failures.
pub(in crate::store) fn read(bytes: &[u8]) -> Result<Stored<FailedAttempts>, StoreError> {
    let failures = decode::<Record>(bytes, VERSION).map(failures).map_err(StoreError::Corrupt)?;
    Ok(Stored { value: failures, revision: Revision(bytes.into()) })
}

/// The document of a name's failures.
pub(in crate::store) fn write(failures: &FailedAttempts) -> Vec<u8> {
    let FailedAttempts { count, last_time, clear_time } = *failures;
    let record = Record { v: VERSION, count, last_time, clear_time };
    serde_json::to_vec(&record).expect("numbers and times are always JSON")
}

/// When the failures in this document may be forgotten.
pub(super) fn expire_time(bytes: &[u8]) -> Result<SystemTime, String> {
    decode::<Record>(bytes, VERSION).map(|record| forget_time(&failures(record)))
}

/// When failures may be forgotten.
pub(in crate::store) fn forget_time(failures: &FailedAttempts) -> SystemTime {
    to_the_millisecond(failures.forget_time())
}

fn failures(record: Record) -> FailedAttempts {
    let Record { count, last_time, clear_time, .. } = record;
    FailedAttempts { count, last_time, clear_time }
}
