//! Look-alikes across scripts: a name has one script or a usual mixture, and is no twin of a name in another one.
//!
//! Scripts and look-alikes by UTS #39. Of two names that look alike in different scripts, the one of the script that comes
//! first in [`SCRIPTS`] is accepted, and the other refused. Does not compare names of one script: `variants.rs`.

use std::{collections::HashMap, sync::LazyLock};

use unicode_normalization::UnicodeNormalization;
use unicode_script::{Script, ScriptExtension, UnicodeScript};
use unicode_security::{
    GeneralSecurityProfile, RestrictionLevel, confusable_detection::skeleton, mixed_script::AugmentedScriptSet,
    restriction_level::RestrictionLevelDetection,
};

use super::{mapping, variants::EAST_ASIAN};
use crate::domain::violation::{Reason, Violation};

/// The scripts whose letters look like those of another, the most used first.
const SCRIPTS: [Script; 24] = [
    Script::Latin,
    Script::Cyrillic,
    Script::Greek,
    Script::Arabic,
    Script::Hebrew,
    Script::Armenian,
    Script::Georgian,
    Script::Devanagari,
    Script::Bengali,
    Script::Tamil,
    Script::Telugu,
    Script::Gujarati,
    Script::Kannada,
    Script::Malayalam,
    Script::Oriya,
    Script::Gurmukhi,
    Script::Sinhala,
    Script::Thai,
    Script::Myanmar,
    Script::Khmer,
    Script::Lao,
    Script::Ethiopic,
    Script::Tibetan,
    Script::Thaana,
];

/// Latin letters of few alphabets that look like letters of other scripts. A name with one of them comes after the names in
/// all scripts: the Latin U+014B does not make names with the Greek eta (U+03B7), a common letter, refused.
const RARE_LATIN: &str = "\u{14B}\u{24D}\u{25B}\u{292}";

/// Han and Kana characters that look like a zero, a hyphen or a vertical bar of ASCII where no other East Asian character is
/// beside them.
const LIKE_ASCII: &str = "\u{3007}\u{30FC}\u{4E00}\u{4E28}";

/// More of them, which look like ASCII only one by one: several are a name, such as two Katakana letters.
const LIKE_ASCII_ALONE: &str = "\u{30A8}\u{30C8}\u{30CB}\u{30CE}\u{30E1}\u{30ED}\u{4E01}\u{4E36}\u{4E3F}\u{4E42}\u{4E59}\u{4E85}\u{4E8C}\u{5341}\u{535C}\u{53E3}\u{5DE5}";

/// The scripts whose visarga looks like a colon.
const WITH_VISARGA: [Script; 11] = [
    Script::Devanagari,
    Script::Bengali,
    Script::Gurmukhi,
    Script::Gujarati,
    Script::Oriya,
    Script::Telugu,
    Script::Kannada,
    Script::Malayalam,
    Script::Sinhala,
    Script::Khmer,
    Script::Myanmar,
];

/// The Greek sigma (U+03C3), which UTS #39 counts as a look-alike of o. Readers tell them apart.
const DISTINCT: char = '\u{3C3}';

/// The characters of canonical names that look alike, by what they look like (their UTS #39 skeleton). Only where there are
/// several.
static CLASSES: LazyLock<HashMap<String, Vec<char>>> = LazyLock::new(|| {
    let mut classes: HashMap<String, Vec<char>> = HashMap::new();
    // Without the Han characters, except the few first ones that look like a sign, and without Hangul syllables.
    let chars = ('!'..='\u{33FF}')
        .chain('\u{4E00}'..='\u{4EFF}')
        .chain('\u{A640}'..='\u{ABFF}')
        .chain('\u{11300}'..='\u{113FF}');
    for c in chars {
        let text = c.to_string();
        if is_allowed(c) && text.nfd().eq([c]) && mapping::canonical(&text).as_ref() == Some(&text) {
            classes.entry(skeleton(&text).collect()).or_default().push(c);
        }
    }
    classes.retain(|_, class| class.len() > 1);
    classes
});

/// Builds [`CLASSES`].
pub(super) fn prepare() {
    LazyLock::force(&CLASSES);
}

/// Checks the scripts of a canonical name.
pub(super) fn check(name: &str) -> Result<(), Violation> {
    if name.is_ascii() {
        return Ok(());
    }
    // ASCII punctuation belongs to every script, so it is ignored.
    let letters: String = name.chars().filter(|c| !c.is_ascii() || c.is_ascii_alphanumeric()).collect();
    if letters.as_str().detect_restriction_level() > RestrictionLevel::HighlyRestrictive {
        return Err(Violation::new("username", Reason::MixedScripts, "mixes scripts that do not go together"));
    }
    check_twin(name)?;
    check_signs(name)?;
    check_east_asian_signs(name)
}

/// Refuses a name of which every letter looks like one of a script that comes earlier.
fn check_twin(name: &str) -> Result<(), Violation> {
    let has_latin = name.chars().any(|c| c.script() == Script::Latin);
    if has_latin && !name.contains(|c| RARE_LATIN.contains(c)) {
        return Ok(());
    }
    let looks_latin = || {
        Err(Violation::new("username", Reason::LooksLatin, "looks like Latin letters but is not; use Latin letters"))
    };
    if !has_latin && skeleton(name).all(|c| c.is_ascii()) {
        return looks_latin();
    }
    let own: AugmentedScriptSet = letters_of(name).collect::<String>().as_str().into();
    let is_earlier = |script: &Script| has_latin || !own.base.contains_script(*script);
    let earlier = SCRIPTS.into_iter().take_while(is_earlier);
    let mut scripts: Vec<Script> = earlier.filter(|script| !has_latin || *script != Script::Latin).collect();
    for c in letters_of(name) {
        keep_twins(c, &mut scripts);
    }
    match scripts.first() {
        None => Ok(()),
        Some(Script::Latin) => looks_latin(),
        Some(script) => {
            let what = format!("looks like a name in {} letters but is not", script.full_name());
            Err(Violation::new("username", Reason::LookAlike, what))
        }
    }
}

/// The letters and marks of a name, decomposed. Digits and signs of ASCII are of every script.
fn letters_of(name: &str) -> impl Iterator<Item = char> {
    name.nfd().filter(|c| !c.is_ascii() || c.is_ascii_alphabetic())
}

/// Keeps the scripts whose names have a character that looks like `c`, or several that do together.
fn keep_twins(c: char, scripts: &mut Vec<Script>) {
    if scripts.is_empty() {
        return;
    }
    let look: String = skeleton(&c.to_string()).collect();
    let class = class_of(&look);
    let parts: Vec<_> = look.chars().map(|part| (part, class_of(part.encode_utf8(&mut [0; 4])))).collect();
    let has_one = |c: char, class: &[char], script| is_in(c, script) || class.iter().any(|twin| is_in(*twin, script));
    scripts.retain(|script| {
        let has_all = || parts.iter().all(|(part, class)| is_allowed(*part) && has_one(*part, class, *script));
        c != DISTINCT && (has_one(c, class, *script) || has_all())
    });
}

fn is_allowed(c: char) -> bool {
    c.is_ascii_graphic() || !c.is_ascii() && c.identifier_allowed()
}

/// Whether names in `script` have the character `c`.
fn is_in(c: char, script: Script) -> bool {
    let scripts: ScriptExtension = c.into();
    !RARE_LATIN.contains(c) && (scripts.is_common() || scripts.is_inherited() || scripts.contains_script(script))
}

/// The characters that look like `look`, a skeleton.
fn class_of(look: &str) -> &'static [char] {
    CLASSES.get(look).map_or(&[], Vec::as_slice)
}

/// Refuses an ASCII sign that looks like a letter or mark of the name's script, such as `|` beside Arabic letters. Digits,
/// and the apostrophe of Hebrew, are needed.
fn check_signs(name: &str) -> Result<(), Violation> {
    for sign in name.chars().filter(|c| c.is_ascii_punctuation() && *c != '\'') {
        let is_letter =
            |twin: &char| !twin.is_ascii() && name.chars().any(|c| !c.is_ascii() && share_a_script(c, *twin));
        let look: String = skeleton(sign.encode_utf8(&mut [0; 4])).collect();
        let is_visarga = sign == ':' && name.chars().any(|c| WITH_VISARGA.contains(&c.script()));
        if is_visarga || class_of(&look).iter().any(is_letter) {
            let what = format!("has the sign U+{:04X}, which looks like a letter of its script", u32::from(sign));
            return Err(Violation::new("username", Reason::ForbiddenCharacter, what));
        }
    }
    Ok(())
}

/// Refuses Han and Kana characters that read as ASCII, because no other East Asian character is beside them: `jean\u{4E00}luc`.
fn check_east_asian_signs(name: &str) -> Result<(), Violation> {
    let is_east_asian = |c: char| EAST_ASIAN.contains(&c.script()) || LIKE_ASCII.contains(c);
    for run in name.split(|c| !is_east_asian(c)) {
        let mut rest = run.chars();
        let Some(first) = rest.next() else { continue };
        let is_alone = rest.next().is_none() && LIKE_ASCII_ALONE.contains(first);
        if is_alone || run.chars().all(|c| LIKE_ASCII.contains(c)) {
            let what = format!("has U+{:04X}, which looks like an ASCII character here", u32::from(first));
            return Err(Violation::new("username", Reason::ForbiddenCharacter, what));
        }
    }
    Ok(())
}

/// Whether names of one script may have both.
pub(super) fn share_a_script(one: char, other: char) -> bool {
    let (one, other): (AugmentedScriptSet, AugmentedScriptSet) = (one.into(), other.into());
    let mut both = one;
    both.intersect_with(other);
    !both.is_empty()
}
