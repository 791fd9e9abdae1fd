//! The codec of single-use secrets that were spent.
//!
//! The hash of the secret is the key, so the document holds only the time until which the store must remember it. It is
//! never rewritten. Does not know what the secrets are for.

use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::{decode, encode, read_time, write_time};

/// The newest version of the form that this program reads.
const VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
struct SpentSecretDocument {
    v: u32,
    #[serde(serialize_with = "write_time", deserialize_with = "read_time")]
    expire_time: SystemTime,
}

/// Encodes that a secret is spent until `expire_time`.
pub(in crate::store) fn write(expire_time: SystemTime) -> Vec<u8> {
    encode(&SpentSecretDocument { v: VERSION, expire_time })
}

/// Until when the document is kept.
pub(in crate::store) fn expire_time(bytes: &[u8]) -> Result<Option<SystemTime>, String> {
    let SpentSecretDocument { v: _, expire_time } = decode(bytes, VERSION)?;
    Ok(Some(expire_time))
}
