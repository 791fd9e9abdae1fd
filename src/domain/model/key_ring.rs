//! The keys that tokens are made with: one ring in the store, shared by all nodes.
//!
//! The first node makes it, whoever races. A signing key is used for 90 days; the next one is in the ring a day before it
//! is used, so that whoever caches public keys knows it by then, and an old one stays until its last token has expired.

use std::{
    fmt,
    time::{Duration, SystemTime},
};

use aws_lc_rs::{
    digest::{SHA256, digest},
    hmac,
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair},
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use zeroize::Zeroizing;

use crate::common::{bearer, time::to_the_millisecond};

/// How long a signing key is used (DESIGN: 90 days, published a day ahead).
const USED_FOR: Duration = Duration::from_secs(90 * 86_400);
const PUBLISHED_AHEAD: Duration = Duration::from_secs(86_400);

/// How long everybody needs to hear of a key: nodes read the ring each minute, and others may keep what they fetched for
/// five (`http/well_known.rs`).
const HEARD_OF_AFTER: Duration = Duration::from_secs(600);

/// How long an old key is kept after its successor is in use: longer than any access token lives.
const KEPT_FOR: Duration = Duration::from_secs(2 * 3_600);

/// What is stored of the keys.
#[derive(Clone, PartialEq, Eq)]
pub struct KeyRing {
    /// Makes and knows refresh tokens; never changes.
    pub refresh: Zeroizing<[u8; 32]>,
    /// Sign access tokens; the newest last.
    pub signing: Vec<StoredKey>,
}

/// A signing key as it is stored.
#[derive(Clone, PartialEq, Eq)]
pub struct StoredKey {
    /// ECDSA on P-256, PKCS #8.
    pub private: Zeroizing<Vec<u8>>,
    /// When it was made.
    pub create_time: SystemTime,
    /// From when on it signs.
    pub use_time: SystemTime,
}

/// A signing key at work.
pub(crate) struct Signer {
    /// RFC 7638 thumbprint of the public key.
    pub(crate) key_id: String,
    /// The first part of every token of this key.
    pub(crate) header: String,
    pub(crate) pair: EcdsaKeyPair,
    pub(crate) use_time: SystemTime,
}

/// What everybody may know of a signing key, as a JWK has it (RFC 7517).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicKey {
    /// RFC 7638 thumbprint.
    pub key_id: String,
    /// The point on P-256.
    pub x: String,
    /// The same.
    pub y: String,
}

// === impl KeyRing ===

impl KeyRing {
    /// A ring for a new store; its key signs at once, since nobody can have cached another.
    pub fn new(now: SystemTime, refresh: Zeroizing<[u8; 32]>) -> Self {
        Self { refresh, signing: vec![StoredKey::new(now, now)] }
    }

    /// A key for something else than tokens, the same on every node, and as good as one of its own (the idea of HKDF-Expand,
    /// RFC 5869 2.3).
    pub(in crate::domain) fn key_for(&self, purpose: &str) -> hmac::Key {
        let secret = hmac::Key::new(hmac::HMAC_SHA256, &*self.refresh);
        let derived = hmac::sign(&secret, format!("watchword {purpose}").as_bytes());
        hmac::Key::new(hmac::HMAC_SHA256, derived.as_ref())
    }

    /// The ring as it should be by now; `None` when it is.
    pub fn rotated(&self, now: SystemTime) -> Option<Self> {
        let mut next = self.clone();
        let newest = self.signing.iter().map(|key| key.use_time).max();
        if newest.is_none_or(|newest| now + PUBLISHED_AHEAD >= newest + USED_FOR) {
            next.signing.push(StoredKey::new(now, now + PUBLISHED_AHEAD));
        }
        // Those whose successor has been in use for long enough.
        let over = |key: &StoredKey| {
            next.signing.iter().any(|other| other.use_time > key.use_time && other.use_time + KEPT_FOR < now)
        };
        let kept: Vec<_> = next.signing.iter().filter(|key| !over(key)).cloned().collect();
        next.signing = kept;
        (next != *self).then_some(next)
    }

    /// The ring whose next key signs as soon as everybody has heard of it, and that key.
    pub(crate) fn hastened(&self, now: SystemTime) -> (Self, StoredKey) {
        let mut ring = self.clone();
        if !self.signing.iter().any(|key| key.use_time > now) {
            ring.signing.push(StoredKey::new(now, now + HEARD_OF_AFTER));
        }
        let next = ring.signing.iter_mut().max_by_key(|key| key.use_time).expect("one was just put there");
        next.use_time = next.use_time.min((next.create_time + HEARD_OF_AFTER).max(now));
        let next = next.clone();
        (ring, next)
    }

    /// The ring with one new key that signs at once, and that key.
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
        // The library's own chance: it takes no other for keys.
        let private = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new())
            .expect("a machine without random numbers cannot keep a secret");
        // As they are stored, so that what is read again is equal.
        let [create_time, use_time] = [create_time, use_time].map(to_the_millisecond);
        Self { private: Zeroizing::new(private.as_ref().to_vec()), create_time, use_time }
    }

    /// What everybody may know of it; `None` when it is no key.
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
    /// Makes a stored key work; `None` when it is no key.
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

/// RFC 7638: the hash of the public key's required members, in the order of their names and without blanks.
fn thumbprint(pair: &EcdsaKeyPair) -> String {
    let [x, y] = coordinates(pair);
    let members = format!(r#"{{"crv":"P-256","kty":"EC","x":"{x}","y":"{y}"}}"#);
    URL_SAFE_NO_PAD.encode(digest(&SHA256, members.as_bytes()))
}

/// The public key's point, as a JWK has it.
fn coordinates(pair: &EcdsaKeyPair) -> [String; 2] {
    // Uncompressed: 4, x, y.
    let point = &pair.public_key().as_ref()[1..];
    [&point[..32], &point[32..]].map(|half| URL_SAFE_NO_PAD.encode(half))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(86_400);

    #[test]
    fn a_key_is_followed_by_one_that_everybody_knows_before_it_is_used() {
        let start = SystemTime::UNIX_EPOCH + 1_000 * DAY;
        let ring = KeyRing::new(start, [7; 32].into());
        assert_eq!(ring.rotated(start + 88 * DAY), None);
        let next = ring.rotated(start + 89 * DAY).expect("a day ahead");
        assert_eq!(next.signing.len(), 2);
        assert_eq!(next.signing[1].use_time, start + 90 * DAY);
        assert_eq!(next.rotated(start + 90 * DAY), None, "the old one's last token still lives");
        let alone = next.rotated(start + 90 * DAY + Duration::from_secs(2 * 3_600 + 1)).expect("the old one goes");
        assert_eq!(alone.signing, next.signing[1..]);
        assert_eq!(alone.refresh, ring.refresh, "refresh tokens outlive every signing key");
    }

    #[test]
    fn a_key_that_an_operator_asks_for_signs_when_everybody_has_heard_of_it() {
        let start = SystemTime::UNIX_EPOCH + 1_000 * DAY;
        let ten_minutes = Duration::from_secs(600);
        let (ring, next) = KeyRing::new(start, [7; 32].into()).hastened(start + DAY);
        assert_eq!((ring.signing.len(), next.use_time), (2, start + DAY + ten_minutes));
        let (again, same) = ring.hastened(start + DAY + ten_minutes / 2);
        assert!(again == ring && same == next, "asked twice, made once");
        let (_, later) = ring.hastened(start + DAY + ten_minutes);
        assert_ne!(later.private, next.private, "the last one signs already");

        let waiting = KeyRing::new(start, [7; 32].into()).rotated(start + 89 * DAY).expect("a day ahead");
        let (hastened, next) = waiting.hastened(start + 89 * DAY + Duration::from_secs(3_600));
        assert_eq!(hastened.signing.len(), 2, "what waits already is taken");
        assert_eq!(next.use_time, start + 89 * DAY + Duration::from_secs(3_600), "everybody knows it for an hour");
    }

    #[test]
    fn a_ring_that_nobody_looked_at_for_years_still_has_a_key_that_signs() {
        let start = SystemTime::UNIX_EPOCH + 1_000 * DAY;
        let now = start + 2_000 * DAY;
        let next = KeyRing::new(start, [7; 32].into()).rotated(now).expect("it is old");
        assert!(next.signing.iter().any(|key| key.use_time <= now));
    }
}
