//! Names that look alike: no two that a reader takes for one are both accepted, except the listed ones.
//!
//! What looks alike is decided by UTS #39 (skeletons), for every code point in names of every script, for pairs of letters, for
//! whole names in two scripts, and for variants of case, width and compatibility.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use unicode_normalization::{UnicodeNormalization, char::is_combining_mark};
use unicode_script::{Script, UnicodeScript};
use unicode_security::{GeneralSecurityProfile, confusable_detection::skeleton};
use watchword::domain::Username;

/// A letter of each script that looks like no other letter, and takes marks.
const COMPANIONS: &str = "b\u{5D0}\u{780}\u{AC00}\u{620}\u{562}\u{995}\u{434}\u{915}\u{1201}\u{10D0}\u{3B6}\u{A95}\u{A15}\u{3447}\u{3042}\u{30EE}\u{1780}\u{C95}\u{E81}\u{D15}\u{1001}\u{B15}\u{D9A}\u{B95}\u{C15}\u{E01}\u{F40}";

/// Characters that look alike by UTS #39 and stay distinct in names, because readers of the script tell them apart, or because
/// names need both. `docs/reference/names-and-passwords.md` counts them.
const DISTINCT: [&str; 58] = [
    // ASCII digits, and the apostrophe, beside letters and marks of a script. Digits are needed, as in ASCII.
    "' \u{5d9}",
    "0 \u{b20}",
    "0 \u{12d0}",
    "0 \u{3007}",
    "1 \u{4cf}",
    "1 \u{5d5} \u{5df}",
    "1 \u{627}",
    "6 \u{431}",
    "8 \u{b03}",
    // Latin.
    "i \u{131}",
    "p \u{fe}",
    "\u{146} \u{272}",
    // Greek.
    "\u{3bf} \u{3c3}",
    // Cyrillic.
    "\u{443} \u{4af}",
    // Armenian.
    "\u{563} \u{566}",
    "\u{578} \u{57c}",
    // Arabic.
    "\u{626} \u{6d3}",
    "\u{62a} \u{67a}",
    "\u{62b} \u{67e} \u{6bd} \u{6d1} \u{752}",
    "\u{64a} \u{6ba} \u{6d2} \u{8bd}",
    "\u{679} \u{6bb}",
    "\u{67b} \u{6d0}",
    "\u{68e} \u{68f}",
    "\u{6c4} \u{6c5}",
    "\u{6ce} \u{756}",
    "\u{767} \u{8a9}",
    "\u{8bb} \u{8bc}",
    // Bengali.
    "\u{9b0} \u{9f0}",
    // Tamil.
    "\u{b88} \u{bb0}",
    "\u{b88} \u{bb0} \u{bbe}",
    "\u{b90} \u{b9c}",
    "\u{ba9} \u{bc8}",
    "\u{bb6} \u{bb8}",
    // Malayalam.
    "\u{d02} \u{d20}",
    "\u{d30} \u{d31}",
    "\u{d3f} \u{d40}",
    "\u{d41} \u{d42} \u{d43}",
    // Sinhala.
    "\u{d91} \u{db5}",
    "\u{d94} \u{db9}",
    "\u{d9b} \u{db6}",
    "\u{da0} \u{dc0}",
    "\u{db7} \u{dc4}",
    // Thai.
    "\u{e04} \u{e14} \u{e15}",
    "\u{e06} \u{e21}",
    "\u{e0a} \u{e0b}",
    "\u{e0e} \u{e0f}",
    "\u{e11} \u{e17}",
    "\u{e20} \u{e26}",
    // Khmer.
    "\u{178a} \u{178f}",
    // Han, alone and beside Hangul.
    "\u{4e15} \u{c870}",
    "\u{4e1b} \u{c4f0}",
    "\u{4eca} \u{c2a5}",
    "\u{535f} \u{b9c8}",
    "\u{5408} \u{c2b4}",
    "\u{571f} \u{58eb}",
    "\u{672a} \u{672b}",
    "\u{723f} \u{b258}",
    "\u{9577} \u{d2bd}",
];

/// Two characters that look like one by UTS #39, and the one.
const DISTINCT_PAIRS: [&str; 61] = [
    // Latin.
    "ae \u{e6}",
    "d\u{328} \u{256}",
    "oe \u{153}",
    "r\u{144} \u{1e3f}",
    "r\u{1e47} \u{1e43}",
    "\u{146} \u{272}",
    // Greek.
    "\u{3c3}\u{301} \u{3cc}",
    // Cyrillic.
    "\u{430}\u{435} \u{4d5}",
    "\u{44c}\u{456} \u{44b}",
    "\u{44c}\u{457} \u{4f9}",
    "\u{4af}\u{304} \u{4ef}",
    "\u{4af}\u{306} \u{45e}",
    "\u{4af}\u{308} \u{4f1}",
    "\u{4af}\u{30b} \u{4f3}",
    // Arabic.
    "\u{626} \u{6d3}",
    "\u{627}\u{674} \u{672}",
    "\u{62d}\u{654} \u{681}",
    "\u{648}\u{64f} \u{6c7}",
    "\u{648}\u{670} \u{6c8}",
    "\u{64a}\u{652} \u{88f}",
    "\u{64a}\u{674} \u{8a8}",
    "\u{6ba}\u{652} \u{88f}",
    "\u{6ba}\u{654} \u{626}",
    "\u{6ba}\u{654} \u{6d3}",
    "\u{6ba}\u{674} \u{8a8}",
    "\u{6d2}\u{652} \u{88f}",
    "\u{6d2}\u{674} \u{8a8}",
    "\u{6d3} \u{626}",
    "\u{8bd}\u{652} \u{88f}",
    "\u{8bd}\u{654} \u{626}",
    "\u{8bd}\u{654} \u{6d3}",
    "\u{8bd}\u{674} \u{8a8}",
    // Thaana.
    "\u{7ac}\u{7aa} \u{7ae}",
    // Tamil.
    "\u{b89}\u{bb3} \u{b8a}",
    "\u{b92}\u{bb3} \u{b94}",
    "\u{bc6}\u{b88} \u{bca}",
    "\u{bc6}\u{bb0} \u{bca}",
    "\u{bc6}\u{bb3} \u{bcc}",
    "\u{bc7}\u{b88} \u{bcb}",
    "\u{bc7}\u{bb0} \u{bcb}",
    // Telugu.
    "\u{c35}\u{c3e} \u{c39}",
    "\u{c35}\u{c41} \u{c2e}",
    // Malayalam.
    "\u{d23}\u{d4d} \u{d7a}",
    "\u{d28}\u{d41} \u{d19}",
    "\u{d28}\u{d42} \u{d19}",
    "\u{d28}\u{d43} \u{d19}",
    "\u{d28}\u{d4d} \u{d7b}",
    "\u{d30}\u{d4d} \u{d7c}",
    "\u{d31}\u{d4d} \u{d7c}",
    "\u{d32}\u{d4d} \u{d7d}",
    "\u{d33}\u{d4d} \u{d7e}",
    "\u{d46}\u{d0e} \u{d10}",
    // Sinhala.
    "\u{db5}\u{dca} \u{d92}",
    "\u{db5}\u{dd9} \u{d93}",
    // Myanmar.
    "\u{1002}\u{102c} \u{1000}",
    "\u{1002}\u{103e} \u{1081}",
    "\u{1015}\u{102c} \u{101f}",
    "\u{101b}\u{103e} \u{1061}",
    "\u{101d}\u{102c} \u{1010}",
    "\u{1075}\u{102c} \u{1022}",
    "\u{107d}\u{103e} \u{107e}",
];

/// Lower-case letters without an upper case of their own: the upper case of dotless i is that of i, of ß that of ss.
const WITHOUT_UPPER_CASE: [&str; 2] = ["\u{131}", "\u{df}"];

/// The canonical form of an accepted name.
fn accepted(raw: &str) -> Option<String> {
    Username::parse(raw).ok().map(|name| name.as_str().to_owned())
}

fn look(name: &str) -> String {
    skeleton(name).collect()
}

/// Every code point that is assigned in the planes with letters, and those that are invisible.
fn code_points() -> impl Iterator<Item = char> {
    ('!'..='\u{3FFFF}').chain('\u{E0000}'..='\u{E0FFF}')
}

fn goes_with(c: char, companion: char) -> bool {
    let east_asian = [Script::Han, Script::Hiragana, Script::Katakana, Script::Hangul];
    let (scripts, companion) = (c.script_extension(), companion.script());
    scripts.contains_script(companion) || east_asian.contains(&companion) && east_asian.contains(&c.script())
}

/// The names that consist of one code point, alone and between two letters of each script that it goes with.
fn names_of_one_code_point() -> Vec<(char, String)> {
    let mut names = Vec::new();
    for c in code_points() {
        names.push((' ', c.to_string()));
        // A character that no name may have is refused in any company.
        if c.is_ascii_graphic() || c.identifier_allowed() {
            let companions = COMPANIONS.chars().filter(|companion| goes_with(c, *companion));
            names.extend(companions.map(|companion| (companion, format!("{companion}{c}{companion}"))));
        }
    }
    names
}

/// The groups of names that look alike, without the companions. Names of ASCII may look alike.
fn groups<'a>(names: impl Iterator<Item = (char, &'a String)>) -> BTreeSet<String> {
    let mut by_look: HashMap<(char, String), BTreeSet<&str>> = HashMap::new();
    for (companion, name) in names {
        by_look.entry((companion, look(name))).or_default().insert(name.trim_matches(companion));
    }
    let alike = by_look.into_values().filter(|names| names.len() > 1 && !names.iter().all(|name| name.is_ascii()));
    alike.map(|names| names.into_iter().collect::<Vec<_>>().join(" ")).collect()
}

#[test]
fn code_points_of_accepted_names_do_not_look_alike_except_the_listed() {
    let raw = names_of_one_code_point();
    let mut names = Vec::new();
    for (companion, raw) in &raw {
        let Some(name) = accepted(raw) else { continue };
        assert!(name == *raw || accepted(&name).as_ref() == Some(&name), "{name:?} is not stable");
        names.push((*companion, name));
    }
    assert!(raw.len() > 40_000 && names.len() > 40_000, "{} of {} names are accepted", names.len(), raw.len());
    let found = groups(names.iter().map(|(companion, name)| (*companion, name)));
    let listed: BTreeSet<String> = DISTINCT.iter().map(|group| (*group).to_owned()).collect();
    assert!(found == listed, "not listed: {:?}; not found: {:?}", &found - &listed, &listed - &found);
}

/// The control: names in lower case and NFC, of allowed characters, look alike.
#[test]
fn control_names_that_are_only_normalized_look_alike() {
    let raw = names_of_one_code_point();
    let is_allowed = |name: &str| name.chars().all(|c| c.is_ascii_graphic() || !c.is_ascii() && c.identifier_allowed());
    let names: Vec<_> = raw
        .iter()
        .map(|(companion, raw)| (*companion, raw.to_lowercase().nfc().collect::<String>()))
        .filter(|(_, name)| is_allowed(name))
        .collect();
    let found = groups(names.iter().map(|(companion, name)| (*companion, name)));
    for expected in ["\u{2bc} \u{2019}", "\u{6f0}"] {
        assert!(found.iter().any(|group| group.contains(expected)), "{expected}");
    }
    assert!(found.len() > 4 * DISTINCT.len(), "{}", found.len());
}

#[test]
fn two_characters_do_not_look_like_one_of_their_script_except_the_listed() {
    let mut tried = 0;
    let mut found = BTreeSet::new();
    for companion in COMPANIONS.chars().filter(|companion| companion.script() != Script::Han) {
        let between = |text: &str| accepted(&format!("{companion}{text}{companion}"));
        let inner = |name: &str| name.trim_matches(companion).to_owned();
        let letters: Vec<char> = ('A'..='\u{33FF}')
            .chain('\u{A640}'..='\u{ABFF}')
            .filter(|c| !c.is_ascii_punctuation() && (goes_with(*c, companion) || c.script() == Script::Inherited))
            .filter(|c| between(&c.to_string()).is_some_and(|name| inner(&name) == c.to_string()))
            .collect();
        let mut of_two: HashMap<String, Vec<char>> = HashMap::new();
        for c in letters.iter().filter(|c| !c.is_ascii()) {
            of_two.entry(look(&c.to_string())).or_default().push(*c);
        }
        of_two.retain(|look, _| look.chars().count() > 1);
        let looks: HashMap<char, String> = letters.iter().map(|c| (*c, look(&c.to_string()))).collect();
        let is_start = |first: &str| of_two.keys().any(|look| look.starts_with(first));
        for first in letters.iter().filter(|first| is_start(&looks[first])) {
            for second in &letters {
                tried += 1;
                let pair = format!("{first}{second}");
                let Some(ones) = of_two.get(&look(&pair)) else { continue };
                let Some(name) = between(&pair) else { continue };
                let others = ones.iter().filter(|one| between(&one.to_string()).as_ref() != Some(&name));
                found.extend(others.map(|one| format!("{} {one}", inner(&name))));
            }
        }
    }
    let listed: BTreeSet<String> = DISTINCT_PAIRS.iter().map(|group| (*group).to_owned()).collect();
    assert!(tried > 40_000, "{tried} pairs");
    assert!(found == listed, "not listed: {:?}; not found: {:?}", &found - &listed, &listed - &found);
}

/// Names of one to five letters that have a twin in another script: of the two names, at most one is accepted.
#[test]
fn whole_names_in_two_scripts_that_look_alike_are_not_both_accepted() {
    let mut by_look: BTreeMap<String, Vec<char>> = BTreeMap::new();
    for c in code_points().filter(|c| c.is_alphabetic() && !is_combining_mark(*c) && *c != '\u{3c3}') {
        let is_letter = (c.is_ascii_lowercase() || !c.is_ascii() && c.identifier_allowed()) && c.nfd().eq([c]);
        if is_letter && c.to_lowercase().eq([c]) {
            by_look.entry(look(&c.to_string())).or_default().push(c);
        }
    }
    let mut twins: BTreeMap<(String, String), Vec<(char, char)>> = BTreeMap::new();
    for class in by_look.values() {
        for (one, other) in class.iter().flat_map(|one| class.iter().map(move |other| (*one, *other))) {
            let scripts = (one.script().full_name().to_owned(), other.script().full_name().to_owned());
            if scripts.0 < scripts.1 {
                twins.entry(scripts).or_default().push((one, other));
            }
        }
    }
    let (mut state, mut tried, mut one_is_accepted) = (0x9E37_79B9_7F4A_7C15_u64, 0, 0);
    let mut next = |bound: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % bound
    };
    for (scripts, letters) in &twins {
        for _ in 0..600 {
            let (one, other): (String, String) = (0..1 + next(5)).map(|_| letters[next(letters.len())]).unzip();
            let accepted = (accepted(&one), accepted(&other));
            tried += 1;
            one_is_accepted += usize::from(accepted.0.is_some() || accepted.1.is_some());
            if let (Some(first), Some(second)) = accepted {
                assert_eq!(first, second, "{one} and {other} in {scripts:?}");
            }
        }
    }
    assert!(tried > 10_000 && one_is_accepted > tried / 3, "{one_is_accepted} of {tried}");
}

#[test]
fn variants_of_case_width_and_compatibility_are_one_name_or_refused() {
    let mut variants = 0;
    for c in code_points() {
        let text = c.to_string();
        for other in [c.to_uppercase().collect::<String>(), text.nfkc().collect(), text.nfd().collect()] {
            if other == text {
                continue;
            }
            variants += 1;
            let (Some(one), Some(other_name)) = (accepted(&text), accepted(&other)) else { continue };
            let is_listed = WITHOUT_UPPER_CASE.contains(&one.as_str());
            assert!(one == other_name || is_listed, "{text:?} is {one}, and {other:?} is {other_name}");
        }
    }
    assert!(variants > 10_000, "{variants}");
}

#[test]
fn spellings_that_readers_take_for_one_name_are_one_name() {
    for (one, other) in [
        ("admin", "adm\u{130}n"),
        ("admin", "admi\u{307}n"),
        ("admin", "adm\u{131}\u{307}n"),
        ("o'brien", "o\u{2019}brien"),
        ("o'brien", "o\u{2bc}brien"),
        ("o'brien", "O\u{ff07}BRIEN"),
        ("jean-luc", "jean\u{2010}luc"),
        ("\u{e5}", "a\u{30a}"),
        ("\u{446}\u{441}1960", "\u{426}\u{421}1960"),
        ("ib1", "\u{69}b\u{ff11}"),
        ("\u{639}\u{644}\u{6cc}", "\u{639}\u{644}\u{64a}"),
        ("\u{639}\u{644}\u{6cc}\u{661}", "\u{639}\u{644}\u{649}1"),
        ("\u{915}\u{96b}", "\u{915}5"),
        ("\u{30ab}\u{30e1}\u{30e9}", "\u{529b}\u{30e1}\u{30e9}"),
        ("\u{30b9}\u{30fc}", "\u{30b9}\u{4e00}"),
        ("\u{8aac}", "\u{8aaa}"),
        ("\u{39f}\u{394}\u{39f}\u{3a3}", "\u{3bf}\u{3b4}\u{3bf}\u{3c3}"),
        ("\u{e40}\u{e40}\u{e21}", "\u{e41}\u{e21}"),
        ("\u{905}\u{93e}\u{92e}", "\u{906}\u{92e}"),
    ] {
        let (one, other) = (accepted(one), accepted(other));
        assert!(one.is_some() && one == other, "{one:?} and {other:?}");
    }
    assert_eq!(accepted("\u{131}sparta").as_deref(), Some("\u{131}sparta"), "a dotless i stays");
    assert_ne!(accepted("user1"), accepted("userl"), "names of ASCII stay distinct");
}

#[test]
fn deceptive_marks_digits_and_signs_are_refused() {
    let stacked = |marks: &str| format!("a{marks}");
    for name in [
        "\u{301}a",
        "a\u{34f}b",
        "a1\u{301}",
        "a-\u{301}b",
        "5\u{96b}",
        "\u{661}\u{6f1}",
        "a\u{3164}b",
        "a\u{ffa0}b",
        "a\u{fe0f}b",
        "a\u{e0001}b",
        "\u{430}\u{31}|\u{434}",
        "\u{627}\u{62d}|",
        "\u{30a2}/\u{30e9}",
        "\u{5d1}\u{301}",
        "\u{4d9}\u{4bb}\u{3b1}",
        &stacked(&"\u{301}".repeat(63)),
        &stacked("\u{300}\u{301}\u{302}\u{303}\u{304}\u{308}"),
    ] {
        assert_eq!(accepted(name), None, "{name:?}");
    }
    for name in
        ["\u{1ea5}", "\u{1ead}x", "\u{101c}\u{103b}\u{103e}\u{1031}\u{102c}\u{1037}", "\u{915}\u{94d}\u{937}\u{93f}"]
    {
        assert!(accepted(name).is_some(), "{name:?}");
    }
}
