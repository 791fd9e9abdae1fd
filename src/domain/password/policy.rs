//! The password policy: a new password is long enough, not common, and not made of words that an attacker tries first here.
//!
//! No composition rules and no expiry (NIST SP 800-63B-4 section 3.1.1.2, ASVS 6.2.5 and 6.2.10). Whole passwords are
//! compared with whole words, never parts of them (NIST, same section): a password may contain the username. Context words:
//! ASVS 6.1.2 and 6.2.11. What "made of" means: `made_of.rs`.

use std::sync::Arc;

use unicode_normalization::UnicodeNormalization;
use zeroize::Zeroizing;

use super::{
    blocklist::{Blocklist, is_common},
    made_of::{Word, is_made_of},
};
use crate::domain::{
    model::{Password, Username, folded},
    violation::{Reason, Violation},
};

/// The name of this product, a context word.
const PRODUCT: &str = "watchword";

/// The maximum length of a context word in characters.
const CONTEXT_WORD_CHARS_MAX: usize = 64;

/// What the user should do after a refusal (NIST: offer guidance).
const ADVICE: &str = "choose another, such as a few unrelated words";

/// The policy for new passwords, set by operators.
#[derive(Debug, Clone)]
pub struct Policy {
    /// The minimum length in code points.
    pub chars_min: usize,
    /// Passwords that the operator forbids, beside the most common ones.
    pub blocklist: Arc<Blocklist>,
    /// Words that an attacker tries first here, beside the product name and the username.
    pub context_words: Arc<[ContextWord]>,
}

/// A word that no password may be made of: lower case, begins and ends with a letter, not empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContextWord(String);

impl Policy {
    /// Checks a new password and returns the first violation. Without a username the caller also calls `check_name` later.
    pub(crate) fn check(&self, password: &Password, username: Option<&Username>) -> Result<(), Violation> {
        let chars_min = self.chars_min;
        if password.as_str().chars().count() < chars_min {
            return refuse(Reason::TooShort, format!("has fewer than {chars_min} characters; {ADVICE}"));
        }
        let lower = Zeroizing::new(password.as_str().to_lowercase());
        if is_common(&lower) {
            return refuse(Reason::TooCommon, format!("is one of the most common passwords; {ADVICE}"));
        }
        if self.blocklist.contains(&lower) {
            return refuse(
                Reason::Blocklisted,
                format!("is on this service's list of passwords that are tried first; {ADVICE}"),
            );
        }
        if is_made_of(&folded(password.as_str()), &self.context()) {
            return refuse(Reason::ContextWord, format!("is no more than a word of this service; {ADVICE}"));
        }
        username.map_or(Ok(()), |username| self.check_name(password, username))
    }

    /// The part of the policy that needs the username.
    pub(crate) fn check_name(&self, password: &Password, username: &Username) -> Result<(), Violation> {
        let name = username.as_str();
        // Of an e-mail address also the part before the last @.
        let local = name.rsplit_once('@').map_or(name, |(local, _)| local);
        // Together with the context words. `check` has already refused a password made of those alone.
        let words: Vec<_> = self.context().into_iter().chain([name, local].map(Word::new)).collect();
        // Compares folded forms: `Ada@Example.com` is forbidden for `ada@example.com`, full width too.
        if is_made_of(&folded(password.as_str()), &words) {
            return refuse(Reason::EqualsUsername, format!("is no more than the username; {ADVICE}"));
        }
        Ok(())
    }

    fn context(&self) -> Vec<Word> {
        [PRODUCT].into_iter().chain(self.context_words.iter().map(|word| word.0.as_str())).map(Word::new).collect()
    }
}

/// Refuses a new password that is the current one.
pub(in crate::domain) fn check_differs(is_current: bool) -> Result<(), Violation> {
    if !is_current {
        return Ok(());
    }
    refuse(Reason::EqualsCurrent, format!("is the current password; {ADVICE}"))
}

fn refuse(reason: Reason, what: String) -> Result<(), Violation> {
    Err(Violation::new("password", reason, what))
}

// === impl ContextWord ===

impl ContextWord {
    /// Parses a context word. The error says what is wrong with it.
    pub fn parse(raw: &str) -> Result<Self, String> {
        if raw.chars().count() > CONTEXT_WORD_CHARS_MAX {
            return Err(format!("expected words of at most {CONTEXT_WORD_CHARS_MAX} characters"));
        }
        let lower = raw.nfc().collect::<String>().to_lowercase();
        match lower.trim_matches(|c: char| !c.is_alphabetic()) {
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
        assert_eq!(reason("letmein-at-acme!", "ada"), None, "only whole passwords are compared");
    }

    #[test]
    fn password_made_of_a_context_word_is_refused() {
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
    fn password_made_of_the_username_is_refused() {
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
            ("ALICE2alice2", "alice2"),
            ("7bob7bob", "7bob"),
            ("joe!joe!joe!", "joe!"),
            ("watchword-ada", "ada"),
            ("ada@acme corp", "ada@example.com"),
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
    fn context_word_without_a_letter_or_too_long_is_refused() {
        assert_eq!(ContextWord::parse("Acme-2026"), Ok(ContextWord("acme".into())));
        for wrong in ["", "  ", "2026", "x".repeat(65).as_str()] {
            assert!(ContextWord::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn minimum_length_is_in_characters() {
        assert_eq!(reason("päßwörtü", "ada"), None);
        assert_eq!(reason("日本日本日本日", "ada"), Some(Reason::TooShort));
    }

    #[test]
    fn password_of_the_original_service_is_accepted() {
        assert_eq!(reason("insecure", "soham"), None);
    }
}
