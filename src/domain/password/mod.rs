//! Passwords: what people type, and what is kept of it.
//!
//! [`Password`] is the secret, wiped when dropped; [`PasswordHash`] is its stored form. Only a [`QueuePermit`] of the
//! [`HashPool`] turns one into the other or compares them. Neither type prints its content.

mod blocklist;
mod hash;
mod kernel;
pub(crate) mod policy;
mod pool;

use std::fmt;

use unicode_normalization::{UnicodeNormalization, is_nfc};
use zeroize::Zeroizing;

pub use self::{
    blocklist::{BLOCKLIST_BYTES_MAX, Blocklist},
    hash::{Cost, Md5Hex, PasswordHash},
    kernel::Kernel,
    policy::{ContextWord, Policy},
    pool::{HashPool, PoolSettings, Purpose, QueuePermit},
};
use super::error::{Reason, Violation};

/// Bytes of a password at most, after NFC. Longer ones are refused, never cut (CVE-2025-22228).
pub const PASSWORD_BYTES_MAX: usize = 1_024;

/// Bytes of a password before NFC at most; bounds the work on hostile input. Composition makes three bytes of nine at best,
/// so whatever is longer has too many bytes afterwards, too.
const PASSWORD_BYTES_RAW_MAX: usize = 4 * PASSWORD_BYTES_MAX;

/// A password as somebody typed it, in NFC (NIST SP 800-63B-4 3.1.1.2); 1 to 1 024 bytes.
#[derive(Clone)]
pub struct Password(Zeroizing<String>);

impl Password {
    /// Normalises `raw` and bounds its length. The policy for new passwords is `policy.rs`.
    pub fn parse(raw: String) -> Result<Self, Violation> {
        let raw = Zeroizing::new(raw);
        if raw.is_empty() {
            return Err(Violation::new("password", Reason::Required, "is required"));
        }
        let too_long =
            || Violation::new("password", Reason::TooLong, format!("has more than {PASSWORD_BYTES_MAX} bytes"));
        if raw.len() > PASSWORD_BYTES_RAW_MAX {
            return Err(too_long());
        }
        let nfc = if is_nfc(&raw) { raw } else { Zeroizing::new(raw.nfc().collect()) };
        if nfc.len() > PASSWORD_BYTES_MAX { Err(too_long()) } else { Ok(Self(nfc)) }
    }

    fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password")
    }
}
