//! A secret of the key ring, and which secret of a list is in use.

use std::{fmt, time::SystemTime};

use aws_lc_rs::hmac;
use zeroize::Zeroizing;

use crate::common::time::to_the_millisecond;

/// Bytes of a secret: as many as HMAC-SHA-256 has (RFC 2104 section 3).
pub(in crate::domain) const SECRET_BYTES: usize = 32;

/// Makes a new secret from the CSPRNG.
pub(in crate::domain) type NewSecret<'a> = &'a dyn Fn() -> [u8; SECRET_BYTES];

/// A secret as it is stored.
#[derive(Clone, PartialEq, Eq)]
pub struct StoredSecret {
    /// The secret.
    pub secret: Zeroizing<[u8; SECRET_BYTES]>,
    /// When it was created.
    pub create_time: SystemTime,
    /// When it comes into use.
    pub use_time: SystemTime,
    /// Whether an attacker may know it (`--drop-old-keys`). What was made with it proves nothing by itself, and nothing new
    /// is made with it.
    pub is_exposed: bool,
}

impl StoredSecret {
    pub(super) fn new(secret: [u8; SECRET_BYTES], create_time: SystemTime, use_time: SystemTime) -> Self {
        // With the precision of the store, so that a stored secret equals this one.
        let [create_time, use_time] = [create_time, use_time].map(to_the_millisecond);
        Self { secret: secret.into(), create_time, use_time, is_exposed: false }
    }

    /// The secret as a key.
    pub(in crate::domain) fn key(&self) -> hmac::Key {
        hmac::Key::new(hmac::HMAC_SHA256, &*self.secret)
    }

    /// Derives a key for one purpose, independent of those for other purposes (as HKDF-Expand, RFC 5869 section 2.3).
    pub(in crate::domain) fn key_for(&self, purpose: &str) -> hmac::Key {
        let derived = hmac::sign(&self.key(), format!("watchword {purpose}").as_bytes());
        hmac::Key::new(hmac::HMAC_SHA256, derived.as_ref())
    }

    /// The secret with which new things are made: the newest in use that is not exposed.
    pub(in crate::domain) fn in_use(secrets: &[Self], now: SystemTime) -> Option<&Self> {
        let not_exposed = || secrets.iter().filter(|secret| !secret.is_exposed);
        let in_use = not_exposed().filter(|secret| secret.use_time <= now).max_by_key(|secret| secret.use_time);
        in_use.or_else(|| not_exposed().min_by_key(|secret| secret.use_time))
    }
}

impl fmt::Debug for StoredSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StoredSecret")
    }
}
