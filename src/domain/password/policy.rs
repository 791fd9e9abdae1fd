//! What a new password must be: long enough, uncommon, and more than a word that everybody would try here.
//!
//! No composition rules and no expiry (NIST SP 800-63B-4 3.1.1.2, ASVS 6.2.5 and 6.2.10). Whole passwords are compared with
//! whole words, never parts of them (NIST, the same place): a password that mentions the user is as good as any. Context
//! words: ASVS 6.1.2 and 6.2.11.

use std::sync::Arc;

use unicode_normalization::UnicodeNormalization;
use zeroize::Zeroizing;

use super::blocklist::{Blocklist, is_common};
use crate::domain::{
    model::{Password, Username},
    violation::{Reason, Violation},
};

/// The word that stands for this product.
const PRODUCT: &str = "watchword";

/// Characters of an operator's word at most.
const CONTEXT_WORD_CHARS_MAX: usize = 64;

/// What a refused person should do (NIST: offer guidance).
const ADVICE: &str = "choose another, such as a few unrelated words";

/// What a new password must be; operators set it.
#[derive(Debug, Clone)]
pub struct Policy {
    /// Code points at least.
    pub chars_min: usize,
    /// What the operator forbids beside the most common ones.
    pub blocklist: Arc<Blocklist>,
    /// Words that everybody would try here, beside the product's name and the user's.
    pub context_words: Arc<[ContextWord]>,
}

/// A word that no password may consist of: lower case, without what is no letter at its ends; never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContextWord(String);

impl Policy {
    /// Checks a new password; the first thing to mend is named. Without a username `check_name` is for later.
    pub(crate) fn check(&self, password: &Password, username: Option<&Username>) -> Result<(), Violation> {
        let chars_min = self.chars_min;
        if password.as_str().chars().count() < chars_min {
            return refuse(Reason::TooShort, format!("has fewer than {chars_min} characters; {ADVICE}"));
        }
        let lower = Zeroizing::new(password.as_str().to_lowercase());
        if is_common(&lower) {
            return refuse(Reason::TooCommon, format!("is one of the most common passwords; {ADVICE}"));
        }
        if self.blocklist.has(&lower) {
            return refuse(
                Reason::Blocklisted,
                format!("is on this service's list of passwords that are tried first; {ADVICE}"),
            );
        }
        let core = core(&lower);
        if is_made_of(core, PRODUCT) || self.context_words.iter().any(|word| is_made_of(core, &word.0)) {
            return refuse(Reason::ContextWord, format!("is no more than a word of this service; {ADVICE}"));
        }
        username.map_or(Ok(()), |username| check_name(password, username))
    }
}

/// The part of the policy that needs to know whose password it is.
pub(crate) fn check_name(password: &Password, username: &Username) -> Result<(), Violation> {
    let lower = Zeroizing::new(password.as_str().to_lowercase());
    let name = username.as_str();
    // Of an e-mail address, what stands before the last @.
    let local = name.rsplit_once('@').map_or(name, |(local, _)| local);
    let is_derived = [name, local].iter().any(|word| is_made_of(core(&lower), core(word)));
    // In canonical form: `Ada@Example.com` is no password for `ada@example.com`, nor digits for a name of digits.
    if is_derived || Username::parse(password.as_str()).ok().as_ref() == Some(username) {
        return refuse(Reason::EqualsUsername, format!("is no more than the username; {ADVICE}"));
    }
    Ok(())
}

/// A text in lower case without the digits, signs and blanks at both ends, which people add to a word that was refused.
fn core(lower: &str) -> &str {
    lower.trim_matches(|c: char| !c.is_alphabetic())
}

/// Whether `text` is `word`, once or several times.
fn is_made_of(text: &str, word: &str) -> bool {
    let (text, word) = (text.as_bytes(), word.as_bytes());
    !text.is_empty() && !word.is_empty() && text.chunks(word.len()).all(|part| part == word)
}

fn refuse(reason: Reason, what: String) -> Result<(), Violation> {
    Err(Violation::new("password", reason, what))
}

// === impl ContextWord ===

impl ContextWord {
    /// Takes an operator's word; says what is wrong with it.
    pub fn parse(raw: &str) -> Result<Self, String> {
        if raw.chars().count() > CONTEXT_WORD_CHARS_MAX {
            return Err(format!("expected words of at most {CONTEXT_WORD_CHARS_MAX} characters"));
        }
        let lower = raw.nfc().collect::<String>().to_lowercase();
        match core(&lower) {
            "" => Err("expected words with a letter".into()),
            word => Ok(Self(word.to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reason(password: &str, username: &str) -> Option<Reason> {
        let words = ["Acme Corp.", "caf\u{e9}"].map(|word| ContextWord::parse(word).unwrap());
        let blocklist = Blocklist::parse(b"Letmein-At-Acme\n".to_vec()).unwrap();
        let policy = Policy { chars_min: 8, blocklist: Arc::new(blocklist), context_words: words.into() };
        let password = Password::parse(password.into()).unwrap();
        let username = Username::parse(username).unwrap();
        policy.check(&password, Some(&username)).err().map(|violation| violation.reason)
    }

    #[test]
    fn common_short_and_blocklisted_passwords_are_refused() {
        assert_eq!(reason("passw0rd", "ada"), Some(Reason::TooCommon));
        assert_eq!(reason("PassWord1", "ada"), Some(Reason::TooCommon));
        assert_eq!(reason("seven77", "ada"), Some(Reason::TooShort));
        assert_eq!(reason("letmein-at-ACME", "ada"), Some(Reason::Blocklisted));
        assert_eq!(reason("letmein-at-acme!", "ada"), None, "whole passwords alone");
    }

    #[test]
    fn a_password_that_is_no_more_than_a_word_of_this_place_is_refused() {
        for made in [
            "Watchword",
            "watchword2026",
            "!!watchword!!",
            "watchwordWatchword",
            "ACME CORP 1",
            "acme corp..",
            "cafe\u{301}cafe\u{301}",
        ] {
            assert_eq!(reason(made, "ada"), Some(Reason::ContextWord), "{made}");
        }
        for fine in
            ["watchword for ada", "watchwords", "watch2word", "acme corporation", "my acme corp", "caf\u{e9} noir"]
        {
            assert_eq!(reason(fine, "ada"), None, "{fine}");
        }
    }

    #[test]
    fn a_password_that_is_no_more_than_the_username_is_refused() {
        for (made, name) in [
            ("Ada@Example.com", "ada@example.com"),
            ("ada@example.com99", "ada@example.com"),
            ("Lovelace", "lovelace@example.com"),
            ("lovelace1815", "Lovelace@example.com"),
            ("adaadaada", "ada"),
            ("  ada 2026", "ada"),
            ("ada.1815", "ada1"),
            ("ＬＯＶＥＬＡＣＥ", "lovelace"),
            ("1234567890123", "1234567890123"),
            ("so\u{301}fiaso\u{301}fia", "s\u{f3}fia"),
        ] {
            assert_eq!(reason(made, name), Some(Reason::EqualsUsername), "{made} for {name}");
        }
        for (fine, name) in [
            ("a password of ada", "ada"),
            ("adabradaba", "ada"),
            ("example.com", "ada@example.com"),
            ("20262026202620", "1234"),
            ("!!!!!!!!!!!!", "!?"),
        ] {
            assert_eq!(reason(fine, name), None, "{fine} for {name}");
        }
    }

    #[test]
    fn a_context_word_has_a_letter_and_is_no_essay() {
        assert_eq!(ContextWord::parse("Acme-2026"), Ok(ContextWord("acme".into())));
        for wrong in ["", "  ", "2026", "x".repeat(65).as_str()] {
            assert!(ContextWord::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn length_counts_characters_not_bytes() {
        assert_eq!(reason("päßwörtü", "ada"), None);
        assert_eq!(reason("日本日本日本日", "ada"), Some(Reason::TooShort));
    }

    #[test]
    fn the_tutorials_password_is_accepted() {
        assert_eq!(reason("insecure", "soham"), None);
    }
}
