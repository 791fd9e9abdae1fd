//! Usernames: canonical, bounded, and no two that a reader takes for one.
//!
//! Store keys and rate-limit keys use only [`Username`], so that two spellings of a name never reach two accounts
//! (CVE-2025-6004, CVE-2025-24806). Based on RFC 8265 UsernameCaseMapped; scripts and look-alikes by UTS #39. A look-alike
//! either has the canonical form of the other name (`mapping.rs` and what it calls) or is refused (`characters.rs`,
//! `look_alikes.rs`): both are decided by the name alone, so that the store needs one key for a name. ASCII names that look
//! alike (`user1`, `userl`) stay distinct; `docs/reference/names-and-passwords.md` lists what else does. Does not know which
//! names exist.

mod characters;
mod han;
mod look_alikes;
mod mapping;
mod spellings;
mod syllables;
mod variants;

use std::fmt;

use unicode_normalization::UnicodeNormalization;

pub(in crate::domain) use self::mapping::folded;
use crate::domain::violation::{Reason, Violation};

/// The maximum length of a canonical username in code points: the longest e-mail address (RFC 5321 section 4.5.3.1.3, with
/// erratum 1690).
pub const USERNAME_CHARS_MAX: usize = 254;

/// The maximum length before canonicalization in code points: a letter has four at most (Greek with three marks).
const USERNAME_CHARS_BEFORE_MAX: usize = 4 * USERNAME_CHARS_MAX;

/// The maximum length before canonicalization in bytes. Bounds the work on hostile input: canonicalization can shorten a
/// name (combining marks), but no valid name by this much.
const USERNAME_BYTES_MAX: usize = 4_096;

/// A canonical username: width-mapped, lower case, NFC, 1 to 254 code points.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Username(String);

impl Username {
    /// Canonicalizes `raw`, or returns the violation.
    pub fn parse(raw: &str) -> Result<Self, Violation> {
        if raw.is_empty() {
            return Err(violation(Reason::Required, "is required"));
        }
        if raw.len() > USERNAME_BYTES_MAX || raw.chars().count() > USERNAME_CHARS_BEFORE_MAX {
            return Err(too_long());
        }
        // Counted before the mapping, which costs ten times as much.
        if raw.nfc().take(USERNAME_CHARS_MAX + 1).count() > USERNAME_CHARS_MAX {
            return Err(too_long());
        }
        characters::check_digits(raw)?;
        let name = mapping::canonical(raw)
            .ok_or_else(|| violation(Reason::Unstable, "has no stable canonical form; use another spelling"))?;
        if name.chars().count() > USERNAME_CHARS_MAX {
            return Err(too_long());
        }
        characters::check(&name)?;
        look_alikes::check(&name)?;
        Ok(Self(name))
    }

    /// Builds the tables of look-alikes, so that no call waits for them. Takes 3 ms in a release build, once in a process.
    pub(in crate::domain) fn prepare() {
        look_alikes::prepare();
    }

    /// The canonical text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

// Usernames are personal data: only an explicit `as_str` prints them.
impl fmt::Debug for Username {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Username")
    }
}

fn too_long() -> Violation {
    violation(Reason::TooLong, format!("has more than {USERNAME_CHARS_MAX} characters"))
}

fn violation(reason: Reason, description: impl Into<String>) -> Violation {
    Violation::new("username", reason, description)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn canon(raw: &str) -> Result<String, Reason> {
        Username::parse(raw).map(|name| name.0).map_err(|violation| violation.reason)
    }

    #[test]
    fn spellings_of_a_name_have_one_canonical_form() {
        for spelling in ["josé", "JOSÉ", "jose\u{301}", "JOSE\u{301}", "ｊｏｓé"] {
            assert_eq!(canon(spelling), Ok("josé".into()), "{spelling}");
        }
        assert_eq!(canon("Ada@Example.COM"), Ok("ada@example.com".into()));
    }

    #[test]
    fn real_names_are_accepted() {
        for name in [
            "soham",
            "user1",
            "o'brien",
            "ada+x@example.com",
            "日本",
            "さくら",
            "二ノ宮",
            "ニノ1",
            "一郎",
            "x一郎",
            "กิ้ง",
            "김철수",
            "мария",
            "ısparta",
            "!~",
        ] {
            assert!(canon(name).is_ok(), "{name}: {:?}", canon(name));
        }
    }

    #[test]
    fn deceptive_names_and_control_characters_are_refused() {
        for (name, reason) in [
            ("", Reason::Required),
            ("a b", Reason::ForbiddenCharacter),
            ("a\u{3000}b", Reason::ForbiddenCharacter),
            ("a\0b", Reason::ForbiddenCharacter),
            ("a\u{1b}[31m", Reason::ForbiddenCharacter),
            ("a\u{200d}b", Reason::ForbiddenCharacter),
            ("a\u{202e}b", Reason::ForbiddenCharacter),
            ("a\u{378}", Reason::ForbiddenCharacter),
            ("аdmin", Reason::MixedScripts),
            ("сосо", Reason::LooksLatin),
            ("сосо@x", Reason::MixedScripts),
            ("\u{301}a", Reason::ForbiddenCharacter),
            ("5\u{96b}", Reason::MixedScripts),
            ("jean一luc", Reason::ForbiddenCharacter),
            ("jeanーluc", Reason::ForbiddenCharacter),
            ("a\u{4E28}x", Reason::ForbiddenCharacter),
            ("b\u{3007}bby", Reason::ForbiddenCharacter),
            ("rootノx", Reason::ForbiddenCharacter),
            ("x二y1", Reason::ForbiddenCharacter),
            ("一", Reason::ForbiddenCharacter),
            ("\u{E01}\u{E34}\u{E35}", Reason::ForbiddenCharacter),
            ("\u{E81}\u{EC8}\u{EC9}", Reason::ForbiddenCharacter),
            ("κάτια", Reason::LookAlike),
        ] {
            assert_eq!(canon(name), Err(reason), "{name:?}");
        }
        for long in ["a".repeat(255), "日".repeat(255), "a".repeat(5_000)] {
            assert_eq!(canon(&long), Err(Reason::TooLong));
        }
        assert!(canon(&"a".repeat(254)).is_ok() && canon(&"日".repeat(254)).is_ok());
    }

    /// A canonical form that changes when it is canonicalized again allows account takeover (T4 requires 100 000 strings).
    #[test]
    fn canonical_form_is_stable() {
        // A generator with a fixed seed, so that the strings are the same in every run.
        let mut state = 0x9E37_79B9_7F4A_7C15_u64;
        let mut next = |bound: u32| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            ((state >> 33) as u32) % bound
        };
        let mut accepted = 0;
        for _ in 0..100_000 {
            let length = 1 + next(6);
            let block =
                [0x20, 0xC0, 0x300, 0x370, 0x400, 0x5D0, 0x1E00, 0x3040, 0x4E00, 0xAC00, 0xFF00][next(11) as usize];
            let raw: String = (0..length).filter_map(|_| char::from_u32(block + next(0xE0))).collect();
            let Ok(once) = canon(&raw) else { continue };
            accepted += 1;
            assert_eq!(canon(&once), Ok(once.clone()), "{raw:?}");
        }
        assert!(accepted > 10_000, "only {accepted} names were accepted");
    }
}
