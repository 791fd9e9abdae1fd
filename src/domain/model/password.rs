//! A password in its stored form: spaces and NFC as in RFC 8265, bounded, wiped when it is dropped, never printed.

use std::{borrow::Cow, fmt};

use unicode_normalization::{UnicodeNormalization, is_nfc};
use zeroize::Zeroizing;

use crate::domain::violation::{Reason, Violation};

/// The maximum length of a password in bytes, after NFC. Longer ones are refused, never truncated (CVE-2025-22228).
pub(in crate::domain) const PASSWORD_BYTES_MAX: usize = 1_024;

/// The maximum length before NFC. Bounds the work on hostile input: composition shortens a text to a third at most, so a
/// longer one is too long afterwards, too.
const PASSWORD_BYTES_RAW_MAX: usize = 4 * PASSWORD_BYTES_MAX;

/// A password, 1 to 1 024 bytes: every space is U+0020 (RFC 8265 section 4.2.2), then NFC (the same, and NIST SP 800-63B-4
/// section 3.1.1.2). Keyboards and phones type other spaces, such as U+00A0, where the user sees none.
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
        let plain = match with_plain_spaces(&raw) {
            Cow::Borrowed(_) => raw,
            Cow::Owned(plain) => Zeroizing::new(plain),
        };
        let nfc = if is_nfc(&plain) { plain } else { Zeroizing::new(plain.nfc().collect()) };
        if nfc.len() > PASSWORD_BYTES_MAX { Err(too_long()) } else { Ok(Self(nfc)) }
    }

    pub(in crate::domain) fn as_str(&self) -> &str {
        &self.0
    }
}

/// Replaces every character of the category Zs by U+0020.
pub(in crate::domain) fn with_plain_spaces(text: &str) -> Cow<'_, str> {
    if !text.contains(is_other_space) {
        return Cow::Borrowed(text);
    }
    // No longer than the original, so a secret is written to one place only.
    let mut plain = String::with_capacity(text.len());
    plain.extend(text.chars().map(|c| if is_other_space(c) { ' ' } else { c }));
    Cow::Owned(plain)
}

/// Whether `c` is a space of the category Zs and not U+0020. Tabs and line ends are control characters, and stay.
fn is_other_space(c: char) -> bool {
    matches!(c, '\u{a0}' | '\u{1680}' | '\u{2000}'..='\u{200a}' | '\u{202f}' | '\u{205f}' | '\u{3000}')
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password")
    }
}
