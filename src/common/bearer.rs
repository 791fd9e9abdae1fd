//! Bearer tokens as text: the `authorization` header (RFC 6750), and the form of an access token (RFC 9068).
//!
//! Shared by the service and by clients that verify tokens offline, so that both accept the same tokens. The header of an
//! access token must equal the issued form byte for byte, which prevents confusion of algorithms, key ids, types and
//! critical headers (RFC 8725). The payload is parsed only after the signature is verified. Does not know where keys are
//! kept, nor the time.

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};

/// The maximum length of an access token in bytes. Issued tokens have about 600. Longer ones are not parsed.
pub(crate) const ACCESS_BYTES_MAX: usize = 2_048;

/// `WWW-Authenticate` for a request without a bearer token. Such a request gets no error code (RFC 6750 section 3.1).
pub(crate) const CHALLENGE: &str = r#"Bearer realm="watchword""#;

/// `WWW-Authenticate` for a request whose bearer token is not valid.
pub(crate) const CHALLENGE_INVALID: &str = r#"Bearer realm="watchword", error="invalid_token""#;

/// Why a header has no bearer token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HeaderFault {
    /// One value of another scheme.
    OtherScheme,
    /// Several values, or one that is not valid.
    Malformed,
}

/// Parses the values of `authorization`: none, or exactly one of the scheme Bearer, whose token has only the characters of
/// RFC 6750 section 2.1. One or more spaces separate them (RFC 9110 section 11.4).
pub(crate) fn token<'a>(mut values: impl Iterator<Item = &'a [u8]>) -> Result<Option<&'a str>, HeaderFault> {
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(HeaderFault::Malformed);
    }
    let text = std::str::from_utf8(value).map_err(|_| HeaderFault::Malformed)?;
    let (scheme, token) = text.split_at(text.find(' ').unwrap_or(text.len()));
    // The characters of a scheme (RFC 9110 section 5.6.2).
    let is_scheme = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
    if scheme.is_empty() || !scheme.chars().all(is_scheme) {
        return Err(HeaderFault::Malformed);
    }
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Err(HeaderFault::OtherScheme);
    }
    let token = token.trim_start_matches(' ');
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || "-._~+/=".contains(c);
    if !token.is_empty() && token.chars().all(is_allowed) { Ok(Some(token)) } else { Err(HeaderFault::Malformed) }
}

/// The header, in base64url, of every access token that is signed by the key with this id.
pub(crate) fn header(key_id: &str) -> String {
    URL_SAFE_NO_PAD.encode(json!({"alg": "ES256", "kid": key_id, "typ": "at+jwt"}).to_string())
}

/// The lifetime of an access token according to its claims. Verifies nothing.
#[cfg(feature = "client")]
pub(crate) fn lifetime(token: &str) -> Option<std::time::Duration> {
    let payload = token.split('.').nth(1)?;
    let claims: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).ok()?).ok()?;
    let seconds = claims["exp"].as_u64()?.checked_sub(claims["iat"].as_u64()?)?;
    Some(std::time::Duration::from_secs(seconds))
}

/// The header of a token, in base64url, if it has the issued form with any key id. Verifies nothing.
pub(crate) fn header_of(token: &str) -> Option<&str> {
    let (encoded, _) = token.split_once('.').filter(|_| token.len() <= ACCESS_BYTES_MAX)?;
    let decoded: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(encoded).ok()?).ok()?;
    (header(decoded["kid"].as_str()?) == encoded).then_some(encoded)
}

/// The claims of an access token, if the key of its header signed it and its issuer and audience are these. Does not check
/// times.
///
/// `key` returns the public key for the header of a token, in base64url: an uncompressed point on P-256.
pub(crate) fn claims<K: AsRef<[u8]>>(
    token: &str,
    issuer: &str,
    audience: &str,
    key: impl FnOnce(&str) -> Option<K>,
) -> Option<Value> {
    if token.len() > ACCESS_BYTES_MAX {
        return None;
    }
    let (signed, signature) = token.rsplit_once('.')?;
    let (header, payload) = signed.split_once('.')?;
    let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, key(header)?);
    key.verify(signed.as_bytes(), &URL_SAFE_NO_PAD.decode(signature).ok()?).ok()?;

    let claims: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).ok()?).ok()?;
    (claims["iss"] == issuer && claims["aud"] == audience).then_some(claims)
}
