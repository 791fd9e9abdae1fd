//! Usernames: canonical, bounded, and without deceptive characters.
//!
//! Store keys and rate-limit keys use only this type, so that two spellings of a name never reach two accounts
//! (CVE-2025-6004, CVE-2025-24806). Based on RFC 8265 UsernameCaseMapped; scripts by UTS #39. ASCII names that look alike
//! (`user1`, `userl`) stay distinct.

use std::fmt;

use unicode_normalization::{UnicodeNormalization, char::decompose_compatible};
use unicode_script::{Script, UnicodeScript};
use unicode_security::{
    GeneralSecurityProfile, RestrictionLevel, confusable_detection::skeleton,
    restriction_level::RestrictionLevelDetection,
};

use crate::domain::violation::{Reason, Violation};

/// The maximum length of a canonical username in code points.
pub const USERNAME_CHARS_MAX: usize = 64;

/// The maximum length before canonicalization in bytes. Bounds the work on hostile input: canonicalization can shorten a
/// name (combining marks), but no valid name by this much.
const USERNAME_BYTES_MAX: usize = 1_024;

/// The maximum number of mapping rounds, after which a name is unstable. Real names need one.
const ROUNDS_MAX: usize = 4;

/// A canonical username: width-mapped, lower case, NFC, 1 to 64 code points.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Username(String);

impl Username {
    /// Canonicalizes `raw`, or returns the violation.
    pub fn parse(raw: &str) -> Result<Self, Violation> {
        let name = canonical(raw)?;
        check_characters(&name)?;
        check_scripts(&name)?;
        Ok(Self(name))
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

/// Maps `raw` until it no longer changes. With an unstable form, one user could have two accounts, or two users one.
fn canonical(raw: &str) -> Result<String, Violation> {
    if raw.is_empty() {
        return Err(violation(Reason::Required, "is required"));
    }
    if raw.len() > USERNAME_BYTES_MAX {
        return Err(too_long());
    }
    let mut name = raw.to_owned();
    for _ in 0..ROUNDS_MAX {
        let mapped = map_once(&name);
        if mapped == name {
            return if name.chars().count() > USERNAME_CHARS_MAX { Err(too_long()) } else { Ok(name) };
        }
        name = mapped;
    }
    Err(violation(Reason::Unstable, "has no stable canonical form; use another spelling"))
}

fn map_once(name: &str) -> String {
    let mut narrow = String::with_capacity(name.len());
    for c in name.chars() {
        // The blocks in which every compatibility mapping is a width mapping (RFC 8265 section 3.1 maps no others).
        if matches!(c, '\u{FF01}'..='\u{FFEE}' | '\u{3000}') {
            decompose_compatible(c, |part| narrow.push(part));
        } else {
            narrow.push(c);
        }
    }
    narrow.to_lowercase().nfc().collect()
}

fn check_characters(name: &str) -> Result<(), Violation> {
    for c in name.chars() {
        // Identifier_Status=Allowed excludes controls, blanks, and invisible, unassigned and obsolete characters.
        let is_allowed = if c.is_ascii() { c.is_ascii_graphic() } else { c.identifier_allowed() };
        if !is_allowed {
            let what = format!("has the character U+{:04X}, which names must not have", u32::from(c));
            return Err(violation(Reason::ForbiddenCharacter, what));
        }
    }
    Ok(())
}

fn check_scripts(name: &str) -> Result<(), Violation> {
    if name.is_ascii() {
        return Ok(());
    }
    // ASCII punctuation belongs to every script, so it is ignored.
    let letters: String = name.chars().filter(|c| !c.is_ascii() || c.is_ascii_alphanumeric()).collect();
    if letters.as_str().detect_restriction_level() > RestrictionLevel::HighlyRestrictive {
        return Err(violation(Reason::MixedScripts, "mixes scripts that do not go together"));
    }
    let has_latin = name.chars().any(|c| c.script() == Script::Latin);
    if !has_latin && skeleton(name).all(|c| c.is_ascii()) {
        return Err(violation(Reason::LooksLatin, "looks like Latin letters but is not; use Latin letters"));
    }
    Ok(())
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
        for name in
            ["soham", "user1", "o'brien", "ada+x@example.com", "日本", "さくら", "김철수", "мария", "ısparta", "!~"]
        {
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
        ] {
            assert_eq!(canon(name), Err(reason), "{name:?}");
        }
        assert_eq!(canon(&"a".repeat(65)), Err(Reason::TooLong));
        assert_eq!(canon(&"a".repeat(2_000)), Err(Reason::TooLong));
        assert!(canon(&"日".repeat(64)).is_ok());
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
