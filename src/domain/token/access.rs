//! Access tokens: JWTs (RFC 9068) signed with ES256, that live minutes.
//!
//! Only a token that we could have made is one: its header must be ours byte for byte, which leaves nothing to confuse
//! (RFC 8725: algorithms, key ids, types, critical headers), and everything after it is read only once the signature
//! holds. Time comes from the caller; there is no leeway.

use std::time::SystemTime;

use aws_lc_rs::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED, KeyPair, UnparsedPublicKey},
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use super::keys::Signer;
use crate::domain::{SessionId, UserId};

/// Bytes of a token at most; ours are about 600. More is not looked at.
const BYTES_MAX: usize = 2_048;

/// What an access token says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claims {
    /// Whose it is (`sub`).
    pub user_id: UserId,
    /// Which session it belongs to (`sid`).
    pub session_id: SessionId,
    /// Since when (`iat`), in seconds since 1970.
    pub issued_at: u64,
    /// Until when (`exp`), in seconds since 1970.
    pub expires_at: u64,
}

/// Who makes tokens, and for whom.
#[derive(Debug, Clone)]
pub struct Names {
    /// `iss`
    pub issuer: String,
    /// `aud`
    pub audience: String,
}

/// Signs a token.
pub(super) fn write(signer: &Signer, names: &Names, claims: &Claims, token_id: &str) -> String {
    let payload = json!({
        "iss": names.issuer,
        "sub": claims.user_id.to_string(),
        "aud": names.audience,
        "exp": claims.expires_at,
        "iat": claims.issued_at,
        "jti": token_id,
        "sid": claims.session_id.to_string(),
    });
    let mut token = signer.header.clone();
    token.push('.');
    URL_SAFE_NO_PAD.encode_string(payload.to_string(), &mut token);
    let signature = signer.pair.sign(&SystemRandom::new(), token.as_bytes()).expect("a key that was read signs");
    token.push('.');
    URL_SAFE_NO_PAD.encode_string(signature, &mut token);
    token
}

/// The header of every token of the key with that id.
pub(super) fn header(key_id: &str) -> String {
    URL_SAFE_NO_PAD.encode(json!({"alg": "ES256", "kid": key_id, "typ": "at+jwt"}).to_string())
}

/// Reads a token; `None` unless one of these keys signed it, for these names. Whether its time is over is not asked.
pub(super) fn read(signers: &[Signer], names: &Names, token: &str) -> Option<Claims> {
    if token.len() > BYTES_MAX {
        return None;
    }
    let (signed, signature) = token.rsplit_once('.')?;
    let (head, payload) = signed.split_once('.')?;
    let signer = signers.iter().find(|signer| signer.header == head)?;
    let signature = URL_SAFE_NO_PAD.decode(signature).ok()?;
    let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, signer.pair.public_key());
    key.verify(signed.as_bytes(), &signature).ok()?;

    let payload: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).ok()?).ok()?;
    if payload["iss"] != names.issuer.as_str() || payload["aud"] != names.audience.as_str() {
        return None;
    }
    Some(Claims {
        user_id: UserId::parse(payload["sub"].as_str()?)?,
        session_id: SessionId::parse(payload["sid"].as_str()?)?,
        issued_at: payload["iat"].as_u64()?,
        expires_at: payload["exp"].as_u64()?,
    })
}

/// Whole seconds since 1970.
pub(super) fn seconds(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
}
