//! Usernames: one canonical spelling per account, of bounded length, without control characters.

use unicode_normalization::UnicodeNormalization;

use super::texts;
use crate::domain::{USERNAME_CHARS_MAX, Username};

pub(super) fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = texts(&[
        "soham",
        "Ada+x@Example.COM",
        "JOSE\u{301}",
        "\u{ff4a}\u{ff4f}\u{ff53}é",
        "\u{65e5}\u{672c}",
        "\u{ae40}\u{cca0}\u{c218}",
        "\u{1100}\u{1161}\u{11a8}",
        "мария",
        "\u{430}dmin",
        "\u{391}\u{3a3}",
        "\u{130}stanbul",
        "\u{212b}\u{2126}",
        "a\u{315}\u{300}\u{5ae}\u{fb1d}",
        "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~",
        "a\u{200d}b\u{202e}c",
        "a b\0\u{1b}[31m",
        "o\u{2019}brien",
        "adm\u{130}n",
        "5\u{96b}",
        "\u{30ab}\u{30e1}\u{30e9}",
        "\u{39f}\u{394}\u{39f}\u{3a3}",
    ]);
    seeds.push("e\u{316}\u{301}".repeat(200).into_bytes());
    seeds.push("\u{3000}".repeat(255).into_bytes());
    seeds
}

pub(super) fn try_input(input: &[u8]) {
    let Ok(raw) = std::str::from_utf8(input) else { return };
    let Ok(name) = Username::parse(raw) else { return };
    let name = name.as_str();
    assert!((1..=USERNAME_CHARS_MAX).contains(&name.chars().count()), "length");
    assert!(!name.chars().any(|c| c.is_control() || c.is_whitespace()), "{name:?}");
    assert!(raw.len() <= 4_096, "a long text was accepted");

    let is_same_user = |spelling: &str| Username::parse(spelling).is_ok_and(|parsed| parsed.as_str() == name);
    assert!(is_same_user(name), "{name:?} is not canonical");
    assert!(is_same_user(&name.nfd().collect::<String>()), "{name:?} decomposed is another user");
    if name.is_ascii() {
        assert!(is_same_user(&name.to_ascii_uppercase()), "{name:?} in upper case is another user");
        let full_width: String = name.bytes().map(full_width).collect();
        assert!(is_same_user(&full_width), "{name:?} in full width is another user");
    }
}

/// The full-width form of printable ASCII.
fn full_width(byte: u8) -> char {
    char::from_u32(u32::from(byte) - 0x20 + 0xFF00).expect("no surrogates there")
}
