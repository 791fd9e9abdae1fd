//! A password as a user typed it, in NFC: bounded, wiped when it is dropped, never printed.

use std::fmt;

use unicode_normalization::{UnicodeNormalization, is_nfc};
use zeroize::Zeroizing;

use crate::domain::violation::{Reason, Violation};

/// Bytes of a password at most, after NFC. Longer ones are refused, never cut (CVE-2025-22228).
pub(in crate::domain) const PASSWORD_BYTES_MAX: usize = 1_024;

/// Bytes of a password before NFC at most; bounds the work on hostile input. Composition makes three bytes of nine at best,
/// so whatever is longer has too many bytes afterwards, too.
const PASSWORD_BYTES_RAW_MAX: usize = 4 * PASSWORD_BYTES_MAX;

/// A password as somebody typed it, in NFC (NIST SP 800-63B-4 3.1.1.2); 1 to 1 024 bytes.
#[derive(Clone)]
pub struct Password(pub(super) Zeroizing<String>);

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

    pub(in crate::domain) fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password")
    }
}
