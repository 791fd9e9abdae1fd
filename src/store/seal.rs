//! Seals the document of the token keys, so that whoever reads the store makes no tokens: AES-256-GCM, with keys that only
//! the nodes have.
//!
//! There may be several ways to keep it, sealed with one key or another or `plain`: the first is how it is written, all of
//! them are how it is read, and a node writes it anew at its start when it finds one of the others. So nodes that share a
//! store go from one to the next without a pause, first all reading both, then writing the new one. Sealing hides the keys
//! and shows changes; an older document that was sealed once is still a good one.

use std::fmt;

use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, Nonce, RandomizedNonceKey},
    digest::{SHA256, digest},
};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::codec::{decode, decode_base64, encode_base64};

const KEY_BYTES: usize = 32;

/// The newest version of the sealed form that this program reads.
const VERSION: u32 = 1;

/// What a sealed document is for; it opens as nothing else.
const CONTEXT: &[u8] = b"watchword:keys";

/// Ways to keep the document; the first is how it is written.
pub struct Seal(Vec<Way>);

enum Way {
    Plain,
    Key(SealKey),
}

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

/// What was in a document.
pub(super) struct Opened {
    pub(super) content: Zeroizing<Vec<u8>>,
    /// It is kept in another way than the first.
    pub(super) is_stale: bool,
}

// === impl Seal ===

impl Seal {
    /// Plain, and nothing else.
    pub fn none() -> Self {
        Self(vec![Way::Plain])
    }

    /// Reads a file with a way in each line: a key of 64 hexadecimal digits, or `plain`. Blank lines and those that begin
    /// with `#` say nothing.
    ///
    /// # Errors
    /// Which line is neither.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut ways = Vec::new();
        for (number, line) in (1..).zip(text.lines()) {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let key = || hex(line).map(|bytes| Way::Key(SealKey::new(&bytes)));
            let way = if line == "plain" { Some(Way::Plain) } else { key() };
            ways.push(way.ok_or_else(|| {
                let digits = 2 * KEY_BYTES;
                format!(
                    "line {number}: expected {digits} hexadecimal digits (`openssl rand -hex {KEY_BYTES}`), or plain"
                )
            })?);
        }
        if ways.is_empty() { Err("holds no key".into()) } else { Ok(Self(ways)) }
    }

    /// How a document is kept, for people.
    pub(super) fn describe(document: &[u8]) -> String {
        match sealed(document) {
            Some(Ok(Sealed { seal_key, .. })) => format!("sealed with {seal_key}"),
            Some(Err(why)) => why,
            None => "plain, not sealed".into(),
        }
    }

    /// The document as it is written.
    pub(super) fn close(&self, content: &[u8]) -> Vec<u8> {
        let SealKey { id, key } = match &self.0[0] {
            Way::Plain => return content.to_vec(),
            Way::Key(key) => key,
        };
        let mut bytes = content.to_vec();
        let nonce =
            key.seal_in_place_append_tag(Aad::from(CONTEXT), &mut bytes).expect("a short document can be sealed");
        let (nonce, sealed) = (encode_base64(nonce.as_ref()), encode_base64(&bytes));
        let document = Sealed { v: VERSION, seal_key: id.clone(), nonce, sealed };
        serde_json::to_vec(&document).expect("strings and numbers are always JSON")
    }

    /// What is in a document.
    ///
    /// # Errors
    /// Which way is missing, or that the document was changed.
    pub(super) fn open(&self, document: &[u8]) -> Result<Opened, String> {
        let Some(sealed) = sealed(document) else {
            let at = self.0.iter().position(|way| matches!(way, Way::Plain));
            let at = at.ok_or("the keys of tokens are not sealed: a line `plain` behind the keys accepts that")?;
            return Ok(Opened { content: document.to_vec().into(), is_stale: at > 0 });
        };
        let Sealed { seal_key, nonce, sealed, .. } = sealed?;
        let keys = self.0.iter().enumerate().filter_map(|(at, way)| match way {
            Way::Plain => None,
            Way::Key(key) => Some((at, key)),
        });
        let (at, key) = keys.clone().find(|(_, key)| key.id == seal_key).ok_or_else(|| {
            let held: Vec<_> = keys.map(|(_, key)| key.id.as_str()).collect();
            let held =
                if held.is_empty() { "no key is given".into() } else { format!("given are {}", held.join(", ")) };
            format!("the keys of tokens are sealed with {seal_key}, and {held}")
        })?;
        let changed = || "the sealed keys of tokens were changed by somebody without the key".to_owned();
        let mut content = decode_base64(&sealed)?;
        let nonce = Nonce::try_assume_unique_for_key(&decode_base64(&nonce)?).map_err(|_| changed())?;
        let length = key.key.open_in_place(nonce, Aad::from(CONTEXT), &mut content).map_err(|_| changed())?.len();
        content.truncate(length);
        Ok(Opened { content, is_stale: at > 0 })
    }
}

/// A document that is sealed, if this one is, as far as this program can read it.
fn sealed(document: &[u8]) -> Option<Result<Sealed, String>> {
    #[derive(Deserialize)]
    struct Probe {
        seal_key: Option<serde::de::IgnoredAny>,
    }
    let is_sealed = serde_json::from_slice(document).is_ok_and(|Probe { seal_key }| seal_key.is_some());
    is_sealed.then(|| decode(document, VERSION))
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
impl fmt::Debug for Seal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = |way: &Way| match way {
            Way::Plain => "plain".to_owned(),
            Way::Key(key) => key.id.clone(),
        };
        f.debug_list().entries(self.0.iter().map(name)).finish()
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
