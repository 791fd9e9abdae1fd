//! The codec of the key ring: the signing keys, and the secrets of refresh tokens, challenges and keyed hashes.
//!
//! Guarantees that unknown members of the ring and of each of its keys and secrets survive a rewrite. The bytes are
//! wiped when they are dropped. Does not know whether the document is sealed; that is `seal.rs`.

use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::{
    decode, decode_base64, encode, encode_base64, is_zero, read_time,
    unknown::{Nested, encode_over},
    write_time,
};
use crate::domain::{KeyRing, StoredKey, StoredSecret};

/// The newest version of the form that this program reads.
const VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
struct KeyRingDocument<'a> {
    v: u32,
    #[serde(borrow)]
    signing: Vec<Nested<'a, SigningKeyDocument>>,
    #[serde(borrow)]
    refresh: Vec<Nested<'a, SecretDocument>>,
    #[serde(borrow)]
    challenges: Vec<Nested<'a, SecretDocument>>,
    #[serde(borrow)]
    hashes: Vec<Nested<'a, SecretDocument>>,
    #[serde(default, skip_serializing_if = "is_zero")]
    session_epoch: u64,
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

#[derive(Serialize, Deserialize)]
struct SecretDocument {
    /// 32 bytes, in base64url.
    secret: String,
    #[serde(serialize_with = "write_time", deserialize_with = "read_time")]
    create_time: SystemTime,
    #[serde(serialize_with = "write_time", deserialize_with = "read_time")]
    use_time: SystemTime,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    exposed: bool,
}

/// Decodes the document.
pub(in crate::store) fn read(bytes: &[u8]) -> Result<KeyRing, String> {
    let KeyRingDocument { v: _, signing, refresh, challenges, hashes, session_epoch } = decode(bytes, VERSION)?;
    let signing = signing.into_iter().map(|key| key.known.decoded()).collect::<Result<_, _>>()?;
    let [refresh, challenges, hashes] = [refresh, challenges, hashes].map(decoded);
    Ok(KeyRing { signing, refresh: refresh?, challenges: challenges?, hashes: hashes?, session_epoch })
}

/// Encodes a new key ring.
pub(in crate::store) fn write(ring: &KeyRing) -> Zeroizing<Vec<u8>> {
    encode(&encoded(ring, None)).into()
}

/// Encodes a changed key ring. Members of `seen` that are not known here stay, those of its keys and secrets too.
pub(in crate::store) fn rewrite(seen: &[u8], ring: &KeyRing) -> Result<Zeroizing<Vec<u8>>, String> {
    let document: KeyRingDocument<'_> = decode(seen, VERSION)?;
    encode_over(seen, &encoded(ring, Some(&document))).map(Zeroizing::new)
}

fn encoded<'a>(ring: &KeyRing, seen: Option<&KeyRingDocument<'a>>) -> KeyRingDocument<'a> {
    let KeyRing { signing, refresh, challenges, hashes, session_epoch } = ring;
    let signing = signing.iter().map(|key| {
        let key = SigningKeyDocument::from(key);
        let mut seen = seen.iter().flat_map(|seen| &seen.signing);
        let seen = seen.find(|seen| seen.known.private == key.private);
        Nested::over(key, seen)
    });
    KeyRingDocument {
        v: VERSION,
        signing: signing.collect(),
        refresh: encoded_secrets(refresh, seen.map(|seen| &*seen.refresh)),
        challenges: encoded_secrets(challenges, seen.map(|seen| &*seen.challenges)),
        hashes: encoded_secrets(hashes, seen.map(|seen| &*seen.hashes)),
        session_epoch: *session_epoch,
    }
}

fn encoded_secrets<'a>(
    secrets: &[StoredSecret],
    seen: Option<&[Nested<'a, SecretDocument>]>,
) -> Vec<Nested<'a, SecretDocument>> {
    let over = |secret: &StoredSecret| {
        let secret = SecretDocument::from(secret);
        let seen = seen.into_iter().flatten().find(|seen| seen.known.secret == secret.secret);
        Nested::over(secret, seen)
    };
    secrets.iter().map(over).collect()
}

/// The secrets of one kind, of which each ring has at least one.
fn decoded(secrets: Vec<Nested<'_, SecretDocument>>) -> Result<Vec<StoredSecret>, String> {
    let secrets = secrets.into_iter().map(|secret| secret.known.decoded()).collect::<Result<Vec<_>, _>>()?;
    if secrets.iter().all(|secret| secret.is_exposed) { Err("lacks a secret".into()) } else { Ok(secrets) }
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

impl SecretDocument {
    fn decoded(self) -> Result<StoredSecret, String> {
        let Self { secret, create_time, use_time, exposed } = self;
        let secret: [u8; 32] =
            decode_base64(&secret)?.as_slice().try_into().map_err(|_| "has a secret that is not 32 bytes")?;
        Ok(StoredSecret { secret: secret.into(), create_time, use_time, is_exposed: exposed })
    }
}

impl From<&StoredSecret> for SecretDocument {
    fn from(secret: &StoredSecret) -> Self {
        let StoredSecret { secret, create_time, use_time, is_exposed } = secret;
        Self { secret: encode_base64(&**secret), create_time: *create_time, use_time: *use_time, exposed: *is_exposed }
    }
}
