//! Refresh tokens: session, generation, secret and tag.
//!
//! With the tag, a forged token is refused without reading a session. The next secret is derived from the current one with a
//! key that only the nodes have: the store keeps only a hash, and the same successor can be returned again if a response was
//! lost.

use aws_lc_rs::{constant_time::verify_slices_are_equal, hmac};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::{common::sha256::sha256, domain::model::SessionId};

/// The prefix of a token, by which secret scanners recognize it.
const PREFIX: &str = "wwr_";

const SECRET_BYTES: usize = 32;
const TAG_BYTES: usize = 16;
const BYTES: usize = 16 + 4 + SECRET_BYTES + TAG_BYTES;

/// A refresh token that a node with this key ring has issued.
#[derive(Clone)]
pub(in crate::domain) struct RefreshToken {
    pub(in crate::domain) session: SessionId,
    pub(in crate::domain) generation: u32,
    secret: Zeroizing<[u8; SECRET_BYTES]>,
}

/// Creates and parses refresh tokens.
pub(in crate::domain) struct RefreshKey(hmac::Key);

impl RefreshKey {
    pub(in crate::domain) fn new(secret: &[u8]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, secret))
    }

    /// The first token of a session.
    pub(in crate::domain) fn first(&self, session: SessionId, secret: [u8; SECRET_BYTES]) -> RefreshToken {
        RefreshToken { session, generation: 0, secret: secret.into() }
    }

    /// The token after `token`. Deterministic.
    pub(in crate::domain) fn successor(&self, token: &RefreshToken) -> RefreshToken {
        let generation = token.generation.saturating_add(1);
        let mut mac = hmac::Context::with_key(&self.0);
        for part in [b"successor".as_slice(), token.session.0.as_bytes(), &generation.to_be_bytes(), &*token.secret] {
            mac.update(part);
        }
        let mut secret = Zeroizing::new([0; SECRET_BYTES]);
        secret.copy_from_slice(mac.sign().as_ref());
        RefreshToken { session: token.session, generation, secret }
    }

    /// Parses a token. `None` unless it was created with this key.
    pub(in crate::domain) fn parse(&self, text: &str) -> Option<RefreshToken> {
        let encoded = text.strip_prefix(PREFIX)?;
        let mut bytes = Zeroizing::new([0; BYTES]);
        let length = URL_SAFE_NO_PAD.decode_slice(encoded, &mut *bytes).ok()?;
        if length != BYTES {
            return None;
        }
        let (body, tag) = bytes.split_at(BYTES - TAG_BYTES);
        verify_slices_are_equal(tag, &self.tag(body)).ok()?;
        let (session, rest) = body.split_at(16);
        let (generation, secret) = rest.split_at(4);
        Some(RefreshToken {
            session: SessionId(Uuid::from_slice(session).ok()?),
            generation: u32::from_be_bytes(generation.try_into().ok()?),
            secret: Zeroizing::new(secret.try_into().ok()?),
        })
    }

    /// The text form, which the client keeps.
    pub(in crate::domain) fn write(&self, token: &RefreshToken) -> String {
        let mut bytes = Zeroizing::new(Vec::with_capacity(BYTES));
        bytes.extend_from_slice(token.session.0.as_bytes());
        bytes.extend_from_slice(&token.generation.to_be_bytes());
        bytes.extend_from_slice(&*token.secret);
        let tag = self.tag(&bytes);
        bytes.extend_from_slice(&tag);
        // Not `encode_string`, which leaves a copy of the text on the stack.
        [PREFIX, &Zeroizing::new(URL_SAFE_NO_PAD.encode(&*bytes))].concat()
    }

    fn tag(&self, body: &[u8]) -> [u8; TAG_BYTES] {
        let mut mac = hmac::Context::with_key(&self.0);
        mac.update(b"tag");
        mac.update(body);
        mac.sign().as_ref()[..TAG_BYTES].try_into().expect("the tag of SHA-256 is longer")
    }
}

impl RefreshToken {
    /// The stored hash of the secret.
    pub(in crate::domain) fn secret_hash(&self) -> [u8; 32] {
        sha256(&*self.secret)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(key: &RefreshKey) -> RefreshToken {
        key.first(SessionId(Uuid::from_u128(7)), [5; SECRET_BYTES])
    }

    #[test]
    fn token_is_parsed_and_its_successor_is_deterministic() {
        let key = RefreshKey::new(b"key");
        let text = key.write(&token(&key));
        let parsed = key.parse(&text).unwrap();
        assert_eq!(
            (parsed.session, parsed.generation, parsed.secret_hash()),
            (token(&key).session, 0, token(&key).secret_hash())
        );
        let (one, other) = (key.successor(&parsed), key.successor(&token(&key)));
        assert_eq!(key.write(&one), key.write(&other));
        assert_eq!(one.generation, 1);
        assert_ne!(one.secret_hash(), parsed.secret_hash());
    }

    #[test]
    fn changed_or_foreign_token_is_refused() {
        let key = RefreshKey::new(b"key");
        let text = key.write(&token(&key));
        assert!(RefreshKey::new(b"other").parse(&text).is_none());
        for at in 0..text.len() {
            let mut changed = text.clone().into_bytes();
            changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
            assert!(key.parse(std::str::from_utf8(&changed).unwrap()).is_none(), "byte {at}");
        }
        for hostile in
            ["", "wwr_", &text[4..], &text[..text.len() - 1], &format!("{text}A"), &format!("{text}="), "wwr_é"]
        {
            assert!(key.parse(hostile).is_none(), "{hostile}");
        }
    }
}
