//! SHA-256 as an array.

use aws_lc_rs::digest::{Context, SHA256};

/// The digest of `bytes`.
pub(crate) fn sha256(bytes: &[u8]) -> [u8; 32] {
    sha256_of([bytes])
}

/// The digest of `parts`, one after the other. The caller separates parts of variable length.
pub(crate) fn sha256_of<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> [u8; 32] {
    let mut context = Context::new(&SHA256);
    parts.into_iter().for_each(|part| context.update(part));
    context.finish().as_ref().try_into().expect("SHA-256 has 32 bytes")
}
