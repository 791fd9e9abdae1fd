//! The key ring: the signing keys and the refresh secret, stored once and shared by all nodes.
//!
//! The first node creates it. A signing key is used for 90 days. The next key is published a day before it is used, so that
//! caches of public keys have it by then, and an old key is kept until its last token has expired.

use std::{
    fmt,
    time::{Duration, SystemTime},
};

use aws_lc_rs::{
    hmac,
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair},
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use zeroize::Zeroizing;

use crate::common::{bearer, sha256::sha256, time::to_the_millisecond};

/// How long a signing key is used, and how long before that it is published.
const USED_FOR: Duration = Duration::from_secs(90 * 86_400);
const PUBLISHED_AHEAD: Duration = Duration::from_secs(86_400);

/// How long a new key needs to reach all verifiers: nodes read the key ring every minute, and clients may cache the public
/// keys for five (`http/well_known.rs`).
const PROPAGATION_TIME: Duration = Duration::from_secs(600);

/// How long an old key is kept after its successor is in use: longer than the lifetime of any access token.
const KEPT_FOR: Duration = Duration::from_secs(2 * 3_600);

/// The stored key ring.
#[derive(Clone, PartialEq, Eq)]
pub struct KeyRing {
    /// The secret of refresh tokens. Never changes.
    pub refresh: Zeroizing<[u8; 32]>,
    /// The keys that sign access tokens, newest last.
    pub signing: Vec<StoredKey>,
}

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

// === impl KeyRing ===

impl KeyRing {
    /// A key ring for a new store. Its key signs at once, since no client can have cached older keys.
    pub fn new(now: SystemTime, refresh: Zeroizing<[u8; 32]>) -> Self {
        Self { refresh, signing: vec![StoredKey::new(now, now)] }
    }

    /// Derives a key for another purpose, equal on all nodes and independent of the tokens (as HKDF-Expand, RFC 5869
    /// section 2.3).
    pub(in crate::domain) fn key_for(&self, purpose: &str) -> hmac::Key {
        let secret = hmac::Key::new(hmac::HMAC_SHA256, &*self.refresh);
        let derived = hmac::sign(&secret, format!("watchword {purpose}").as_bytes());
        hmac::Key::new(hmac::HMAC_SHA256, derived.as_ref())
    }

    /// The key ring as it should be at `now`, or `None` if nothing changes.
    pub fn rotated(&self, now: SystemTime) -> Option<Self> {
        let mut next = self.clone();
        let newest = self.signing.iter().map(|key| key.use_time).max();
        if newest.is_none_or(|newest| now + PUBLISHED_AHEAD >= newest + USED_FOR) {
            next.signing.push(StoredKey::new(now, now + PUBLISHED_AHEAD));
        }
        // Keys whose successor has been in use for long enough.
        let is_obsolete = |key: &StoredKey| {
            next.signing.iter().any(|other| other.use_time > key.use_time && other.use_time + KEPT_FOR < now)
        };
        let kept: Vec<_> = next.signing.iter().filter(|key| !is_obsolete(key)).cloned().collect();
        next.signing = kept;
        (next != *self).then_some(next)
    }

    /// The key ring whose next key signs as soon as it has reached all verifiers, and that key.
    pub(crate) fn rotated_early(&self, now: SystemTime) -> (Self, StoredKey) {
        let mut ring = self.clone();
        if !self.signing.iter().any(|key| key.use_time > now) {
            ring.signing.push(StoredKey::new(now, now + PROPAGATION_TIME));
        }
        let next = ring.signing.iter_mut().max_by_key(|key| key.use_time).expect("a key was just added");
        next.use_time = next.use_time.min((next.create_time + PROPAGATION_TIME).max(now));
        let next = next.clone();
        (ring, next)
    }

    /// The key ring with only one new key, which signs at once, and that key.
    pub(crate) fn replaced(&self, now: SystemTime) -> (Self, StoredKey) {
        let key = StoredKey::new(now, now);
        (Self { refresh: self.refresh.clone(), signing: vec![key.clone()] }, key)
    }
}

impl fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyRing")
    }
}

impl StoredKey {
    fn new(create_time: SystemTime, use_time: SystemTime) -> Self {
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

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(86_400);

    #[test]
    fn next_key_is_published_a_day_before_it_is_used() {
        let start = SystemTime::UNIX_EPOCH + 1_000 * DAY;
        let ring = KeyRing::new(start, [7; 32].into());
        assert_eq!(ring.rotated(start + 88 * DAY), None);
        let next = ring.rotated(start + 89 * DAY).expect("a day ahead");
        assert_eq!(next.signing.len(), 2);
        assert_eq!(next.signing[1].use_time, start + 90 * DAY);
        assert_eq!(next.rotated(start + 90 * DAY), None, "a token of the old key is still valid");
        let alone =
            next.rotated(start + 90 * DAY + Duration::from_secs(2 * 3_600 + 1)).expect("the old key is removed");
        assert_eq!(alone.signing, next.signing[1..]);
        assert_eq!(alone.refresh, ring.refresh, "refresh tokens outlive every signing key");
    }

    #[test]
    fn key_of_an_early_rotation_signs_after_the_propagation_time() {
        let start = SystemTime::UNIX_EPOCH + 1_000 * DAY;
        let ten_minutes = Duration::from_secs(600);
        let (ring, next) = KeyRing::new(start, [7; 32].into()).rotated_early(start + DAY);
        assert_eq!((ring.signing.len(), next.use_time), (2, start + DAY + ten_minutes));
        let (again, same) = ring.rotated_early(start + DAY + ten_minutes / 2);
        assert!(again == ring && same == next, "a repeated rotation creates no second key");
        let (_, later) = ring.rotated_early(start + DAY + ten_minutes);
        assert_ne!(later.private, next.private, "the previous key already signs");

        let waiting = KeyRing::new(start, [7; 32].into()).rotated(start + 89 * DAY).expect("a day ahead");
        let (early, next) = waiting.rotated_early(start + 89 * DAY + Duration::from_secs(3_600));
        assert_eq!(early.signing.len(), 2, "a key that was published already is used");
        assert_eq!(next.use_time, start + 89 * DAY + Duration::from_secs(3_600), "it was published an hour ago");
    }

    #[test]
    fn key_ring_that_was_unused_for_years_has_a_signing_key() {
        let start = SystemTime::UNIX_EPOCH + 1_000 * DAY;
        let now = start + 2_000 * DAY;
        let next = KeyRing::new(start, [7; 32].into()).rotated(now).expect("the key is old");
        assert!(next.signing.iter().any(|key| key.use_time <= now));
    }
}
