//! Access tokens: JWTs (RFC 9068) signed with ES256, that live minutes.
//!
//! What a token must look like is in `bearer.rs`, for us and for those who check tokens by themselves. Time comes from the
//! caller. The expiry has no leeway; a time of issue may be ahead by as much as clocks differ.

use std::time::{Duration, SystemTime};

use aws_lc_rs::{rand::SystemRandom, signature::KeyPair};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::json;
use zeroize::Zeroizing;

use crate::{
    common::{
        bearer,
        time::{CLOCK_TOLERANCE, unix_seconds},
    },
    domain::model::{SessionId, Signer, UserId},
};

/// The longest lifetime that a node can be told to give an access token.
const ACCESS_LIFETIME_MAX: Duration = Duration::from_secs(3_600);

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

/// The issuer and the audience of tokens.
#[derive(Debug, Clone)]
pub struct Names {
    /// `iss`
    pub issuer: String,
    /// `aud`
    pub audience: String,
}

/// Signs a token.
pub(super) fn write(signer: &Signer, names: &Names, client_id: &str, claims: &Claims, token_id: &str) -> String {
    let payload = json!({
        "iss": names.issuer,
        "sub": claims.user_id.to_string(),
        "aud": names.audience,
        "client_id": client_id,
        "exp": claims.expires_at,
        "iat": claims.issued_at,
        "jti": token_id,
        "sid": claims.session_id.to_string(),
    });
    let mut token = signer.header.clone();
    token.push('.');
    token.push_str(&URL_SAFE_NO_PAD.encode(payload.to_string()));
    let signature = signer.pair.sign(&SystemRandom::new(), token.as_bytes()).expect("a key that was read signs");
    token.push('.');
    // Not `encode_string`, which leaves a copy of the text on the stack.
    token.push_str(&Zeroizing::new(URL_SAFE_NO_PAD.encode(signature)));
    token
}

/// Reads a token; `None` unless one of these keys signed it, for these names. Whether its time is over is not asked.
pub(super) fn read(signers: &[Signer], names: &Names, token: &str) -> Option<Claims> {
    let key = |head: &str| signers.iter().find(|signer| signer.header == head).map(|signer| signer.pair.public_key());
    let claims = bearer::claims(token, &names.issuer, &names.audience, key)?;
    Some(Claims {
        user_id: UserId::parse(claims["sub"].as_str()?)?,
        session_id: SessionId::parse(claims["sid"].as_str()?)?,
        issued_at: claims["iat"].as_u64()?,
        expires_at: claims["exp"].as_u64()?,
    })
}

impl Claims {
    /// Whether the token has expired.
    pub(in crate::domain) fn is_expired(&self, now: SystemTime) -> bool {
        unix_seconds(now) >= self.expires_at
    }

    /// Whether a right clock can have issued the token: a wrong one may have written times of next year.
    pub(in crate::domain) fn is_credible(&self, now: SystemTime) -> bool {
        let latest = unix_seconds(now) + CLOCK_TOLERANCE.as_secs();
        self.issued_at <= latest && self.expires_at <= latest + ACCESS_LIFETIME_MAX.as_secs()
    }
}
