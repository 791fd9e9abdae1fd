//! The code with which a user sets a new password: its text, shown once, and what is stored of it.
//!
//! Sources: ASVS 5.0 6.4.2, 6.5.1 to 6.5.5.

use std::{
    fmt,
    time::{Duration, SystemTime},
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use zeroize::Zeroizing;

use super::UserId;
use crate::common::{sha256::sha256_of, time::to_the_millisecond};

/// Tells people and scanners of secrets what it is, and keeps it from beginning with a dash.
const PREFIX: &str = "wwc_";

/// What cannot be guessed; from 112 bits on a plain hash does to keep it (ASVS 6.5.2).
const SECRET_BYTES: usize = 16;

/// How long a code is good.
const LIFETIME: Duration = Duration::from_secs(15 * 60);

/// A code that was made and is shown once.
pub struct ResetCode {
    /// What the user sends.
    pub text: Zeroizing<String>,
    /// From then on it is no longer good.
    pub expire_time: SystemTime,
}

// Whoever has it is the user.
impl fmt::Debug for ResetCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ResetCode")
    }
}

/// What is kept of a code.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct KeptCode {
    /// SHA-256 of whose it is and its text.
    pub(crate) hash: [u8; 32],
    /// From then on it is no longer good.
    pub expire_time: SystemTime,
}

impl KeptCode {
    /// What is kept of a code that nobody has, good from `now` on for as long as any.
    pub(crate) fn made_up(now: SystemTime, hash: [u8; 32]) -> Self {
        Self { hash, expire_time: to_the_millisecond(now + LIFETIME) }
    }
}

impl fmt::Debug for KeptCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeptCode")
    }
}

impl ResetCode {
    /// A new code for a user, and what is stored of it.
    pub(in crate::domain) fn new(
        user: UserId,
        now: SystemTime,
        secret: &Zeroizing<[u8; SECRET_BYTES]>,
    ) -> (Self, KeptCode) {
        let mut text = Zeroizing::new(PREFIX.to_owned());
        URL_SAFE_NO_PAD.encode_string(secret.as_slice(), &mut text);
        let expire_time = to_the_millisecond(now + LIFETIME);
        let kept = KeptCode { hash: hash_of(Some(user), &text), expire_time };
        (Self { text, expire_time }, kept)
    }
}

/// What is stored of a code. It is bound to its user: copied to another record, it opens nothing.
pub(in crate::domain) fn hash_of(user: Option<UserId>, text: &str) -> [u8; 32] {
    sha256_of([&user.map_or([0; 16], UserId::bytes)[..], text.as_bytes()])
}
