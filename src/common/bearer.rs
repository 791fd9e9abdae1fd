//! Bearer tokens as text: how one stands in a header (RFC 6750), and what an access token looks like (RFC 9068).
//!
//! The service reads tokens with it, and so do services that check them by themselves: what counts is decided once. Only a
//! token that Watchword could have made is one: its header must be ours byte for byte, which leaves nothing to confuse
//! (RFC 8725: algorithms, key ids, types, critical headers), and everything after it is read only once the signature
//! holds. Knows neither where keys are kept nor what time it is.

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};

/// Bytes of an access token at most; ours are about 600. More is not looked at.
pub(crate) const ACCESS_BYTES_MAX: usize = 2_048;

/// Something came that is not exactly one token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Malformed;

/// Reads the values of `authorization`: none, or exactly one, of the scheme Bearer, with one token of the characters that
/// tokens have (RFC 6750 2.1).
pub(crate) fn token<'a>(mut values: impl Iterator<Item = &'a [u8]>) -> Result<Option<&'a str>, Malformed> {
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(Malformed);
    }
    let (scheme, token) = std::str::from_utf8(value).ok().and_then(|text| text.split_once(' ')).ok_or(Malformed)?;
    let fits = |c: char| c.is_ascii_alphanumeric() || "-._~+/=".contains(c);
    let is_one = scheme.eq_ignore_ascii_case("bearer") && !token.is_empty() && token.chars().all(fits);
    if is_one { Ok(Some(token)) } else { Err(Malformed) }
}

/// The first part of every access token of the key with that id.
pub(crate) fn header(key_id: &str) -> String {
    URL_SAFE_NO_PAD.encode(json!({"alg": "ES256", "kid": key_id, "typ": "at+jwt"}).to_string())
}

/// How long an access token lives from its making, as it says itself; nothing of it is verified.
#[cfg(feature = "client")]
pub(crate) fn lifetime(token: &str) -> Option<std::time::Duration> {
    let payload = token.split('.').nth(1)?;
    let claims: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).ok()?).ok()?;
    let seconds = claims["exp"].as_u64()?.checked_sub(claims["iat"].as_u64()?)?;
    Some(std::time::Duration::from_secs(seconds))
}

/// The first part of a token that looks like one of ours, whatever key it names; nothing of it is verified.
#[cfg(feature = "client")]
pub(crate) fn head(token: &str) -> Option<&str> {
    let (head, _) = token.split_once('.').filter(|_| token.len() <= ACCESS_BYTES_MAX)?;
    let said: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(head).ok()?).ok()?;
    (header(said["kid"].as_str()?) == head).then_some(head)
}

/// The claims of an access token, if the key that belongs to its header signed it, for these names. Whether its time is over
/// is not asked.
///
/// `key` answers the public key of a token's first part: a point on P-256, uncompressed.
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
    let (head, payload) = signed.split_once('.')?;
    let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, key(head)?);
    key.verify(signed.as_bytes(), &URL_SAFE_NO_PAD.decode(signature).ok()?).ok()?;

    let claims: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).ok()?).ok()?;
    (claims["iss"] == issuer && claims["aud"] == audience).then_some(claims)
}
