//! The stored form of the keys that tokens are made with.

use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use zeroize::Zeroizing;

use super::{decode, decode_base64, encode_base64, read_time, write_time};
use crate::domain::{KeyRing, StoreError, StoredKey};

/// The newest version of the form that this program reads.
const VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
struct Record {
    v: u32,
    /// 32 bytes, in base64url.
    refresh: String,
    signing: Vec<Key>,
    /// Whatever a newer version of this program wrote.
    #[serde(flatten)]
    unknown: Map<String, Value>,
}

#[derive(Serialize, Deserialize)]
struct Key {
    /// PKCS #8, in base64url.
    private: String,
    #[serde(serialize_with = "write_time", deserialize_with = "read_time")]
    create_time: SystemTime,
    #[serde(serialize_with = "write_time", deserialize_with = "read_time")]
    use_time: SystemTime,
    #[serde(flatten)]
    unknown: Map<String, Value>,
}

/// Reads the document.
pub(in crate::store) fn read(bytes: &[u8]) -> Result<KeyRing, String> {
    decode::<Record>(bytes, VERSION).and_then(|record| ring(&record))
}

fn ring(record: &Record) -> Result<KeyRing, String> {
    let refresh = decode_base64(&record.refresh)?;
    let mut signing = Vec::new();
    for key in &record.signing {
        let private = decode_base64(&key.private)?;
        signing.push(StoredKey { private, create_time: key.create_time, use_time: key.use_time });
    }
    let refresh: [u8; 32] = refresh.as_slice().try_into().map_err(|_| "its refresh key has not 32 bytes")?;
    Ok(KeyRing { refresh: refresh.into(), signing })
}

/// The document of a new ring.
pub(in crate::store) fn write(ring: &KeyRing) -> Zeroizing<Vec<u8>> {
    encode(ring, Record { v: VERSION, refresh: String::new(), signing: Vec::new(), unknown: Map::new() })
}

/// The document of a changed ring: what was in `seen` and is not known here stays.
pub(in crate::store) fn rewrite(seen: &[u8], ring: &KeyRing) -> Result<Zeroizing<Vec<u8>>, StoreError> {
    Ok(encode(ring, decode(seen, VERSION).map_err(StoreError::Corrupt)?))
}

fn encode(ring: &KeyRing, seen: Record) -> Zeroizing<Vec<u8>> {
    let with_unknown = |key: &StoredKey| {
        let private = encode_base64(&key.private);
        let known = seen.signing.iter().find(|known| known.private == private);
        let unknown = known.map(|known| known.unknown.clone()).unwrap_or_default();
        Key { private, create_time: key.create_time, use_time: key.use_time, unknown }
    };
    let record = Record {
        v: VERSION,
        refresh: encode_base64(&*ring.refresh),
        signing: ring.signing.iter().map(with_unknown).collect(),
        unknown: seen.unknown,
    };
    serde_json::to_vec(&record).expect("strings, numbers and times are always JSON").into()
}
