//! A password in NFC: bounded, wiped when it is dropped, never printed.

use std::fmt;

use unicode_normalization::{UnicodeNormalization, is_nfc};
use zeroize::Zeroizing;

use crate::domain::violation::{Reason, Violation};

/// The maximum length of a password in bytes, after NFC. Longer ones are refused, never truncated (CVE-2025-22228).
pub(in crate::domain) const PASSWORD_BYTES_MAX: usize = 1_024;

/// The maximum length before NFC. Bounds the work on hostile input: composition shortens a text to a third at most, so a
/// longer one is too long afterwards, too.
const PASSWORD_BYTES_RAW_MAX: usize = 4 * PASSWORD_BYTES_MAX;

/// A password in NFC (NIST SP 800-63B-4 section 3.1.1.2), 1 to 1 024 bytes.
#[derive(Clone)]
pub struct Password(pub(super) Zeroizing<String>);

impl Password {
    /// Normalizes `raw` and checks its length. The policy for new passwords is in `password/policy.rs`.
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

    pub(in crate::domain) fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password")
    }
}
