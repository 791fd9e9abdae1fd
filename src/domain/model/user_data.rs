//! The text that a client keeps with a user: opaque, returned verbatim, never parsed.

use std::fmt;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};

use crate::common::sha256::sha256;
use crate::domain::violation::{Reason, Violation};

/// Text of a client: any UTF-8, never parsed.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct UserData(String);

impl UserData {
    /// Accepts `raw` unchanged if it has at most `bytes_max` bytes.
    pub fn parse(raw: String, bytes_max: usize) -> Result<Self, Violation> {
        if raw.len() > bytes_max {
            return Err(Violation::new("data", Reason::TooLong, format!("has more than {bytes_max} bytes")));
        }
        Ok(Self(raw))
    }

    /// Text from the store, which may have been accepted under another limit.
    pub(crate) fn stored(text: String) -> Self {
        Self(text)
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The etag of this text (AIP-154).
    pub fn etag(&self) -> String {
        fingerprint(&self.0)
    }
}

// May contain secrets, so it is never printed.
impl fmt::Debug for UserData {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("UserData")
    }
}

/// Identifies a text: 96 bits of its SHA-256.
pub(crate) fn fingerprint(text: &str) -> String {
    URL_SAFE_NO_PAD.encode(&sha256(text.as_bytes())[..12])
}
