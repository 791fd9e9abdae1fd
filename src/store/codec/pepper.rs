//! The codec of the pepper keys that password hashes of this store need: their ids, and no key.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::{decode, encode, unknown::encode_over};
use crate::domain::PepperKeyId;

/// The newest version of the form that this program reads.
const VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
struct PepperKeysDocument {
    v: u32,
    keys: Vec<String>,
}

/// Decodes the document.
pub(in crate::store) fn read(bytes: &[u8]) -> Result<BTreeSet<PepperKeyId>, String> {
    let PepperKeysDocument { v: _, keys } = decode(bytes, VERSION)?;
    Ok(keys.iter().map(|id| PepperKeyId::parse(id)).collect::<Result<_, _>>()?)
}

/// Encodes the document that takes the place of `seen`. Members that are not known here stay.
pub(in crate::store) fn rewrite(seen: Option<&[u8]>, keys: &BTreeSet<PepperKeyId>) -> Result<Vec<u8>, String> {
    let document = PepperKeysDocument { v: VERSION, keys: keys.iter().map(ToString::to_string).collect() };
    seen.map_or_else(|| Ok(encode(&document)), |seen| encode_over(seen, &document))
}
