//! Refresh tokens: session, generation, key id, secret and tag.
//!
//! With the tag, a forged token is refused without reading a session. The next secret is derived from the current one
//! and a nonce that the session keeps, with a key that only the nodes have: the store keeps only a hash, and the same
//! successor can be returned again if a response was lost. The nonce is new at each refresh, so the key and a spent
//! token do not give the tokens that followed. Tokens of an old key stay valid until their session ends; what is
//! derived from them is of the key in use.
//!
//! With an exposed key an attacker can make a tag, so such a token proves nothing by itself: it is valid only if the
//! session has the hash of its secret, and otherwise says nothing about the session.

use std::time::SystemTime;

use aws_lc_rs::{constant_time::verify_slices_are_equal, hmac};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::{
    common::sha256::sha256,
    domain::model::{ORIGIN_HASH_BYTES, SessionId, StoredSecret},
};

/// The prefix of a token, by which secret scanners recognize it.
const PREFIX: &str = "wwr_";

const KEY_ID_BYTES: usize = 4;
const SECRET_BYTES: usize = 32;
const TAG_BYTES: usize = 16;
const BYTES: usize = 16 + 4 + KEY_ID_BYTES + SECRET_BYTES + TAG_BYTES;

/// Says which key made a token. Derived from the key, so it is stored nowhere.
type KeyId = [u8; KEY_ID_BYTES];

/// A refresh token that a node with this key ring has issued, unless its key is exposed.
#[derive(Clone)]
pub(in crate::domain) struct RefreshToken {
    pub(in crate::domain) session: SessionId,
    pub(in crate::domain) generation: u32,
    key_id: KeyId,
    /// Whether an attacker may have made the tag.
    pub(in crate::domain) is_exposed: bool,
    secret: Zeroizing<[u8; SECRET_BYTES]>,
}

/// Creates and parses refresh tokens.
pub(in crate::domain) struct RefreshKeys {
    secrets: Vec<StoredSecret>,
    /// In the same order.
    keys: Vec<RefreshKey>,
}

struct RefreshKey {
    id: KeyId,
    key: hmac::Key,
    is_exposed: bool,
}

impl RefreshKeys {
    pub(in crate::domain) fn new(secrets: &[StoredSecret]) -> Self {
        Self { secrets: secrets.to_vec(), keys: secrets.iter().map(RefreshKey::new).collect() }
    }

    /// The first token of a session.
    pub(in crate::domain) fn first(
        &self,
        session: SessionId,
        secret: [u8; SECRET_BYTES],
        now: SystemTime,
    ) -> RefreshToken {
        self.in_use(now).token(session, 0, secret.into())
    }

    /// The token after `token` with this nonce, if its secret has this hash. Deterministic.
    pub(in crate::domain) fn known_successor(
        &self,
        token: &RefreshToken,
        nonce: &[u8],
        hash: &[u8; 32],
    ) -> Option<RefreshToken> {
        self.keys.iter().map(|key| key.successor(token, nonce)).find(|next| next.secret_hash() == *hash)
    }

    /// The token after `token` with a new nonce, of the key in use.
    pub(in crate::domain) fn new_successor(&self, token: &RefreshToken, nonce: &[u8], now: SystemTime) -> RefreshToken {
        self.in_use(now).successor(token, nonce)
    }

    /// Parses a token. `None` unless it was created with one of these keys.
    pub(in crate::domain) fn parse(&self, text: &str) -> Option<RefreshToken> {
        let bytes = decoded(text)?;
        self.of_id(key_id(&bytes)).find_map(|key| key.parsed(&bytes))
    }

    /// Whether the text has the form of a token of a key that is not here.
    pub(in crate::domain) fn lacks_key_of(&self, text: &str) -> bool {
        decoded(text).is_some_and(|bytes| self.of_id(key_id(&bytes)).next().is_none())
    }

    /// The text form, which the client keeps.
    pub(in crate::domain) fn write(&self, token: &RefreshToken) -> String {
        let key = self.of_id(&token.key_id).next().expect("a token is made or parsed with a key of this ring");
        let mut bytes = Zeroizing::new(Vec::with_capacity(BYTES));
        bytes.extend_from_slice(token.session.0.as_bytes());
        bytes.extend_from_slice(&token.generation.to_be_bytes());
        bytes.extend_from_slice(&token.key_id);
        bytes.extend_from_slice(&*token.secret);
        let tag = key.tag(&bytes);
        bytes.extend_from_slice(&tag);
        // Not `encode_string`, which leaves a copy of the text on the stack.
        [PREFIX, &Zeroizing::new(URL_SAFE_NO_PAD.encode(&*bytes))].concat()
    }

    fn of_id(&self, id: &[u8]) -> impl Iterator<Item = &RefreshKey> {
        self.keys.iter().filter(move |key| key.id == id)
    }

    fn in_use(&self, now: SystemTime) -> &RefreshKey {
        let in_use = StoredSecret::in_use(&self.secrets, now).expect("each ring has a secret that is not exposed");
        let at = self.secrets.iter().position(|secret| secret == in_use).expect("it is one of them");
        &self.keys[at]
    }
}

impl RefreshKey {
    fn new(secret: &StoredSecret) -> Self {
        let key = secret.key();
        let id = hmac::sign(&key, b"key id").as_ref()[..KEY_ID_BYTES].try_into().expect("the tag of SHA-256 is longer");
        Self { id, key, is_exposed: secret.is_exposed }
    }

    fn token(&self, session: SessionId, generation: u32, secret: Zeroizing<[u8; SECRET_BYTES]>) -> RefreshToken {
        RefreshToken { session, generation, key_id: self.id, is_exposed: self.is_exposed, secret }
    }

    fn successor(&self, token: &RefreshToken, nonce: &[u8]) -> RefreshToken {
        let generation = token.generation.saturating_add(1);
        let mut mac = hmac::Context::with_key(&self.key);
        let (session, generation_bytes) = (token.session.0.as_bytes(), generation.to_be_bytes());
        for part in [b"successor".as_slice(), session, &generation_bytes, &*token.secret, nonce] {
            mac.update(part);
        }
        let mut secret = Zeroizing::new([0; SECRET_BYTES]);
        secret.copy_from_slice(mac.sign().as_ref());
        self.token(token.session, generation, secret)
    }

    fn parsed(&self, bytes: &[u8; BYTES]) -> Option<RefreshToken> {
        let (body, tag) = bytes.split_at(BYTES - TAG_BYTES);
        verify_slices_are_equal(tag, &self.tag(body)).ok()?;
        let (session, rest) = body.split_at(16);
        let (generation, rest) = rest.split_at(4);
        let (_, secret) = rest.split_at(KEY_ID_BYTES);
        let session = SessionId(Uuid::from_slice(session).ok()?);
        let generation = u32::from_be_bytes(generation.try_into().ok()?);
        Some(self.token(session, generation, Zeroizing::new(secret.try_into().ok()?)))
    }

    fn tag(&self, body: &[u8]) -> [u8; TAG_BYTES] {
        let mut mac = hmac::Context::with_key(&self.key);
        mac.update(b"tag");
        mac.update(body);
        mac.sign().as_ref()[..TAG_BYTES].try_into().expect("the tag of SHA-256 is longer")
    }
}

/// The bytes of a text that has the form of a token.
fn decoded(text: &str) -> Option<Zeroizing<[u8; BYTES]>> {
    let encoded = text.strip_prefix(PREFIX)?;
    let mut bytes = Zeroizing::new([0; BYTES]);
    let length = URL_SAFE_NO_PAD.decode_slice(encoded, &mut *bytes).ok()?;
    (length == BYTES).then_some(bytes)
}

fn key_id(bytes: &[u8; BYTES]) -> &[u8] {
    &bytes[20..20 + KEY_ID_BYTES]
}

impl RefreshToken {
    /// The stored hash of the secret.
    pub(in crate::domain) fn secret_hash(&self) -> [u8; 32] {
        sha256(&*self.secret)
    }

    /// A hash of `parts` that only a holder of this token can compute, for one purpose.
    pub(in crate::domain) fn keyed_hash(&self, purpose: &str, parts: &[&[u8]]) -> [u8; ORIGIN_HASH_BYTES] {
        let mut mac = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, &*self.secret));
        for part in [purpose.as_bytes()].iter().chain(parts) {
            // With its length, so that no two lists of parts are the same bytes.
            mac.update(&(part.len() as u64).to_be_bytes());
            mac.update(part);
        }
        mac.sign().as_ref()[..ORIGIN_HASH_BYTES].try_into().expect("a hash of SHA-256 is longer")
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const NOW: SystemTime = SystemTime::UNIX_EPOCH;

    fn secret(byte: u8) -> StoredSecret {
        StoredSecret { secret: [byte; 32].into(), create_time: NOW, use_time: NOW, is_exposed: false }
    }

    fn keys(bytes: &[u8]) -> RefreshKeys {
        RefreshKeys::new(&bytes.iter().copied().map(secret).collect::<Vec<_>>())
    }

    fn token(keys: &RefreshKeys) -> RefreshToken {
        keys.first(SessionId(Uuid::from_u128(7)), [5; SECRET_BYTES], NOW)
    }

    fn next(keys: &RefreshKeys, token: &RefreshToken) -> RefreshToken {
        keys.new_successor(token, &[3; 16], NOW)
    }

    #[test]
    fn token_is_parsed_and_its_successor_is_deterministic() {
        let key = keys(&[1]);
        let text = key.write(&token(&key));
        let parsed = key.parse(&text).unwrap();
        assert_eq!(
            (parsed.session, parsed.generation, parsed.secret_hash()),
            (token(&key).session, 0, token(&key).secret_hash())
        );
        let (one, other) = (next(&key, &parsed), next(&key, &token(&key)));
        assert_eq!(key.write(&one), key.write(&other));
        assert_eq!(one.generation, 1);
        assert_ne!(one.secret_hash(), parsed.secret_hash());
    }

    #[test]
    fn changed_or_foreign_token_is_refused() {
        let key = keys(&[1]);
        let text = key.write(&token(&key));
        assert!(keys(&[2]).parse(&text).is_none() && keys(&[2]).lacks_key_of(&text) && !key.lacks_key_of(&text));
        for at in 0..text.len() {
            let mut changed = text.clone().into_bytes();
            changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
            assert!(key.parse(std::str::from_utf8(&changed).unwrap()).is_none(), "byte {at}");
        }
        for hostile in
            ["", "wwr_", &text[4..], &text[..text.len() - 1], &format!("{text}A"), &format!("{text}="), "wwr_é"]
        {
            assert!(key.parse(hostile).is_none() && !key.lacks_key_of(hostile), "{hostile}");
        }
    }

    #[test]
    fn old_key_is_read_and_what_follows_is_of_the_key_in_use() {
        let old = keys(&[1]);
        let (text, started) = (old.write(&token(&old)), next(&old, &token(&old)));
        let later = NOW + Duration::from_secs(60);
        for is_exposed in [false, true] {
            let old_secret = StoredSecret { is_exposed, ..secret(1) };
            let both = RefreshKeys::new(&[old_secret, StoredSecret { use_time: later, ..secret(2) }]);
            let parsed = both.parse(&text).unwrap();
            assert_eq!(parsed.is_exposed, is_exposed);
            let successor = both.new_successor(&parsed, &[3; 16], later);
            assert_eq!(keys(&[2]).parse(&both.write(&successor)).unwrap().secret_hash(), successor.secret_hash());
            // An answer that was lost before the rotation is given again.
            let again = both.known_successor(&parsed, &[3; 16], &started.secret_hash()).unwrap();
            assert!(both.known_successor(&parsed, &[4; 16], &started.secret_hash()).is_none());
            assert_eq!(both.write(&again), old.write(&started));
        }
    }
}
