//! Seals the document of the token keys, so that whoever reads the store makes no tokens: AES-256-GCM, with keys that only
//! the nodes have.
//!
//! The file may hold several keys: the first seals, all of them open, and a node seals anew at its start what another key
//! has sealed. So a key is replaced without a pause.

use std::fmt;

use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, Nonce, RandomizedNonceKey},
    digest::{SHA256, digest},
};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::record::{decode_base64, encode_base64};

const KEY_BYTES: usize = 32;

/// What a sealed document is for; it opens as nothing else.
const CONTEXT: &[u8] = b"watchword:keys";

/// Keys that seal and open; the first seals.
pub struct SealKeys(Vec<SealKey>);

struct SealKey {
    /// What sealed documents call it: says nothing about the key.
    id: String,
    key: RandomizedNonceKey,
}

/// A document that needs a key.
#[derive(Serialize, Deserialize)]
struct Sealed {
    v: u32,
    /// Which key opens it.
    seal_key: String,
    nonce: String,
    sealed: String,
}

/// What a document turned out to be.
pub(super) enum Opened {
    /// It was not sealed.
    Plain,
    /// Its content; `stale` when the first key should seal it anew.
    Unsealed { content: Zeroizing<Vec<u8>>, stale: bool },
}

// === impl SealKeys ===

impl SealKeys {
    /// Reads a file with a key in each line, 64 hexadecimal digits; blank lines and those that begin with `#` say nothing.
    ///
    /// # Errors
    /// Which line is no key.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut keys = Vec::new();
        for (number, line) in (1..).zip(text.lines()) {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let bytes = hex(line).ok_or_else(|| {
                format!(
                    "line {number}: expected {} hexadecimal digits; `openssl rand -hex {KEY_BYTES}` makes them",
                    2 * KEY_BYTES
                )
            })?;
            keys.push(SealKey::new(&bytes));
        }
        if keys.is_empty() { Err("holds no key".into()) } else { Ok(Self(keys)) }
    }

    /// Seals with the first key.
    pub(super) fn seal(&self, document: &[u8]) -> Vec<u8> {
        let SealKey { id, key } = &self.0[0];
        let mut bytes = document.to_vec();
        let nonce =
            key.seal_in_place_append_tag(Aad::from(CONTEXT), &mut bytes).expect("a short document can be sealed");
        let (nonce, sealed) = (encode_base64(nonce.as_ref()), encode_base64(&bytes));
        let document = Sealed { v: 1, seal_key: id.clone(), nonce, sealed };
        serde_json::to_vec(&document).expect("strings and numbers are always JSON")
    }
}

/// Looks into a document, with what keys there are.
///
/// # Errors
/// Which key is missing, or that the document was changed.
pub(super) fn open(keys: Option<&SealKeys>, document: &[u8]) -> Result<Opened, String> {
    let Ok(sealed) = serde_json::from_slice::<Sealed>(document) else { return Ok(Opened::Plain) };
    let keys = keys.map(|keys| keys.0.as_slice()).unwrap_or_default();
    let Some(at) = keys.iter().position(|key| key.id == sealed.seal_key) else {
        let held: Vec<_> = keys.iter().map(|key| key.id.as_str()).collect();
        let held = if held.is_empty() { "no key is given".into() } else { format!("given are {}", held.join(", ")) };
        return Err(format!("the keys of tokens are sealed with the key {}, and {held}", sealed.seal_key));
    };
    let changed = || "the sealed keys of tokens were changed by somebody without the key".to_owned();
    let mut content = decode_base64(&sealed.sealed)?;
    let nonce = decode_base64(&sealed.nonce)?;
    let nonce = Nonce::try_assume_unique_for_key(&nonce).map_err(|_| changed())?;
    let opened = keys[at].key.open_in_place(nonce, Aad::from(CONTEXT), &mut content).map_err(|_| changed())?;
    let length = opened.len();
    content.truncate(length);
    Ok(Opened::Unsealed { content, stale: at > 0 })
}

impl SealKey {
    fn new(bytes: &[u8; KEY_BYTES]) -> Self {
        let named = Zeroizing::new([b"watchword seal key".as_slice(), bytes].concat());
        let id = digest(&SHA256, &named).as_ref()[..8].iter().map(|byte| format!("{byte:02x}")).collect();
        let key = RandomizedNonceKey::new(&AES_256_GCM, bytes).expect("32 bytes are a key");
        Self { id, key }
    }
}

// Names the keys and shows none.
impl fmt::Debug for SealKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|key| &key.id)).finish()
    }
}

fn hex(text: &str) -> Option<Zeroizing<[u8; KEY_BYTES]>> {
    let mut bytes = Zeroizing::new([0; KEY_BYTES]);
    if text.len() != 2 * KEY_BYTES || !text.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    for (byte, digits) in bytes.iter_mut().zip(text.as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
    }
    Some(bytes)
}
