//! The OAuth clients that may introspect and revoke tokens: names and secrets from a file (RFC 6749 section 2.3.1).
//!
//! Introspection without client authentication would allow token scanning (RFC 7662 section 4). Memory holds only hashes
//! of the secrets. Secrets have at least 128 bits, so brute force needs no rate limit.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use axum::http::{HeaderMap, header};
use base64::{Engine, engine::general_purpose::STANDARD};
use zeroize::Zeroizing;

use super::form::{FormFields, decode};
use crate::common::sha256::sha256;

/// Characters of a secret: at least 128 bits in base64url, and few enough for a header.
const SECRET_CHARS: std::ops::RangeInclusive<usize> = 22..=200;

/// Characters of a name at most.
const NAME_CHARS_MAX: usize = 64;

/// The clients, each as the hash of its name and secret.
pub struct OAuthClients(Vec<[u8; 32]>);

/// Why client authentication failed.
pub(super) enum ClientAuthError {
    /// The request authenticates in a way that the RFC forbids.
    Malformed(&'static str),
    /// The request has no credentials, or wrong ones.
    Unknown,
}

impl OAuthClients {
    /// Reads a file of `NAME:SECRET` lines. Blank lines and lines that begin with `#` are ignored. A name may appear
    /// twice, so that its secret can be rotated without downtime.
    ///
    /// # Errors
    /// Every fault of the file with its line number, without any secret.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (mut known, mut faults) = (Vec::new(), Vec::new());
        for (number, line) in (1..).zip(text.lines()) {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            match client(line) {
                Ok(client) => known.push(client),
                Err(fault) => faults.push(format!("line {number}: {fault}")),
            }
        }
        if known.is_empty() && faults.is_empty() {
            faults.push("names no client: expected a line NAME:SECRET for each".into());
        }
        if faults.is_empty() { Ok(Self(known)) } else { Err(faults.join("; ")) }
    }

    /// Authenticates a client: by Basic authentication, or by `client_id` and `client_secret` in the form.
    pub(super) fn check(&self, headers: &HeaderMap, form: &mut FormFields) -> Result<(), ClientAuthError> {
        let mut basic = headers.get_all(header::AUTHORIZATION).iter();
        let (name, secret) = (form.take("client_id"), form.take("client_secret").map(Zeroizing::new));
        let is_known = match (basic.next(), name, secret) {
            (Some(_), _, Some(_)) => {
                return Err(ClientAuthError::Malformed("authenticate in the header or in the form, not in both"));
            }
            (Some(value), name, None) if basic.next().is_none() => self.knows_basic(value.as_bytes(), name.as_deref()),
            (None, Some(name), Some(secret)) => self.knows(&name, &secret),
            (Some(_), _, None) | (None, _, _) => false,
        };
        if is_known { Ok(()) } else { Err(ClientAuthError::Unknown) }
    }

    /// Checks the value of an `authorization` header. The form may also name the client, if it is the same one.
    fn knows_basic(&self, value: &[u8], also_named: Option<&str>) -> bool {
        let credentials = std::str::from_utf8(value).ok().and_then(|text| {
            let (scheme, encoded) = text.split_once(' ')?;
            let decoded = STANDARD.decode(encoded.trim()).ok().filter(|_| scheme.eq_ignore_ascii_case("basic"))?;
            String::from_utf8(decoded).ok().map(Zeroizing::new)
        });
        let credentials = credentials.as_ref().and_then(|text| text.split_once(':'));
        let Some((name, secret)) = credentials else { return false };
        if also_named.is_some_and(|named| named != name) {
            return false;
        }
        // The RFC form-encodes both before base64. Many clients do not.
        let decoded = decode(name).ok().zip(decode(secret).ok().map(Zeroizing::new));
        self.knows(name, secret) | decoded.is_some_and(|(name, secret)| self.knows(&name, &secret))
    }

    fn knows(&self, name: &str, secret: &str) -> bool {
        let wanted = fingerprint(name, secret);
        // Compares with every client, so that the time is constant.
        let equal = |known: &[u8; 32]| verify_slices_are_equal(known, &wanted).is_ok();
        self.0.iter().fold(false, |found, known| found | equal(known))
    }
}

// Hides the hashes.
impl std::fmt::Debug for OAuthClients {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "OAuthClients({})", self.0.len())
    }
}

fn client(line: &str) -> Result<[u8; 32], String> {
    let (name, secret) = line.split_once(':').ok_or("expected NAME:SECRET")?;
    let is_name = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
    if name.is_empty() || name.len() > NAME_CHARS_MAX || !name.chars().all(is_name) {
        return Err(format!("expected a name of 1 to {NAME_CHARS_MAX} letters, digits, '-', '.' and '_'"));
    }
    if !SECRET_CHARS.contains(&secret.len()) || !secret.chars().all(|c| c.is_ascii_graphic()) {
        return Err(format!(
            "the secret of {name} has not {} to {} printable ASCII characters; `openssl rand -hex 16` makes one",
            SECRET_CHARS.start(),
            SECRET_CHARS.end()
        ));
    }
    Ok(fingerprint(name, secret))
}

fn fingerprint(name: &str, secret: &str) -> [u8; 32] {
    let text = Zeroizing::new(format!("{name}:{secret}"));
    sha256(text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fault_of_the_file_is_reported_without_a_secret() {
        let fault = OAuthClients::parse("# gateways\n\nkong\na b:0123456789abcdef0123456789abcdef\nshop:hunter2\n")
            .unwrap_err();
        for part in ["line 3: expected NAME:SECRET", "line 4: expected a name", "line 5: the secret of shop"] {
            assert!(fault.contains(part), "{fault}");
        }
        assert!(!fault.contains("hunter2") && !fault.contains("0123456789"), "{fault}");
        assert!(OAuthClients::parse("# none yet\n").unwrap_err().contains("names no client"));
    }
}
