//! Whether a password is made of words: each once or several times, forwards or backwards, with any digits, signs and spaces
//! before, between and after them.
//!
//! For the name `alice2`: `alice2alice2`, `Alice-2026-ecila!`. Only letters are compared, so that a name and a password may
//! each have digits and signs of their own: between words, and inside a word only where the word has some too. For the name
//! `ada.lovelace` the password `ada-2026-lovelace` is refused, and `a.dalovelace` is accepted. A word without letters is
//! compared by its digits, one without digits by its signs. Does not know where words come from.

use unicode_normalization::char::is_combining_mark;
use zeroize::Zeroizing;

use crate::domain::model::folded;

/// A word that a password may not be made of.
pub(super) struct Word {
    class: Class,
    forwards: Runs,
    backwards: Runs,
}

/// Which characters of a word are compared.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    Letters,
    LettersAndDigits,
    All,
}

/// The compared characters of a text, and before which of them others are left out.
struct Runs {
    chars: Zeroizing<Vec<char>>,
    is_break: Vec<bool>,
}

impl Class {
    const ALL: [Class; 3] = [Class::Letters, Class::LettersAndDigits, Class::All];

    fn contains(self, c: char) -> bool {
        match self {
            Class::Letters => c.is_alphabetic() || is_combining_mark(c),
            Class::LettersAndDigits => c.is_alphanumeric() || is_combining_mark(c),
            Class::All => !c.is_whitespace(),
        }
    }
}

impl Word {
    pub(super) fn new(text: &str) -> Self {
        let text = folded(text);
        let class = Class::ALL.into_iter().find(|class| text.chars().any(|c| class.contains(c)));
        let class = class.unwrap_or(Class::All);
        let backwards: Zeroizing<String> = Zeroizing::new(text.chars().rev().collect());
        Self { class, forwards: Runs::of(class, &text), backwards: Runs::of(class, &backwards) }
    }
}

/// Whether `password`, in its folded form, is made of `words`.
pub(super) fn is_made_of(password: &str, words: &[Word]) -> bool {
    Class::ALL.into_iter().any(|class| {
        let words: Vec<_> = words.iter().filter(|word| word.class == class).collect();
        let runs = Runs::of(class, password);
        // Whether the characters before this one are made of words.
        let mut is_reached = vec![false; runs.chars.len() + 1];
        is_reached[0] = true;
        for at in 0..runs.chars.len() {
            if !is_reached[at] {
                continue;
            }
            for word in words.iter().flat_map(|word| [&word.forwards, &word.backwards]) {
                if runs.has_at(at, word) {
                    is_reached[at + word.chars.len()] = true;
                }
            }
        }
        !runs.chars.is_empty() && is_reached[runs.chars.len()]
    })
}

impl Runs {
    fn of(class: Class, text: &str) -> Self {
        // Never grows, so that no copy of a secret stays behind.
        let mut chars = Zeroizing::new(Vec::with_capacity(text.len()));
        let mut is_break = Vec::with_capacity(text.len());
        let mut is_after_others = false;
        for c in text.chars() {
            if class.contains(c) {
                chars.push(c);
                is_break.push(is_after_others);
            }
            is_after_others = !class.contains(c);
        }
        Self { chars, is_break }
    }

    /// Whether `word` is here at `at`, without a separator where the word has none.
    fn has_at(&self, at: usize, word: &Runs) -> bool {
        self.chars[at..].starts_with(&word.chars)
            && !word.chars.is_empty()
            && (1..word.chars.len()).all(|inner| !self.is_break[at + inner] || word.is_break[inner])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMES: [&str; 16] = [
        "alice2",
        "7bob",
        "joe!",
        "ada",
        "ada.lovelace",
        "x_ann_x",
        "o'brien",
        "\u{43c}\u{430}\u{440}\u{438}\u{44f}",
        "\u{65e5}\u{672c}",
        "jos\u{e9}",
        "5551234567",
        "1",
        "!?",
        "a1b2c3",
        "li",
        "-_-",
    ];

    fn is_made(password: &str, words: &[&str]) -> bool {
        let words: Vec<_> = words.iter().map(|word| Word::new(word)).collect();
        is_made_of(&folded(password), &words)
    }

    /// Pseudorandom numbers below `bound`, the same in every run.
    fn numbers() -> impl FnMut(usize) -> usize {
        let mut state = 0x9E37_79B9_7F4A_7C15_u64;
        move |bound| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as usize % bound
        }
    }

    /// A spelling of `word` that an attacker's rules produce.
    fn mangled(word: &str, next: &mut impl FnMut(usize) -> usize) -> String {
        let core = word.trim_matches(|c: char| !c.is_alphabetic());
        let word = if next(2) == 0 && !core.is_empty() { core } else { word };
        let word = if next(4) == 0 { word.chars().rev().collect() } else { word.to_owned() };
        match next(3) {
            0 => word.to_uppercase(),
            1 => {
                let mut chars = word.chars();
                chars.next().map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
            }
            _ => word,
        }
    }

    #[test]
    fn mangled_repetitions_of_words_are_made_of_them() {
        let mut next = numbers();
        let mut tried = 0;
        for _ in 0..20_000 {
            let name = NAMES[next(NAMES.len())];
            let has_letter = name.chars().any(char::is_alphabetic);
            // Between words without letters, a digit would be a part of a word.
            let separators: &[&str] = if has_letter { &["", " ", "-", "1", "2026!", "\u{a0}"] } else { &["", " "] };
            let password: String = (0..=next(4))
                .flat_map(|_| [separators[next(separators.len())].to_owned(), mangled(name, &mut next)])
                .collect();
            let password = password + separators[next(separators.len())];
            assert!(is_made(&password, &[name]), "{password:?} for {name}");
            assert!(is_made(&password, &["acme", name]), "{password:?} for {name}");
            tried += 1;
        }
        assert_eq!(tried, 20_000);
    }

    #[test]
    fn passphrase_with_any_other_word_is_not_made_of_the_name() {
        let words = ["correct", "horse", "battery", "staple", "jolly", "bobbin", "adagio", "linen", "anna"];
        let mut next = numbers();
        for _ in 0..20_000 {
            let name = NAMES[next(NAMES.len())];
            let mut parts: Vec<String> = (0..1 + next(4)).map(|_| mangled(name, &mut next)).collect();
            parts.insert(next(parts.len() + 1), words[next(words.len())].to_owned());
            let password = parts.join([" ", "-", "", "7"][next(4)]);
            assert!(!is_made(&password, &[name, "acme"]), "{password:?} for {name}");
        }
        for (password, name) in [
            ("an analogy", "an"),
            ("adabradaba", "ada"),
            ("banana boat", "na"),
            ("a2d4a", "ada"),
            ("a d a", "ada"),
            ("lovelace ada rides", "ada.lovelace"),
            ("20262026202620", "1234"),
            ("!!!!!!!!", "!?"),
            ("", "ada"),
            ("2026-2026", "ada"),
        ] {
            assert!(!is_made(password, &[name]), "{password:?} for {name}");
        }
    }

    #[test]
    fn words_of_several_kinds_are_combined() {
        for made in ["acmealice", "ALICE2-at-acme", "emca2026ecila"] {
            assert!(is_made(made, &["alice2", "acme", "at"]), "{made}");
        }
    }
}
