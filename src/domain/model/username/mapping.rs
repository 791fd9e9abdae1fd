//! The mapping of a text to its canonical form: width, lower case, variants, NFC.
//!
//! Guarantees that the form is stable: mapping it again changes nothing. With an unstable form, one user could have two
//! accounts, or two users one. Does not know which characters a name may have.

use unicode_normalization::{UnicodeNormalization, char::decompose_compatible};
use zeroize::Zeroizing;

use super::variants;

/// The maximum number of mapping rounds, after which a text is unstable. Real names need two at most: the second finds no
/// change.
const ROUNDS_MAX: usize = 4;

/// The canonical form, or `None` if it is not stable.
pub(super) fn canonical(raw: &str) -> Option<String> {
    let mut text = Zeroizing::new(raw.to_owned());
    for _ in 0..ROUNDS_MAX {
        let mapped = map_once(&text);
        if mapped == text {
            return Some(std::mem::take(&mut *text));
        }
        text = mapped;
    }
    None
}

/// A text, such as a password, in the form in which it is compared with names.
pub(in crate::domain) fn folded(text: &str) -> Zeroizing<String> {
    map_once(&map_once(text))
}

fn map_once(text: &str) -> Zeroizing<String> {
    if text.is_ascii() {
        return Zeroizing::new(text.to_ascii_lowercase());
    }
    let mut narrow = Zeroizing::new(String::with_capacity(text.len()));
    for c in text.chars() {
        match c {
            // The blocks in which every compatibility mapping is a width mapping (RFC 8265 section 3.1 maps no others).
            '\u{FF01}'..='\u{FFEE}' | '\u{3000}' => decompose_compatible(c, |part| narrow.push(part)),
            // Both have one upper case, and lower case then selects by the position.
            'σ' | 'ς' => narrow.push('Σ'),
            _ => narrow.push(c),
        }
    }
    let lower = Zeroizing::new(narrow.to_lowercase());
    let mut parts: Zeroizing<Vec<char>> = Zeroizing::new(lower.nfd().collect());
    variants::fold(&mut parts);
    Zeroizing::new(parts.iter().copied().nfc().collect())
}
