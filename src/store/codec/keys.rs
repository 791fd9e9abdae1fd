//! The codec of the key ring: the secret of refresh tokens and the signing keys.
//!
//! Guarantees that unknown members of the ring and of each of its signing keys survive a rewrite. The bytes are wiped when
//! they are dropped. Does not know whether the document is sealed; that is `seal.rs`.

use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::{
    decode, decode_base64, encode, encode_base64, read_time,
    unknown::{Nested, encode_over},
    write_time,
};
use crate::domain::{KeyRing, StoredKey};

/// The newest version of the form that this program reads.
const VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
struct KeyRingDocument<'a> {
    v: u32,
    /// 32 bytes, in base64url.
    refresh: String,
    #[serde(borrow)]
    signing: Vec<Nested<'a, SigningKeyDocument>>,
}

#[derive(Serialize, Deserialize)]
struct SigningKeyDocument {
    /// PKCS #8, in base64url.
    private: String,
    #[serde(serialize_with = "write_time", deserialize_with = "read_time")]
    create_time: SystemTime,
    #[serde(serialize_with = "write_time", deserialize_with = "read_time")]
    use_time: SystemTime,
}

/// Decodes the document.
pub(in crate::store) fn read(bytes: &[u8]) -> Result<KeyRing, String> {
    let KeyRingDocument { v: _, refresh, signing } = decode(bytes, VERSION)?;
    let refresh = decode_base64(&refresh)?;
    let refresh: [u8; 32] = refresh.as_slice().try_into().map_err(|_| "its refresh key has not 32 bytes")?;
    let signing = signing.into_iter().map(|key| key.known.decoded()).collect::<Result<_, _>>()?;
    Ok(KeyRing { refresh: refresh.into(), signing })
}

/// Encodes a new key ring.
pub(in crate::store) fn write(ring: &KeyRing) -> Zeroizing<Vec<u8>> {
    encode(&encoded(ring, &[])).into()
}

/// Encodes a changed key ring. Members of `seen` that are not known here stay, those of its signing keys too.
pub(in crate::store) fn rewrite(seen: &[u8], ring: &KeyRing) -> Result<Zeroizing<Vec<u8>>, String> {
    let document: KeyRingDocument<'_> = decode(seen, VERSION)?;
    encode_over(seen, &encoded(ring, &document.signing)).map(Zeroizing::new)
}

fn encoded<'a>(ring: &KeyRing, seen: &[Nested<'a, SigningKeyDocument>]) -> KeyRingDocument<'a> {
    let KeyRing { refresh, signing } = ring;
    let signing = signing.iter().map(|key| {
        let key = SigningKeyDocument::from(key);
        let seen = seen.iter().find(|seen| seen.known.private == key.private);
        Nested::over(key, seen)
    });
    KeyRingDocument { v: VERSION, refresh: encode_base64(&**refresh), signing: signing.collect() }
}

impl SigningKeyDocument {
    fn decoded(self) -> Result<StoredKey, String> {
        let Self { private, create_time, use_time } = self;
        Ok(StoredKey { private: decode_base64(&private)?, create_time, use_time })
    }
}

impl From<&StoredKey> for SigningKeyDocument {
    fn from(key: &StoredKey) -> Self {
        let StoredKey { private, create_time, use_time } = key;
        Self { private: encode_base64(private), create_time: *create_time, use_time: *use_time }
    }
}
