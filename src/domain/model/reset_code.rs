//! The reset code with which a user sets a new password: its text, which is shown once, and its stored hash.
//!
//! Sources: ASVS 5.0 6.4.2, 6.5.1 to 6.5.5 (out-of-band codes are valid for at most 10 minutes).

use std::{
    fmt,
    time::{Duration, SystemTime},
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use zeroize::Zeroizing;

use super::UserId;
use crate::common::{
    sha256::sha256_of,
    time::{is_credible_end, to_the_millisecond},
};

/// The prefix, by which operators and secret scanners recognize a code. A code never begins with a dash.
const PREFIX: &str = "wwc_";

/// Random bytes. From 112 bits on a plain hash is sufficient for storing it (ASVS 6.5.2).
const SECRET_BYTES: usize = 16;

/// How long a code is valid (ASVS 5.0 6.5.5).
const LIFETIME: Duration = Duration::from_secs(10 * 60);

/// A new code, which is shown once.
pub struct ResetCode {
    /// The text that the user sends.
    pub text: Zeroizing<String>,
    /// When it expires.
    pub expire_time: SystemTime,
}

// Does not print the code, which authenticates the user.
impl fmt::Debug for ResetCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ResetCode")
    }
}

/// The stored form of a code.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct KeptCode {
    /// SHA-256 of the user id and the text.
    pub(crate) hash: [u8; 32],
    /// When it expires.
    pub expire_time: SystemTime,
}

impl KeptCode {
    /// The stored form of a code that no user has, valid from `now` for the usual time.
    pub(crate) fn unknown(now: SystemTime, hash: [u8; 32]) -> Self {
        Self { hash, expire_time: to_the_millisecond(now + LIFETIME) }
    }
}

impl KeptCode {
    /// Whether a right clock can have given it this time of expiry.
    pub(in crate::domain) fn is_credible(&self, now: SystemTime) -> bool {
        is_credible_end(self.expire_time, LIFETIME, now)
    }
}

impl fmt::Debug for KeptCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeptCode")
    }
}

impl ResetCode {
    /// A new code for a user, and its stored form.
    pub(in crate::domain) fn new(
        user: UserId,
        now: SystemTime,
        secret: &Zeroizing<[u8; SECRET_BYTES]>,
    ) -> (Self, KeptCode) {
        // Not `encode_string`, which leaves a copy of the text on the stack.
        let text = Zeroizing::new([PREFIX, &Zeroizing::new(URL_SAFE_NO_PAD.encode(secret.as_slice()))].concat());
        let expire_time = to_the_millisecond(now + LIFETIME);
        let kept = KeptCode { hash: hash_of(Some(user), &text), expire_time };
        (Self { text, expire_time }, kept)
    }
}

/// The hash of a code. It includes the user, so that it is useless when copied to another user.
pub(in crate::domain) fn hash_of(user: Option<UserId>, text: &str) -> [u8; 32] {
    sha256_of([&user.map_or([0; 16], UserId::bytes)[..], text.as_bytes()])
}
