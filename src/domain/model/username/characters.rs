//! The characters of a name: which are allowed, where marks may be, and digits of one system.
//!
//! Refuses what hides or imitates other characters by itself. Does not compare names.

use unicode_normalization::{
    UnicodeNormalization,
    char::{decompose_compatible, is_combining_mark},
};
use unicode_script::{Script, UnicodeScript};
use unicode_security::GeneralSecurityProfile;

use super::{look_alikes::share_a_script, syllables, variants::digit};
use crate::domain::violation::{Reason, Violation};

/// The maximum number of marks on one letter, decomposed. UTS #39 section 5.4 proposes four nonspacing ones; Burmese
/// syllables have five of both kinds.
const MARKS_MAX: usize = 5;

/// Refuses digits of several systems (UTS #39 section 5.3): `5\u{96B}` reads as 55 to some and as something else to others.
/// Before canonicalization, which makes all digits ASCII.
pub(super) fn check_digits(raw: &str) -> Result<(), Violation> {
    let mut system = None;
    for c in raw.chars() {
        let mut narrow = c;
        decompose_compatible(c, |part| narrow = part);
        let zero = if narrow.is_ascii_digit() { Some('0') } else { digit(c).map(|(_, zero)| zero) };
        if let Some(zero) = zero
            && *system.get_or_insert(zero) != zero
        {
            return Err(Violation::new("username", Reason::MixedScripts, "mixes digits of two scripts"));
        }
    }
    Ok(())
}

/// Checks the characters of a canonical name.
pub(super) fn check(name: &str) -> Result<(), Violation> {
    for c in name.chars() {
        // Identifier_Status=Allowed excludes controls, blanks, and invisible, unassigned and obsolete characters.
        let is_allowed = if c.is_ascii() { c.is_ascii_graphic() } else { c.identifier_allowed() };
        if !is_allowed {
            let what = format!("has the character U+{:04X}, which names must not have", u32::from(c));
            return Err(Violation::new("username", Reason::ForbiddenCharacter, what));
        }
    }
    check_marks(name)
}

/// A mark belongs to a letter, on which it is visible and not repeated (UTS #39 section 5.4).
fn check_marks(name: &str) -> Result<(), Violation> {
    if name.is_ascii() {
        return Ok(());
    }
    let refuse = |what: &str| Err(Violation::new("username", Reason::ForbiddenCharacter, what));
    let mut letter = None;
    let mut marks = Vec::new();
    for c in name.nfd() {
        if !is_combining_mark(c) {
            letter = Some(c).filter(|c| c.is_alphabetic());
            marks.clear();
            continue;
        }
        if !letter.is_some_and(|letter| share_a_script(letter, c)) {
            return refuse("has a combining mark that is not on a letter of its script");
        }
        if matches!(c, '\u{326}'..='\u{328}') && letter.is_some_and(|letter| letter.script() == Script::Cyrillic) {
            return refuse(
                "has a cedilla or an ogonek on a Cyrillic letter, like a descender; type the letter with a descender",
            );
        }
        if marks.contains(&c) || marks.len() == MARKS_MAX {
            return refuse("has too many combining marks on one letter, or one of them twice");
        }
        marks.push(c);
    }
    syllables::violation(name).map_or(Ok(()), refuse)
}
