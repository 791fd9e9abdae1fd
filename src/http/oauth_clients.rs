//! The OAuth clients that may introspect and revoke tokens: names and secrets from a file (RFC 6749 section 2.3.1).
//!
//! Introspection without client authentication would allow token scanning (RFC 7662 section 4). Memory holds only hashes
//! of the secrets. Wrong secrets are counted and limited by the domain.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use axum::http::{HeaderMap, header};
use base64::{Engine, engine::general_purpose::STANDARD};
use zeroize::Zeroizing;

use super::form::{FormFields, decode};
use crate::common::{files::entries, sha256::sha256};

/// Characters of a secret: at least 128 bits in base64url, and few enough for a header.
const SECRET_CHARS: std::ops::RangeInclusive<usize> = 22..=200;

/// Characters of a client's name at most.
const NAME_CHARS_MAX: usize = 64;

/// What a client's name is, for errors.
pub(crate) const CLIENT_NAME: &str = "a name of 1 to 64 letters, digits, '-', '.' and '_'";

/// The clients.
pub struct OAuthClients(Vec<KnownClient>);

/// A client with one of its secrets.
struct KnownClient {
    name: String,
    /// SHA-256 of the name and the secret.
    hash: [u8; 32],
}

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
        for (number, line) in entries(text) {
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

    /// Authenticates a client: by Basic authentication, or by `client_id` and `client_secret` in the form. Answers its name.
    pub(super) fn check(&self, headers: &HeaderMap, form: &mut FormFields) -> Result<&str, ClientAuthError> {
        let mut basic = headers.get_all(header::AUTHORIZATION).iter();
        let (name, secret) = (form.take("client_id"), form.take("client_secret").map(Zeroizing::new));
        let client = match (basic.next(), name, secret) {
            (Some(_), _, Some(_)) => {
                return Err(ClientAuthError::Malformed("authenticate in the header or in the form, not in both"));
            }
            (Some(value), name, None) if basic.next().is_none() => self.find_basic(value.as_bytes(), name.as_deref()),
            (None, Some(name), Some(secret)) => self.find(&name, &secret),
            (Some(_), _, None) | (None, _, _) => None,
        };
        client.ok_or(ClientAuthError::Unknown)
    }

    /// Checks the value of an `authorization` header. The form may also name the client, if it is the same one.
    fn find_basic(&self, value: &[u8], also_named: Option<&str>) -> Option<&str> {
        let credentials = std::str::from_utf8(value).ok().and_then(|text| {
            let (scheme, encoded) = text.split_once(' ')?;
            let decoded = STANDARD.decode(encoded.trim()).ok().filter(|_| scheme.eq_ignore_ascii_case("basic"))?;
            String::from_utf8(decoded).ok().map(Zeroizing::new)
        });
        let (name, secret) = credentials.as_ref()?.split_once(':')?;
        if also_named.is_some_and(|named| named != name) {
            return None;
        }
        // The RFC form-encodes both before base64. Many clients do not.
        let decoded = decode(name).ok().zip(decode(secret).ok().map(Zeroizing::new));
        let as_encoded = decoded.and_then(|(name, secret)| self.find(&name, &secret));
        self.find(name, secret).or(as_encoded)
    }

    fn find(&self, name: &str, secret: &str) -> Option<&str> {
        let wanted = fingerprint(name, secret);
        // Compares with every client, so that the time is constant.
        let equal = |known: &KnownClient| verify_slices_are_equal(&known.hash, &wanted).is_ok();
        self.0.iter().fold(None, |found, known| if equal(known) { Some(&*known.name) } else { found })
    }
}

// Hides the hashes.
impl std::fmt::Debug for OAuthClients {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "OAuthClients({})", self.0.len())
    }
}

/// Whether `text` can be a client's name.
pub(crate) fn is_client_name(text: &str) -> bool {
    let is_name = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
    !text.is_empty() && text.len() <= NAME_CHARS_MAX && text.chars().all(is_name)
}

fn client(line: &str) -> Result<KnownClient, String> {
    let (name, secret) = line.split_once(':').ok_or("expected NAME:SECRET")?;
    if !is_client_name(name) {
        return Err(format!("expected {CLIENT_NAME}"));
    }
    if !SECRET_CHARS.contains(&secret.len()) || !secret.chars().all(|c| c.is_ascii_graphic()) {
        return Err(format!(
            "the secret of {name} has not {} to {} printable ASCII characters; `openssl rand -hex 16` makes one",
            SECRET_CHARS.start(),
            SECRET_CHARS.end()
        ));
    }
    Ok(KnownClient { name: name.to_owned(), hash: fingerprint(name, secret) })
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
