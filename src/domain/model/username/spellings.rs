//! Spellings of Indic, Khmer and Burmese letters that are drawn like another spelling, which is the canonical one.
//!
//! Works on the marks in the order of `syllables.rs`. Source: The Unicode Standard, chapters 12 and 16: vowel letters that must
//! not be typed with a sign. Does not know which letters a name may have.

/// What the beginning of `rest` looks like: the number of characters, and what they are replaced by.
pub(super) fn replacement(rest: &[char]) -> Option<(usize, &'static [char])> {
    if let [first, second, ..] = rest
        && let Some(one) = northern_vowel(*first, *second).or_else(|| southern_vowel(*first, *second))
    {
        return Some((2, one));
    }
    Some(match rest {
        // A Hindi spelling of ii that is drawn as the vowel letter.
        ['\u{930}', '\u{94D}', '\u{907}', ..] => (3, &['\u{908}']),
        // The candra and a dot look like the candrabindu (Marathi is written with both).
        ['\u{945}', '\u{901}' | '\u{902}', ..] => (2, &['\u{901}']),
        ['\u{949}', '\u{901}' | '\u{902}', ..] => (2, &['\u{93E}', '\u{901}']),
        ['\u{90D}', '\u{901}' | '\u{902}', ..] => (2, &['\u{90F}', '\u{901}']),
        ['\u{911}', '\u{901}' | '\u{902}', ..] => (2, &['\u{906}', '\u{901}']),
        ['\u{972}', '\u{901}' | '\u{902}', ..] => (2, &['\u{905}', '\u{901}']),
        ['\u{AC5}', '\u{A81}' | '\u{A82}', ..] => (2, &['\u{A81}']),
        ['\u{AC9}', '\u{A81}' | '\u{A82}', ..] => (2, &['\u{ABE}', '\u{A81}']),
        ['\u{A91}', '\u{A81}' | '\u{A82}', ..] => (2, &['\u{A86}', '\u{A81}']),
        // The Bengali ba with a nukta looks like ra.
        ['\u{9AC}', '\u{9BC}', ..] => (2, &['\u{9B0}']),
        // The Malayalam nta.
        ['\u{D7B}', '\u{D4D}', '\u{D31}', ..] => (3, &['\u{D28}', '\u{D4D}', '\u{D31}']),
        ['\u{D7B}', '\u{D31}', ..] => (2, &['\u{D28}', '\u{D4D}', '\u{D31}']),
        // The Khmer subscript da is drawn as the subscript ta.
        ['\u{17D2}', '\u{178A}', ..] => (2, &['\u{17D2}', '\u{178F}']),
        ['\u{17C1}', '\u{17B6}', ..] | ['\u{17B6}', '\u{17C1}', ..] => (2, &['\u{17C4}']),
        ['\u{17C1}', '\u{17B8}', ..] | ['\u{17B8}', '\u{17C1}', ..] => (2, &['\u{17BE}']),
        ['\u{17B7}', '\u{17C6}', ..] => (2, &['\u{17B9}']),
        // Burmese letters that look like another one with a medial or vowel signs.
        ['\u{1005}', '\u{103B}', ..] => (2, &['\u{1008}']),
        ['\u{101E}', '\u{103C}', '\u{1031}', '\u{102C}', '\u{103A}', ..] => (5, &['\u{102A}']),
        ['\u{1029}', '\u{1031}', '\u{102C}', '\u{103A}', ..] => (4, &['\u{102A}']),
        ['\u{101E}', '\u{103C}', ..] => (2, &['\u{1029}']),
        // The vowel letter u takes no marks that a consonant takes, and nya has one of them.
        ['\u{1025}', next, ..] if is_after_nya(*next) => (1, &['\u{1009}']),
        ['\u{1009}', next, ..] if is_after_nya(*next) => return None,
        ['\u{1009}', ..] => (1, &['\u{1025}']),
        _ => return None,
    })
}

fn is_after_nya(c: char) -> bool {
    matches!(c, '\u{102B}'..='\u{102D}' | '\u{102F}'..='\u{1032}' | '\u{1039}'..='\u{103E}')
}

/// The vowel letter or sign of northern India that two characters look like.
fn northern_vowel(first: char, second: char) -> Option<&'static [char]> {
    Some(match (first, second) {
        // Devanagari.
        ('\u{905}', '\u{946}') => &['\u{904}'],
        ('\u{905}', '\u{93E}') => &['\u{906}'],
        ('\u{909}', '\u{941}') => &['\u{90A}'],
        ('\u{90F}', '\u{945}') => &['\u{90D}'],
        ('\u{90F}', '\u{946}') => &['\u{90E}'],
        ('\u{90F}', '\u{947}') => &['\u{910}'],
        ('\u{905}', '\u{949}') | ('\u{906}', '\u{945}') => &['\u{911}'],
        ('\u{905}', '\u{94A}') | ('\u{906}', '\u{946}') => &['\u{912}'],
        ('\u{905}', '\u{94B}') | ('\u{906}', '\u{947}') => &['\u{913}'],
        ('\u{905}', '\u{94C}') | ('\u{906}', '\u{948}') => &['\u{914}'],
        ('\u{905}', '\u{945}') => &['\u{972}'],
        ('\u{905}', '\u{93A}') => &['\u{973}'],
        ('\u{905}', '\u{93B}') | ('\u{906}', '\u{93A}') => &['\u{974}'],
        ('\u{905}', '\u{94F}') => &['\u{975}'],
        ('\u{905}', '\u{956}') => &['\u{976}'],
        ('\u{905}', '\u{957}') => &['\u{977}'],
        ('\u{93E}', '\u{945}') => &['\u{949}'],
        ('\u{93E}', '\u{946}') => &['\u{94A}'],
        ('\u{93E}', '\u{947}') => &['\u{94B}'],
        ('\u{93E}', '\u{948}') => &['\u{94C}'],
        // Bengali.
        ('\u{985}', '\u{9BE}') => &['\u{986}'],
        ('\u{98B}', '\u{9C3}') => &['\u{9E0}'],
        ('\u{98C}', '\u{9E2}') => &['\u{9E1}'],
        // Gurmukhi.
        ('\u{A05}', '\u{A3E}') => &['\u{A06}'],
        ('\u{A72}', '\u{A3F}') => &['\u{A07}'],
        ('\u{A72}', '\u{A40}') => &['\u{A08}'],
        ('\u{A73}', '\u{A41}') => &['\u{A09}'],
        ('\u{A73}', '\u{A42}') => &['\u{A0A}'],
        ('\u{A72}', '\u{A47}') => &['\u{A0F}'],
        ('\u{A05}', '\u{A48}') => &['\u{A10}'],
        ('\u{A73}', '\u{A4B}') => &['\u{A13}'],
        ('\u{A05}', '\u{A4C}') => &['\u{A14}'],
        // Gujarati.
        ('\u{A85}', '\u{ABE}') => &['\u{A86}'],
        ('\u{A85}', '\u{AC5}') => &['\u{A8D}'],
        ('\u{A85}', '\u{AC7}') => &['\u{A8F}'],
        ('\u{A85}', '\u{AC8}') => &['\u{A90}'],
        ('\u{A85}', '\u{AC9}') | ('\u{A86}', '\u{AC5}') => &['\u{A91}'],
        ('\u{A85}', '\u{ACB}') | ('\u{A86}', '\u{AC7}') => &['\u{A93}'],
        ('\u{A85}', '\u{ACC}') | ('\u{A86}', '\u{AC8}') => &['\u{A94}'],
        ('\u{ABE}', '\u{AC5}') => &['\u{AC9}'],
        ('\u{ABE}', '\u{AC7}') => &['\u{ACB}'],
        ('\u{ABE}', '\u{AC8}') => &['\u{ACC}'],
        // Oriya.
        ('\u{B05}', '\u{B3E}') => &['\u{B06}'],
        ('\u{B0F}', '\u{B57}') => &['\u{B10}'],
        ('\u{B13}', '\u{B57}') => &['\u{B14}'],
        _ => return None,
    })
}

/// The vowel letter or sign of southern India and Sri Lanka that two characters look like.
fn southern_vowel(first: char, second: char) -> Option<&'static [char]> {
    Some(match (first, second) {
        // Telugu.
        ('\u{C12}', '\u{C55}') => &['\u{C13}'],
        ('\u{C12}', '\u{C4C}') => &['\u{C14}'],
        ('\u{C3F}', '\u{C55}') => &['\u{C40}'],
        ('\u{C46}', '\u{C55}') => &['\u{C47}'],
        ('\u{C4A}', '\u{C55}') => &['\u{C4B}'],
        // Kannada.
        ('\u{C89}', '\u{CBE}') => &['\u{C8A}'],
        ('\u{C92}', '\u{CCC}') => &['\u{C94}'],
        ('\u{C8B}', '\u{CBE}') => &['\u{CE0}'],
        // Malayalam.
        ('\u{D07}', '\u{D57}') => &['\u{D08}'],
        ('\u{D09}', '\u{D57}') => &['\u{D0A}'],
        ('\u{D12}', '\u{D3E}') => &['\u{D13}'],
        ('\u{D12}', '\u{D57}') => &['\u{D14}'],
        // Sinhala.
        ('\u{D85}', '\u{DCF}') => &['\u{D86}'],
        ('\u{D85}', '\u{DD0}') => &['\u{D87}'],
        ('\u{D85}', '\u{DD1}') => &['\u{D88}'],
        ('\u{D8B}', '\u{DDF}') => &['\u{D8C}'],
        ('\u{DC3}', '\u{DD8}') => &['\u{D8D}'],
        ('\u{D8D}', '\u{DD8}') => &['\u{D8E}'],
        ('\u{D8F}', '\u{DDF}') => &['\u{D90}'],
        ('\u{D91}', '\u{DCA}') => &['\u{D92}'],
        ('\u{D91}', '\u{DD9}') => &['\u{D93}'],
        ('\u{D94}', '\u{DDF}') => &['\u{D96}'],
        _ => return None,
    })
}
