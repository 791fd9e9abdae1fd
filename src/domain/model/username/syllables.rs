//! The order of the marks on a letter in the Indic scripts, Thai, Lao, Khmer and Burmese, and letters that are typed in two
//! ways.
//!
//! Renderers draw the marks of these scripts at fixed places, so their order does not show. The canonical form has one order,
//! and one spelling where several look alike. What has no right spelling is refused. Sources: The Unicode Standard, chapters 12
//! and 16, and UTN #11 (Burmese). Does not know other scripts.

use std::mem;

use unicode_normalization::char::is_combining_mark;
use zeroize::Zeroizing;

use super::spellings::replacement;

const KHMER_COENG: char = '\u{17D2}';
const BURMESE_STACKER: char = '\u{1039}';
const BURMESE_ASAT: char = '\u{103A}';

/// The maximum number of subscript letters under one Khmer or Burmese letter. Words have three at most.
const SUBSCRIPTS_MAX: usize = 4;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Family {
    Indic,
    Thai,
    Khmer,
    Burmese,
}

/// The place of a mark among the marks of a letter, in the order in which the canonical form has them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    Nukta,
    /// A subscript letter: Khmer coeng or Burmese stacker, with the letter.
    Subscript,
    /// The Khmer subscript ro, which is drawn at the left of the others.
    SubscriptRo,
    /// The Burmese asat on the letter.
    Asat,
    /// A medial letter of Burmese or Lao, or a Khmer sign that changes the series.
    Medial,
    VowelLeft,
    VowelAbove,
    VowelBelow,
    Vowel,
    /// The virama after a vowel sign (Malayalam), and the Burmese asat on a vowel sign.
    Virama,
    /// A tone mark of Thai or Lao.
    Tone,
    Bindu,
    DotBelow,
    Visarga,
    Other,
}

/// Puts the marks of every letter into one order, and replaces spellings that look like another one.
pub(super) fn fold(text: &mut Vec<char>) {
    if !text.iter().any(|c| family(*c).is_some()) {
        return;
    }
    let mut sorted = Zeroizing::new(Vec::with_capacity(text.len()));
    let mut at = 0;
    while at < text.len() {
        let end = syllable_end(text, at);
        push_sorted(&text[at..end], &mut sorted);
        at = end;
    }
    // A replacement has one character more than what it replaces at most.
    let mut folded = Zeroizing::new(Vec::with_capacity(2 * sorted.len()));
    let mut rest = sorted.as_slice();
    while let [first, after @ ..] = rest {
        if let Some((length, replacement)) = replacement(rest) {
            folded.extend_from_slice(replacement);
            rest = &rest[length..];
        } else {
            folded.push(*first);
            rest = after;
        }
    }
    mem::swap(text, &mut folded);
}

/// What is wrong with the marks of a canonical name, which the user has to type in another way.
pub(super) fn violation(name: &str) -> Option<&'static str> {
    let chars: Vec<char> = name.chars().collect();
    let mut at = 0;
    while at < chars.len() {
        let end = syllable_end(&chars, at);
        if let Some(family) = family(chars[at])
            && !is_kinzi(&chars[at..])
            && let Some(what) = violation_of(&chars[at..end], family)
        {
            return Some(what);
        }
        at = end;
    }
    None
}

fn violation_of(syllable: &[char], family: Family) -> Option<&'static str> {
    let [letter, marks @ ..] = syllable else { return None };
    let places = parts(marks, family);
    let count = |is: fn(Place) -> bool| places.iter().filter(|(place, ..)| is(*place)).count();
    let vowels =
        count(|place| matches!(place, Place::VowelLeft | Place::VowelAbove | Place::VowelBelow | Place::Vowel));
    let bindus = count(|place| place == Place::Bindu);
    let viramas = count(|place| place == Place::Virama);
    let subscripts = count(|place| matches!(place, Place::Subscript | Place::SubscriptRo));
    let has_two = [Place::VowelLeft, Place::VowelAbove, Place::VowelBelow, Place::Vowel]
        .into_iter()
        .any(|one| places.iter().filter(|(place, ..)| *place == one).count() > 1);
    let is_one_vowel = family != Family::Burmese;
    if vowels > 0 && is_vowel_letter(*letter) {
        return Some("has a vowel sign on a vowel letter; type the vowel letter of that sound");
    }
    if has_two || is_one_vowel && vowels > 1 {
        return Some("has two vowel signs on one letter; type the one sign of that sound");
    }
    if is_one_vowel && bindus > 1 {
        return Some("has two nasal signs on one letter; type one of them");
    }
    if count(|place| place == Place::Tone) > 1 {
        return Some("has two tone marks on one letter; type one of them");
    }
    let has_visarga = count(|place| place == Place::Visarga) > 0;
    if family == Family::Indic && viramas > 0 && (bindus > 0 || has_visarga || vowels > 0 && !is_malayalam_u(marks)) {
        return Some("has a virama and another sign on one letter; type one of them");
    }
    let is_stacker = |c: &char| matches!(*c, KHMER_COENG | BURMESE_STACKER);
    if places.iter().any(|(place, _, mark, _)| *place == Place::Other && is_stacker(mark)) {
        return Some("has a sign that joins letters without a letter after it; type the letter");
    }
    (subscripts > SUBSCRIPTS_MAX).then_some("has too many letters under one letter")
}

/// Malayalam words end with the vowel sign u and a virama.
fn is_malayalam_u(marks: &[char]) -> bool {
    matches!(marks, ['\u{D41}', '\u{D4D}'])
}

fn family(c: char) -> Option<Family> {
    match c {
        '\u{900}'..='\u{DFF}' => Some(Family::Indic),
        '\u{E00}'..='\u{EFF}' => Some(Family::Thai),
        '\u{1000}'..='\u{109F}' | '\u{A9E0}'..='\u{A9FF}' | '\u{AA60}'..='\u{AA7F}' => Some(Family::Burmese),
        '\u{1780}'..='\u{17FF}' => Some(Family::Khmer),
        _ => None,
    }
}

/// The end of the letter at `at` with its marks and subscript letters.
fn syllable_end(text: &[char], at: usize) -> usize {
    let family = family(text[at]);
    let mut end = at + 1;
    if family.is_none() {
        return end;
    }
    if is_kinzi(&text[at..]) {
        return at + 3;
    }
    while let [mark, rest @ ..] = &text[end..]
        && is_combining_mark(*mark)
    {
        end += if takes_letter(*mark, rest) { 2 } else { 1 };
    }
    end
}

/// The kinzi: a nga (in Mon also ra) with asat and stacker is drawn above the next letter.
fn is_kinzi(rest: &[char]) -> bool {
    matches!(rest, ['\u{1004}' | '\u{101B}' | '\u{105A}', BURMESE_ASAT, BURMESE_STACKER, after @ ..]
        if takes_letter(BURMESE_STACKER, after))
}

/// Whether `mark` makes the next letter a subscript.
fn takes_letter(mark: char, rest: &[char]) -> bool {
    matches!(mark, KHMER_COENG | BURMESE_STACKER)
        && rest.first().is_some_and(|letter| family(mark) == family(*letter) && !is_combining_mark(*letter))
}

/// A mark with its place, the order among the marks of this place, and the letter that it takes.
type Part = (Place, u32, char, Option<char>);

fn push_sorted(syllable: &[char], sorted: &mut Vec<char>) {
    let [letter, marks @ ..] = syllable else { return };
    sorted.push(*letter);
    match family(*letter) {
        Some(family) if marks.len() > 1 && *marks != [BURMESE_ASAT, BURMESE_STACKER] => {
            let mut parts = parts(marks, family);
            parts.sort_unstable_by_key(|(place, order, ..)| (*place, *order));
            for (place, order, mark, subscript) in &mut parts {
                sorted.push(*mark);
                sorted.extend(subscript.take());
                (*place, *order, *mark) = (Place::Other, 0, ' ');
            }
        }
        Some(_) | None => sorted.extend_from_slice(marks),
    }
}

fn parts(marks: &[char], family: Family) -> Vec<Part> {
    let is_medial = |c: &char| matches!(*c, '\u{103B}'..='\u{103E}');
    // The asat is on the vowel sign aa, as in kyaw, except in contracted words that have a medial and no left vowel.
    let is_asat_on_vowel = marks.iter().any(|c| matches!(*c, '\u{102B}' | '\u{102C}'))
        && (marks.contains(&'\u{1031}') || !marks.iter().any(is_medial));
    let mut parts = Vec::with_capacity(marks.len());
    let mut rest = marks;
    while let [mark, after @ ..] = rest {
        let at = u32::try_from(parts.len()).unwrap_or(u32::MAX);
        if takes_letter(*mark, after) {
            let is_ro = *mark == KHMER_COENG && after[0] == '\u{179A}';
            parts.push((if is_ro { Place::SubscriptRo } else { Place::Subscript }, at, *mark, Some(after[0])));
            rest = &after[1..];
        } else {
            let place = match family {
                Family::Indic => indic_place(*mark),
                Family::Thai => thai_place(*mark),
                Family::Khmer => khmer_place(*mark),
                Family::Burmese if *mark == BURMESE_ASAT && is_asat_on_vowel => Place::Virama,
                Family::Burmese => burmese_place(*mark),
            };
            parts.push((place, u32::from(*mark), *mark, None));
            rest = after;
        }
    }
    parts
}

/// The Indic blocks have the same signs at the same offsets, except Sinhala.
fn indic_place(c: char) -> Place {
    // Left halves of vowel signs that have two: first, as in their decomposition.
    if matches!(
        c,
        '\u{9C7}' | '\u{B47}' | '\u{BC6}' | '\u{BC7}' | '\u{C46}' | '\u{CC6}' | '\u{D46}' | '\u{D47}' | '\u{DD9}'
    ) {
        return Place::VowelLeft;
    }
    match (c, u32::from(c) % 0x80) {
        ('\u{D80}'..='\u{DFF}', 0x4A) => Place::Virama,
        ('\u{D80}'..='\u{DFF}', 0x4F..=0x5F | 0x72 | 0x73) => Place::Vowel,
        ('\u{A70}' | '\u{A71}', _) | (_, 0x00..=0x02) => Place::Bindu,
        (_, 0x03) => Place::Visarga,
        (_, 0x3C) => Place::Nukta,
        (_, 0x4D) => Place::Virama,
        (_, 0x3A | 0x3B | 0x3E..=0x4C | 0x4E | 0x4F | 0x55..=0x57 | 0x62 | 0x63) => Place::Vowel,
        _ => Place::Other,
    }
}

/// Thai, and Lao at 0x80 above.
fn thai_place(c: char) -> Place {
    match (c, u32::from(c) % 0x80) {
        ('\u{EBC}', _) => Place::Medial,
        (_, 0x31 | 0x34..=0x39 | 0x47 | 0x4D) | ('\u{EBA}' | '\u{EBB}', _) => Place::Vowel,
        (_, 0x48..=0x4B) => Place::Tone,
        _ => Place::Other,
    }
}

fn khmer_place(c: char) -> Place {
    match c {
        '\u{17C9}' | '\u{17CA}' => Place::Medial,
        '\u{17B6}'..='\u{17C5}' => Place::Vowel,
        '\u{17C6}' => Place::Bindu,
        '\u{17C7}' | '\u{17C8}' => Place::Visarga,
        _ => Place::Other,
    }
}

fn burmese_place(c: char) -> Place {
    match c {
        BURMESE_ASAT => Place::Asat,
        '\u{103B}'..='\u{103E}' | '\u{105E}'..='\u{1060}' | '\u{1082}' => Place::Medial,
        '\u{1031}' | '\u{1084}' => Place::VowelLeft,
        '\u{102D}' | '\u{102E}' | '\u{1032}'..='\u{1035}' | '\u{1071}'..='\u{1074}' | '\u{1085}' | '\u{1086}' => {
            Place::VowelAbove
        }
        '\u{102F}' | '\u{1030}' | '\u{1058}' | '\u{1059}' => Place::VowelBelow,
        '\u{102B}' | '\u{102C}' | '\u{1062}' | '\u{1067}' | '\u{1068}' | '\u{1083}' => Place::Vowel,
        '\u{1036}' => Place::Bindu,
        '\u{1037}' => Place::DotBelow,
        '\u{1038}' => Place::Visarga,
        _ => Place::Other,
    }
}

/// Whether `c` is a letter that is a vowel by itself, or a Gurmukhi letter that carries one.
fn is_vowel_letter(c: char) -> bool {
    match c {
        '\u{1023}'..='\u{1027}' | '\u{1029}' | '\u{102A}' | '\u{17A5}'..='\u{17B3}' | '\u{A72}' | '\u{A73}' => true,
        '\u{972}'..='\u{977}' | '\u{D85}'..='\u{D96}' => true,
        '\u{900}'..='\u{D7F}' => matches!(u32::from(c) % 0x80, 0x04..=0x14 | 0x60 | 0x61),
        _ => false,
    }
}
