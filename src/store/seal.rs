//! The seal of the key ring: AES-256-GCM with keys that only the nodes have, so that a reader of the store cannot make
//! tokens.
//!
//! The settings name one or more ways to keep the key ring: sealed with one of the seal keys, or `plain`. A node writes it
//! in the first way, reads it in all of them, and writes it again at its start when it is kept in another way than the
//! first. So nodes that share a store change the way without downtime: first all of them read both, then they write the new
//! one. A seal hides the keys and detects changes. It does not detect an older document that was sealed once. Does not know
//! what is in the key ring.

use std::fmt;

use aws_lc_rs::aead::{AES_256_GCM, Aad, Nonce, RandomizedNonceKey};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::codec::{decode, decode_base64, encode, encode_base64};
use crate::common::{
    files::{KEY_BYTES, entries, key_from_hex},
    sha256::sha256,
};

/// The newest version of the sealed form that this program reads.
const VERSION: u32 = 1;

/// The associated data: a sealed document can be unsealed only as a key ring.
const CONTEXT: &[u8] = b"watchword:keys";

/// The ways to keep the key ring. It is written in the first one.
pub struct Seal(Vec<SealMethod>);

enum SealMethod {
    Plain,
    Key(SealKey),
}

struct SealKey {
    /// How sealed documents name the key. Derived from it, and does not reveal it.
    id: String,
    key: RandomizedNonceKey,
}

/// A key ring that is sealed.
#[derive(Serialize, Deserialize)]
struct SealedDocument {
    v: u32,
    /// The id of the seal key.
    seal_key: String,
    nonce: String,
    sealed: String,
}

/// The content of a document.
pub(super) struct Unsealed {
    pub(super) content: Zeroizing<Vec<u8>>,
    /// The document is kept in another way than the first.
    pub(super) is_stale: bool,
}

// === impl Seal ===

impl Seal {
    /// Plain alone.
    pub fn none() -> Self {
        Self(vec![SealMethod::Plain])
    }

    /// Parses a file with one way in each line: a key of 64 hexadecimal digits, or `plain`. Blank lines and lines that begin
    /// with `#` are skipped.
    ///
    /// # Errors
    /// The number of a line that is neither.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut methods = Vec::new();
        for (number, line) in entries(text) {
            let key = || key_from_hex(line).map(|bytes| SealMethod::Key(SealKey::new(&bytes)));
            let method = if line == "plain" { Some(SealMethod::Plain) } else { key() };
            methods.push(method.ok_or_else(|| {
                let digits = 2 * KEY_BYTES;
                format!(
                    "line {number}: expected {digits} hexadecimal digits (`openssl rand -hex {KEY_BYTES}`), or plain"
                )
            })?);
        }
        if methods.is_empty() { Err("holds no key".into()) } else { Ok(Self(methods)) }
    }

    /// How a document is kept, for an operator.
    pub(super) fn describe(document: &[u8]) -> String {
        match sealed(document) {
            Some(Ok(SealedDocument { seal_key, .. })) => format!("sealed with {seal_key}"),
            Some(Err(why)) => why,
            None => "plain, not sealed".into(),
        }
    }

    /// Makes the document of `content`.
    pub(super) fn seal(&self, content: &[u8]) -> Vec<u8> {
        let SealKey { id, key } = match &self.0[0] {
            SealMethod::Plain => return content.to_vec(),
            SealMethod::Key(key) => key,
        };
        let mut bytes = content.to_vec();
        let nonce =
            key.seal_in_place_append_tag(Aad::from(CONTEXT), &mut bytes).expect("a short document can be sealed");
        let (nonce, sealed) = (encode_base64(nonce.as_ref()), encode_base64(&bytes));
        let document = SealedDocument { v: VERSION, seal_key: id.clone(), nonce, sealed };
        encode(&document)
    }

    /// Reads the content of a document.
    ///
    /// # Errors
    /// Which way is missing from the settings, or that the document was changed.
    pub(super) fn unseal(&self, document: &[u8]) -> Result<Unsealed, String> {
        let Some(sealed) = sealed(document) else {
            let at = self.0.iter().position(|method| matches!(method, SealMethod::Plain));
            let at = at.ok_or("the keys of tokens are not sealed: a line `plain` after the keys accepts that")?;
            return Ok(Unsealed { content: document.to_vec().into(), is_stale: at > 0 });
        };
        let SealedDocument { v: _, seal_key, nonce, sealed } = sealed?;
        let keys = self.0.iter().enumerate().filter_map(|(at, method)| match method {
            SealMethod::Plain => None,
            SealMethod::Key(key) => Some((at, key)),
        });
        let (at, key) = keys.clone().find(|(_, key)| key.id == seal_key).ok_or_else(|| {
            let held: Vec<_> = keys.map(|(_, key)| key.id.as_str()).collect();
            let held =
                if held.is_empty() { "no key is given".into() } else { format!("given are {}", held.join(", ")) };
            format!("the keys of tokens are sealed with {seal_key}, and {held}")
        })?;
        let changed = || "the sealed keys of tokens were changed without the seal key".to_owned();
        let mut content = decode_base64(&sealed)?;
        let nonce = Nonce::try_assume_unique_for_key(&decode_base64(&nonce)?).map_err(|_| changed())?;
        let length = key.key.open_in_place(nonce, Aad::from(CONTEXT), &mut content).map_err(|_| changed())?.len();
        content.truncate(length);
        Ok(Unsealed { content, is_stale: at > 0 })
    }
}

/// The sealed form of a document; `None` when it is not sealed.
fn sealed(document: &[u8]) -> Option<Result<SealedDocument, String>> {
    #[derive(Deserialize)]
    struct SealKeyProbe {
        seal_key: Option<serde::de::IgnoredAny>,
    }
    let is_sealed = serde_json::from_slice(document).is_ok_and(|SealKeyProbe { seal_key }| seal_key.is_some());
    is_sealed.then(|| decode(document, VERSION))
}

impl SealKey {
    fn new(bytes: &[u8; KEY_BYTES]) -> Self {
        let named = Zeroizing::new([b"watchword seal key".as_slice(), bytes].concat());
        let id = sha256(&named)[..8].iter().map(|byte| format!("{byte:02x}")).collect();
        let key = RandomizedNonceKey::new(&AES_256_GCM, bytes).expect("32 bytes are a key");
        Self { id, key }
    }
}

// Shows the ids of keys, and no key.
impl fmt::Debug for Seal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = |method: &SealMethod| match method {
            SealMethod::Plain => "plain".to_owned(),
            SealMethod::Key(key) => key.id.clone(),
        };
        f.debug_list().entries(self.0.iter().map(name)).finish()
    }
}
