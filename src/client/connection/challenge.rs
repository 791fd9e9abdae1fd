//! Solves one challenge (ALTCHA, version 2): finds a counter whose key begins with the prefix.
//!
//! A key is PBKDF2/SHA-256 of the nonce and the counter. The number of rounds is limited before and while it computes. Not by
//! the crate `altcha`: its solver cannot be stopped, and the client needs no other part of it.

use std::{fmt, num::NonZeroU32};

use aws_lc_rs::pbkdf2::{PBKDF2_HMAC_SHA256, derive};
use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::Value;

/// The only key derivation that Watchword asks for.
const ALGORITHM: &str = "PBKDF2/SHA-256";

/// Bytes of a key: one block of SHA-256.
const KEY_BYTES: usize = 32;

/// The rounds of one key, some 10 ms. The solver can be stopped between two keys.
const ROUNDS_OF_A_KEY_MAX: u32 = 100_000;

/// A parsed challenge.
pub(super) struct UnsolvedChallenge {
    /// The JSON that the server signed. It goes back unchanged.
    text: String,
    /// Rounds of PBKDF2 for one key.
    cost: NonZeroU32,
    /// The hexadecimal digits that the key must begin with.
    key_prefix: String,
    nonce: Vec<u8>,
    salt: Vec<u8>,
}

/// Why there is no solution.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unsolved {
    /// Not the form that Watchword issues.
    Malformed,
    /// It asks for so many rounds on average, or for so many of one key, which is more than the limit.
    TooMuchWork(u64),
    /// The limit was reached before a solution was found.
    LimitReached,
    /// The result is not wanted any more.
    Stopped,
}

impl UnsolvedChallenge {
    /// Parses the JSON of CreateChallenge.
    pub(super) fn parse(text: &str) -> Result<Self, Unsolved> {
        Self::read(text).ok_or(Unsolved::Malformed)
    }

    fn read(text: &str) -> Option<Self> {
        let challenge: Value = serde_json::from_str(text).ok()?;
        let parameters = &challenge["parameters"];
        let number = |name: &str| parameters[name].as_u64();
        let digits = |name: &str| parameters[name].as_str().filter(|text| text.bytes().all(|b| b.is_ascii_hexdigit()));
        if parameters["algorithm"] != ALGORITHM || number("keyLength")? != KEY_BYTES as u64 {
            return None;
        }
        Some(Self {
            text: text.to_owned(),
            cost: NonZeroU32::new(number("cost")?.try_into().ok()?)?,
            key_prefix: digits("keyPrefix")?.to_lowercase(),
            nonce: from_hex(digits("nonce")?)?,
            salt: from_hex(digits("salt")?)?,
        })
    }

    /// The rounds of a solution on average: each digit of the prefix makes it sixteen times as much.
    fn rounds_expected(&self) -> u64 {
        let keys = u32::try_from(self.key_prefix.len()).ok().and_then(|digits| 16_u64.checked_pow(digits));
        keys.map_or(u64::MAX, |keys| keys.saturating_mul(self.cost.get().into()))
    }

    /// Computes the solution, as base64 for `challenge_solution`. Takes the rounds that it computes from `rounds_left`, and
    /// begins none if more are expected. Blocks the thread, and looks before each key whether the result is wanted.
    ///
    /// # Errors
    /// `TooMuchWork`, `LimitReached`, `Stopped`.
    pub(super) fn solve(&self, rounds_left: &mut u64, is_wanted: impl Fn() -> bool) -> Result<String, Unsolved> {
        let (expected, cost) = (self.rounds_expected(), self.cost.get());
        if expected > *rounds_left || cost > ROUNDS_OF_A_KEY_MAX {
            return Err(Unsolved::TooMuchWork(expected));
        }
        let mut password = [&*self.nonce, &[0; 4]].concat();
        for counter in 0..=u32::MAX {
            if !is_wanted() {
                return Err(Unsolved::Stopped);
            }
            *rounds_left = rounds_left.checked_sub(cost.into()).ok_or(Unsolved::LimitReached)?;
            password[self.nonce.len()..].copy_from_slice(&counter.to_be_bytes());
            let mut key = [0; KEY_BYTES];
            derive(PBKDF2_HMAC_SHA256, self.cost, &self.salt, &password, &mut key);
            let key = to_hex(&key);
            if key.starts_with(&self.key_prefix) {
                let solution = format!(r#"{{"counter":{counter},"derivedKey":"{key}"}}"#);
                return Ok(STANDARD.encode(format!(r#"{{"challenge":{},"solution":{solution}}}"#, self.text)));
            }
        }
        Err(Unsolved::LimitReached)
    }
}

impl fmt::Display for Unsolved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unsolved::Malformed => write!(f, "the challenge is not one of ALTCHA's version 2 with {ALGORITHM}"),
            Unsolved::TooMuchWork(rounds) => {
                write!(f, "the challenge asks for {rounds} rounds of {ALGORITHM}, more than the client's limit")
            }
            Unsolved::LimitReached => f.write_str("the challenge was not solved within the client's limit of rounds"),
            Unsolved::Stopped => f.write_str("the solver was stopped"),
        }
    }
}

fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The bytes of an even number of digits.
fn from_hex(digits: &str) -> Option<Vec<u8>> {
    let (pairs, rest) = digits.as_bytes().as_chunks::<2>();
    let byte = |pair: &[u8; 2]| u8::from_str_radix(str::from_utf8(pair).ok()?, 16).ok();
    rest.is_empty().then(|| pairs.iter().map(byte).collect())?
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    fn challenge(cost: u64, key_prefix: &str) -> String {
        let parameters = format!(
            r#""algorithm":"PBKDF2/SHA-256","cost":{cost},"keyLength":32,"keyPrefix":"{key_prefix}","nonce":"abab","salt":"cdcd""#
        );
        format!(r#"{{"parameters":{{{parameters}}},"signature":"x"}}"#)
    }

    fn solved(text: &str, rounds_left: &mut u64) -> Result<String, Unsolved> {
        UnsolvedChallenge::parse(text)?.solve(rounds_left, || true)
    }

    /// The crate that Watchword checks solutions with derives the same key.
    #[cfg(feature = "server")]
    #[test]
    fn solution_is_the_one_that_altcha_finds() {
        for key_prefix in ["", "0", "AB"] {
            let text = challenge(10, key_prefix);
            let theirs: altcha::Challenge = serde_json::from_str(&text).unwrap();
            let theirs = altcha::solve_challenge(altcha::SolveChallengeOptions::new(&theirs)).unwrap().unwrap();
            let ours = STANDARD.decode(solved(&text, &mut 100_000).unwrap()).unwrap();
            let ours: altcha::Payload = serde_json::from_slice(&ours).unwrap();
            assert_eq!(ours.solution.counter, theirs.counter, "{key_prefix}");
            assert_eq!(ours.solution.derived_key, theirs.derived_key, "{key_prefix}");
        }
    }

    #[test]
    fn rounds_are_limited_before_and_while_the_solver_computes() {
        for (cost, key_prefix, expected) in [
            (10, "00", 2_560),
            (1_000, "0000000000000000", u64::MAX),
            (1, &"0".repeat(1_000), u64::MAX),
            (100_001, "", 100_001),
        ] {
            let mut rounds_left = 2_559;
            let result = solved(&challenge(cost, key_prefix), &mut rounds_left);
            assert_eq!((result, rounds_left), (Err(Unsolved::TooMuchWork(expected)), 2_559), "{cost} {key_prefix}");
        }
        // A third of all challenges needs more than the keys that are expected.
        let unlucky = (10..99).map(|nonce| challenge(1, "00").replace("abab", &format!("{nonce}")));
        let unlucky = unlucky.filter(|text| solved(text, &mut 256) == Err(Unsolved::LimitReached));
        assert!((10..60).contains(&unlucky.count()));
    }

    #[test]
    fn solver_looks_before_each_key_whether_the_result_is_wanted() {
        let (wanted, mut rounds_left) = (Cell::new(3), u64::MAX);
        let is_wanted = || wanted.replace(wanted.get() - 1) > 0;
        let result = UnsolvedChallenge::parse(&challenge(10, "00000000")).unwrap().solve(&mut rounds_left, is_wanted);
        assert_eq!((result, rounds_left), (Err(Unsolved::Stopped), u64::MAX - 30));
    }

    #[test]
    fn text_that_is_no_challenge_of_watchword_is_malformed() {
        let valid = challenge(10, "0");
        assert!(solved(&valid, &mut 10_000).is_ok());
        for (from, to) in [
            ("SHA-256", "SHA-512"),
            (r#""cost":10"#, r#""cost":0"#),
            (r#""cost":10"#, r#""cost":4294967296"#),
            (r#""cost":10"#, r#""cost":"10""#),
            (r#""keyLength":32"#, r#""keyLength":4294967328"#),
            (r#""keyPrefix":"0""#, r#""keyPrefix":"x""#),
            (r#""nonce":"abab""#, r#""nonce":"aba""#),
            (r#""salt":"cdcd""#, r#""salt":"ç""#),
            (r#""salt":"cdcd""#, r#""pepper":"cdcd""#),
            ("{", "["),
        ] {
            let result = solved(&valid.replacen(from, to, 1), &mut 10_000);
            assert_eq!(result, Err(Unsolved::Malformed), "{from} -> {to}");
        }
        assert_eq!(solved("", &mut 10_000), Err(Unsolved::Malformed));
    }
}
