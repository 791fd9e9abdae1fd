//! Variants of a character: code points that a reader takes for one character of the same script.
//!
//! The canonical form has one of them. Works on decomposed text (NFD), in which UTS #39 defines look-alikes. Where readers of
//! the script tell two look-alikes apart (Thai \u{e04} and \u{e14}), there is no variant, and the names stay distinct.

use unicode_normalization::char::canonical_combining_class;
use unicode_script::{Script, UnicodeScript};

use super::{han, syllables};

/// The scripts whose middle dot is U+30FB.
pub(super) const EAST_ASIAN: [Script; 5] =
    [Script::Han, Script::Hiragana, Script::Katakana, Script::Hangul, Script::Bopomofo];

/// The digit zero of each decimal system that names may have. The other nine follow it.
const ZEROS: [char; 11] = [
    '\u{660}', '\u{6F0}', '\u{966}', '\u{9E6}', '\u{AE6}', '\u{CE6}', '\u{E50}', '\u{ED0}', '\u{F20}', '\u{1040}',
    '\u{17E0}',
];

/// A variant and its canonical character.
const VARIANTS: [(char, char); 35] = [
    // Apostrophes: U+2019 is what phones type. The Hebrew geresh and gershayim are typed as apostrophe and quotation mark.
    ('\u{2019}', '\''),
    ('\u{2BC}', '\''),
    ('\u{2BB}', '\''),
    ('\u{5F3}', '\''),
    ('\u{5F4}', '"'),
    // Hyphens and middle dots.
    ('\u{2010}', '-'),
    ('\u{58A}', '-'),
    ('\u{30A0}', '='),
    ('\u{2027}', '\u{B7}'),
    // Latin letters of African alphabets that look like ASCII letters, and the two forms of schwa.
    ('\u{192}', 'f'),
    ('\u{269}', 'i'),
    ('\u{28B}', 'u'),
    ('\u{263}', 'y'),
    ('\u{1DD}', '\u{259}'),
    // Arabic letters that keyboards of Arabic, Persian, Urdu and Uyghur encode differently.
    ('\u{6A9}', '\u{643}'),
    ('\u{6AA}', '\u{643}'),
    ('\u{763}', '\u{6AD}'),
    ('\u{649}', '\u{64A}'),
    ('\u{6CC}', '\u{64A}'),
    ('\u{6C1}', '\u{647}'),
    ('\u{6BE}', '\u{647}'),
    ('\u{6D5}', '\u{647}'),
    ('\u{6C3}', '\u{629}'),
    // Arabic letters with the same dots on a base that looks alike within a word.
    ('\u{6A7}', '\u{641}'),
    ('\u{6A8}', '\u{6A4}'),
    // Cyrillic letters with a hook or tail, which looks like a descender.
    ('\u{4C4}', '\u{49B}'),
    ('\u{4C6}', '\u{52F}'),
    ('\u{513}', '\u{52F}'),
    ('\u{4C8}', '\u{4A3}'),
    ('\u{4CA}', '\u{4A3}'),
    ('\u{4FD}', '\u{4B3}'),
    // Obsolete or rare letters.
    ('\u{E03}', '\u{E02}'),
    ('\u{E45}', '\u{E32}'),
    ('\u{105A}', '\u{1004}'),
    ('\u{4BD}', '\u{435}'),
];

/// Letters whose dot is not drawn twice: U+0307 after them does not show.
const SOFT_DOTTED: &str = "ij\u{131}\u{268}\u{456}\u{458}";

/// Latin letters that are written with a breve; others are written with a caron, which looks like it.
const WITH_BREVE: &str = "agiou";

/// A Katakana letter and what looks like it: a Han character, or one of the Hiragana letters U+3078 and U+308A.
const KANA: [(char, char); 17] = [
    ('ニ', '二'),
    ('イ', '亻'),
    ('ハ', '八'),
    ('カ', '力'),
    ('ヒ', '匕'),
    ('ト', '卜'),
    ('ム', '厶'),
    ('ロ', '口'),
    ('タ', '夕'),
    ('エ', '工'),
    ('ヨ', '彐'),
    ('ネ', '礻'),
    ('メ', '乄'),
    ('ノ', '丿'),
    ('ヘ', 'へ'),
    ('リ', 'り'),
    ('ー', '一'),
];

/// Two characters that look like one, which is the canonical one: twice the vowel e of Thai and Lao, Cyrillic letters with a
/// cedilla for a descender.
const PAIRS: [([char; 2], char); 17] = [
    (['\u{E40}', '\u{E40}'], '\u{E41}'),
    (['\u{EC0}', '\u{EC0}'], '\u{EC1}'),
    (['\u{433}', '\u{327}'], '\u{4F7}'),
    (['\u{436}', '\u{327}'], '\u{497}'),
    (['\u{437}', '\u{327}'], '\u{499}'),
    (['\u{43A}', '\u{327}'], '\u{49B}'),
    (['\u{43B}', '\u{327}'], '\u{52F}'),
    (['\u{43C}', '\u{327}'], '\u{4CE}'),
    (['\u{43D}', '\u{327}'], '\u{4A3}'),
    (['\u{43F}', '\u{327}'], '\u{525}'),
    (['\u{441}', '\u{327}'], '\u{4AB}'),
    (['\u{442}', '\u{327}'], '\u{4AD}'),
    (['\u{445}', '\u{327}'], '\u{4B3}'),
    (['\u{447}', '\u{327}'], '\u{4B7}'),
    (['\u{448}', '\u{327}'], '\u{449}'),
    (['\u{4BB}', '\u{327}'], '\u{527}'),
    (['\u{435}', '\u{328}'], '\u{4BF}'),
];

/// Replaces every variant by its canonical character.
pub(super) fn fold(text: &mut Vec<char>) {
    text.iter_mut().for_each(|c| *c = canonical_char(*c));
    fold_kana(text);
    fold_marks(text);
    syllables::fold(text);
    fold_pairs(text);
}

fn canonical_char(c: char) -> char {
    if let Some((_, canonical)) = VARIANTS.iter().find(|(variant, _)| *variant == c) {
        return *canonical;
    }
    if let Some((value, _)) = digit(c) {
        return char::from_digit(value, 10).expect("a digit is below ten");
    }
    han::canonical(c)
}

/// The value of a decimal digit that is not of ASCII, and the zero of its system.
pub(super) fn digit(c: char) -> Option<(u32, char)> {
    let value = |zero: char| u32::from(c).checked_sub(u32::from(zero)).filter(|value| *value < 10);
    ZEROS.into_iter().find_map(|zero| value(zero).map(|value| (value, zero)))
}

/// Katakana and what looks like it take the script of the name: Katakana if it has another Katakana letter. The long vowel
/// sign stays in names with any kana. The middle dot is that of East Asia in its names.
fn fold_kana(text: &mut [char]) {
    // No East Asian letter is below the Hangul Jamo.
    if text.iter().all(|c| *c < '\u{1100}') {
        return;
    }
    let is_voiced = |at: usize| matches!(text.get(at + 1), Some('\u{3099}' | '\u{309A}'));
    // With a voicing mark only U+30D8 has a look-alike.
    let pair = |at: usize| KANA.into_iter().find(|(kana, other)| text[at] == *kana || text[at] == *other);
    let is_certain = |at: usize| pair(at).is_none_or(|(kana, _)| is_voiced(at) && kana != 'ヘ');
    let scripts: Vec<Script> = (0..text.len())
        .filter(|at| is_certain(*at))
        .map(|at| pair(at).map_or_else(|| text[at].script(), |_| Script::Katakana))
        .collect();
    let has = |script| scripts.contains(&script);
    let is_either_kana = |c: &char| matches!(*c, 'ヘ' | 'へ' | 'リ' | 'り');
    let (has_katakana, has_kana) =
        (has(Script::Katakana), has(Script::Katakana) || has(Script::Hiragana) || text.iter().any(is_either_kana));
    let is_east_asian = text.iter().any(|c| EAST_ASIAN.contains(&c.script()));
    let folded: Vec<char> = (0..text.len())
        .map(|at| match (pair(at), text[at]) {
            (Some((kana, _)), _) if has_katakana || is_certain(at) || kana == 'ー' && has_kana => kana,
            (Some((_, other)), _) => other,
            (None, '\u{B7}' | '\u{30FB}') if is_east_asian => '\u{30FB}',
            (None, '\u{30FB}') => '\u{B7}',
            (None, c) => c,
        })
        .collect();
    text.copy_from_slice(&folded);
}

/// Removes dots that do not show. Replaces breves and carons, commas and cedillas by the one that the letter is written with.
fn fold_marks(text: &mut Vec<char>) {
    let mut base = None;
    let mut has_mark_above = false;
    let mut at = 0;
    while at < text.len() {
        let c = text[at];
        let class = canonical_combining_class(c);
        if class == 0 {
            (base, has_mark_above) = (Some(at), false);
        } else if let Some(base) = base {
            let letter = text[base];
            // A dotless i with a mark is an i: its mark replaces the dot.
            if letter == '\u{131}' {
                text[base] = 'i';
            }
            if c == '\u{307}' && !has_mark_above && SOFT_DOTTED.contains(letter) {
                text.remove(at);
                continue;
            }
            text[at] = match c {
                '\u{306}' | '\u{30C}' if WITH_BREVE.contains(letter) => '\u{306}',
                '\u{306}' | '\u{30C}' if letter.script() == Script::Latin => '\u{30C}',
                // The comma below and the cedilla: Romanian is written with both.
                '\u{326}' | '\u{327}' if letter == 't' => '\u{326}',
                '\u{326}' => '\u{327}',
                // The Greek iota below looks like an ogonek.
                '\u{328}' if letter.script() == Script::Greek => '\u{345}',
                c => c,
            };
            has_mark_above |= class == 230;
        }
        at += 1;
    }
}

/// Replaces two characters that look like one of the same script by the one.
fn fold_pairs(text: &mut Vec<char>) {
    let mut at = 0;
    while at + 1 < text.len() {
        match one_for([text[at], text[at + 1]]) {
            Some(one) => {
                text[at] = one;
                // What was made may begin another pair.
                text.remove(at + 1);
            }
            None => at += 1,
        }
    }
}

fn one_for(pair: [char; 2]) -> Option<char> {
    PAIRS.into_iter().find(|(two, _)| *two == pair).map(|(_, one)| one)
}
