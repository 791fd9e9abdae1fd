//! The stored form of a single-use secret that was spent: its hash is the key, so only the end of the memory is left.

use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::{decode, read_time, write_time};

/// The newest version of the form that this program reads.
const VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
struct Record {
    v: u32,
    #[serde(serialize_with = "write_time", deserialize_with = "read_time")]
    expire_time: SystemTime,
}

/// The document of a secret that is spent until then.
pub(in crate::store) fn write(expire_time: SystemTime) -> Vec<u8> {
    serde_json::to_vec(&Record { v: VERSION, expire_time }).expect("times and numbers are always JSON")
}

/// When it may be forgotten.
pub(super) fn expire_time(bytes: &[u8]) -> Result<SystemTime, String> {
    decode::<Record>(bytes, VERSION).map(|record| record.expire_time)
}
