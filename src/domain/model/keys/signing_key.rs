//! A signing key: as it is stored, ready to sign, and its public part.

use std::{fmt, time::SystemTime};

use aws_lc_rs::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair},
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use zeroize::Zeroizing;

use crate::common::{bearer, sha256::sha256, time::to_the_millisecond};

/// A signing key as it is stored.
#[derive(Clone, PartialEq, Eq)]
pub struct StoredKey {
    /// ECDSA on P-256, PKCS #8.
    pub private: Zeroizing<Vec<u8>>,
    /// When it was created.
    pub create_time: SystemTime,
    /// When it begins to sign.
    pub use_time: SystemTime,
}

/// A signing key that is ready to sign.
pub(crate) struct Signer {
    /// RFC 7638 thumbprint of the public key.
    pub(crate) key_id: String,
    /// The header, in base64url, of the tokens that this key signs.
    pub(crate) header: String,
    pub(crate) pair: EcdsaKeyPair,
    pub(crate) use_time: SystemTime,
}

/// The public part of a signing key, as in a JWK (RFC 7517).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicKey {
    /// RFC 7638 thumbprint.
    pub key_id: String,
    /// The x coordinate of the point on P-256, in base64url.
    pub x: String,
    /// The y coordinate, in base64url.
    pub y: String,
}

// === impl StoredKey ===

impl StoredKey {
    pub(super) fn new(create_time: SystemTime, use_time: SystemTime) -> Self {
        // The crate uses its own CSPRNG for keys.
        let private = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new())
            .expect("the operating system has random numbers");
        // With the precision of the store, so that a stored key equals this one.
        let [create_time, use_time] = [create_time, use_time].map(to_the_millisecond);
        Self { private: Zeroizing::new(private.as_ref().to_vec()), create_time, use_time }
    }

    /// The public part. `None` if the stored bytes are not a key.
    pub(crate) fn public(&self) -> Option<PublicKey> {
        Signer::new(self).map(|signer| signer.public())
    }
}

impl fmt::Debug for StoredKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StoredKey")
    }
}

// === impl Signer ===

impl Signer {
    /// Decodes a stored key. `None` if the stored bytes are not a key.
    pub(crate) fn new(stored: &StoredKey) -> Option<Self> {
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &stored.private).ok()?;
        let key_id = thumbprint(&pair);
        Some(Self { header: bearer::header(&key_id), key_id, pair, use_time: stored.use_time })
    }

    pub(crate) fn public(&self) -> PublicKey {
        let [x, y] = coordinates(&self.pair);
        PublicKey { key_id: self.key_id.clone(), x, y }
    }
}

/// The thumbprint (RFC 7638): the hash of the required members of the public key, sorted by name, without blanks.
fn thumbprint(pair: &EcdsaKeyPair) -> String {
    let [x, y] = coordinates(pair);
    let members = format!(r#"{{"crv":"P-256","kty":"EC","x":"{x}","y":"{y}"}}"#);
    URL_SAFE_NO_PAD.encode(sha256(members.as_bytes()))
}

/// The coordinates of the public key, as in a JWK.
fn coordinates(pair: &EcdsaKeyPair) -> [String; 2] {
    // Uncompressed: 4, x, y.
    let point = &pair.public_key().as_ref()[1..];
    [&point[..32], &point[32..]].map(|coordinate| URL_SAFE_NO_PAD.encode(coordinate))
}
