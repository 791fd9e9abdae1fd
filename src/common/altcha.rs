//! ALTCHA's proof of work, version 2, as text: a signed challenge, and the solution that comes back with it.
//!
//! The crate `altcha` signs challenges and checks solutions. Here stands what it leaves open: nothing but the form that we
//! issue is read, so a field that is unknown, or that no signature covers, is an error; and only what was [`Signed`] by us
//! can be looked at. Knows neither where keys are kept, nor what time it is, nor what was presented before.

use std::collections::BTreeMap;

use altcha::{
    Challenge, ChallengeParameters, HmacAlgorithm, Solution, VerifySolutionOptions, sign_challenge, verify_solution,
};
use aws_lc_rs::{
    constant_time::verify_slices_are_equal,
    digest::{SHA256, digest},
    hmac,
};
use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
/// Bytes of a solution at most, as it is sent; those of the widget have about 600. More is not looked at.
pub(crate) const SOLUTION_BYTES_MAX: usize = 4 * 1024;

/// The one key derivation that we ask for: browsers have it built in (Web Crypto), also on pages with a strict CSP.
const ALGORITHM: &str = "PBKDF2/SHA-256";

/// Bytes of the derived key: one block of SHA-256, since an attacker need not compute a second one.
const KEY_BYTES: usize = 32;

/// How much a challenge asks for. A solver tries `16 ^ digits of the prefix` keys on average, each of `cost` rounds; we
/// derive one to check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Work {
    /// Rounds of PBKDF2 for one key.
    pub cost: u32,
    /// Hexadecimal digits that the key must begin with.
    pub key_prefix: &'static str,
}

impl Work {
    /// 8 192 000 rounds on average: about a second for the widget on two cores, where a round takes 0.1 µs and Web Crypto adds
    /// 0.2 ms to each key. More digits and fewer rounds would make that overhead, which native
    /// solvers do not have, the larger part; more rounds and fewer digits would make our own check dearer.
    pub const DEFAULT: Self = Self { cost: 2_000, key_prefix: "000" };
}

/// What a challenge says, beside the work.
pub(crate) struct Terms<'a> {
    /// What it is good for.
    pub(crate) purpose: &'a str,
    /// Seconds since 1970; from then on it is no longer good.
    pub(crate) expires_at: u64,
    /// Chance.
    pub(crate) nonce: [u8; 16],
    /// The same.
    pub(crate) salt: [u8; 16],
}

/// Something that came as a solution. Nothing of it is known to be true.
pub(crate) struct Presented {
    parameters: ChallengeParameters,
    purpose: String,
    expires_at: u64,
    signature: String,
    solution: Solution,
}

/// A solution of a challenge of ours; whether it is right is not known yet.
pub(crate) struct Signed(Presented);

/// Why something is no solution at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unreadable {
    /// More than [`SOLUTION_BYTES_MAX`].
    TooLong,
    /// Not the form of version 2 with the fields that we issue.
    Malformed,
}

/// Signs a challenge and puts it into the JSON that the widget reads.
pub(crate) fn issue(work: &Work, terms: &Terms<'_>, key: &hmac::Key) -> String {
    let parameters = form::Parameters {
        algorithm: ALGORITHM.into(),
        cost: work.cost,
        data: form::Data { purpose: terms.purpose.into() },
        expires_at: i64::try_from(terms.expires_at).unwrap_or(i64::MAX),
        key_length: KEY_BYTES,
        key_prefix: work.key_prefix.into(),
        nonce: hex(&terms.nonce),
        salt: hex(&terms.salt),
    };
    let challenge = sign(&mut parameters.into(), &secret(key));
    serde_json::to_string(&challenge).expect("text and numbers are always JSON")
}

// === impl Presented ===

impl Presented {
    /// Reads what the widget sends: JSON in base64.
    pub(crate) fn read(text: &str) -> Result<Self, Unreadable> {
        if text.len() > SOLUTION_BYTES_MAX {
            return Err(Unreadable::TooLong);
        }
        let json = STANDARD.decode(text).map_err(|_| Unreadable::Malformed)?;
        let payload: form::Payload = serde_json::from_slice(&json).map_err(|_| Unreadable::Malformed)?;
        let form::Challenge { parameters, signature } = payload.challenge;
        let form::Solution { counter, derived_key, time } = payload.solution;
        Ok(Self {
            purpose: parameters.data.purpose.clone(),
            // What is before 1970 has expired too.
            expires_at: u64::try_from(parameters.expires_at).unwrap_or_default(),
            parameters: parameters.into(),
            signature,
            solution: Solution { counter, derived_key, time },
        })
    }

    /// The challenge's own words, if one of these keys signed them.
    pub(crate) fn signed_by(mut self, keys: &[hmac::Key]) -> Option<Signed> {
        let is_signed = keys.iter().any(|key| {
            let ours = sign(&mut self.parameters, &secret(key)).signature.unwrap_or_default();
            verify_slices_are_equal(ours.as_bytes(), self.signature.as_bytes()).is_ok()
        });
        is_signed.then_some(Signed(self))
    }
}

// === impl Signed ===

impl Signed {
    /// What the challenge is good for.
    pub(crate) fn purpose(&self) -> &str {
        &self.0.purpose
    }

    /// Seconds since 1970; from then on it is no longer good.
    pub(crate) fn expires_at(&self) -> u64 {
        self.0.expires_at
    }

    /// Stands for the challenge, whatever solution comes with it: SHA-256 of its signature.
    pub(crate) fn fingerprint(&self) -> [u8; 32] {
        digest(&SHA256, self.0.signature.as_bytes()).as_ref().try_into().expect("SHA-256 has 32 bytes")
    }

    /// Derives the key of the solution, which takes a fifth of a millisecond, and says whether it is the one that was sent and
    /// begins as the challenge asks.
    pub(crate) fn is_solved(&self) -> bool {
        // Whoever asks has asked the store's clock; the crate would ask the machine's. So it gets the same challenge without
        // a date, signed anew.
        const SECRET: &str = "the signature was checked";
        let mut parameters = ChallengeParameters { expires_at: None, ..self.0.parameters.clone() };
        let undated = sign(&mut parameters, SECRET);
        let checked = verify_solution(VerifySolutionOptions::new(&undated, &self.0.solution, SECRET));
        checked.is_ok_and(|result| result.verified)
    }
}

/// The crate takes its secret as text.
fn secret(key: &hmac::Key) -> String {
    URL_SAFE_NO_PAD.encode(hmac::sign(key, b"altcha 2"))
}

fn sign(parameters: &mut ChallengeParameters, secret: &str) -> Challenge {
    sign_challenge(&HmacAlgorithm::Sha256, parameters, None, secret, None)
        .expect("text and numbers are always JSON, and every text is a secret")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What the widget sends, field by field.
mod form {
    use serde::Deserialize;

    use super::{BTreeMap, ChallengeParameters};

    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    pub(super) struct Payload {
        pub(super) challenge: Challenge,
        pub(super) solution: Solution,
    }

    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    pub(super) struct Challenge {
        pub(super) parameters: Parameters,
        pub(super) signature: String,
    }

    #[derive(Deserialize)]
    #[serde(deny_unknown_fields, rename_all = "camelCase")]
    pub(super) struct Parameters {
        pub(super) algorithm: String,
        pub(super) cost: u32,
        pub(super) data: Data,
        pub(super) expires_at: i64,
        pub(super) key_length: usize,
        pub(super) key_prefix: String,
        pub(super) nonce: String,
        pub(super) salt: String,
    }

    impl From<Parameters> for ChallengeParameters {
        fn from(said: Parameters) -> Self {
            Self {
                algorithm: said.algorithm,
                cost: said.cost,
                data: Some(BTreeMap::from([("purpose".to_owned(), said.data.purpose.into())])),
                expires_at: Some(said.expires_at),
                key_length: said.key_length,
                key_prefix: said.key_prefix,
                key_signature: None,
                memory_cost: None,
                nonce: said.nonce,
                parallelism: None,
                salt: said.salt,
            }
        }
    }

    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    pub(super) struct Data {
        pub(super) purpose: String,
    }

    #[derive(Deserialize)]
    #[serde(deny_unknown_fields, rename_all = "camelCase")]
    pub(super) struct Solution {
        pub(super) counter: u32,
        pub(super) derived_key: String,
        /// Milliseconds that it took; we do not care.
        #[serde(default)]
        pub(super) time: Option<f64>,
    }
}

#[cfg(test)]
mod tests {
    use altcha::{Payload, SolveChallengeOptions, solve_challenge};

    use super::*;

    fn key(secret: &[u8]) -> hmac::Key {
        hmac::Key::new(hmac::HMAC_SHA256, secret)
    }

    fn issued(key: &hmac::Key) -> String {
        let terms = Terms { purpose: "login", expires_at: 1_800_000_000, nonce: [0xAB; 16], salt: [0xCD; 16] };
        issue(&Work { cost: 10, key_prefix: "0" }, &terms, key)
    }

    fn presented(key: &hmac::Key) -> Presented {
        let challenge: Challenge = serde_json::from_str(&issued(key)).unwrap();
        let solution = solve_challenge(SolveChallengeOptions::new(&challenge)).unwrap().unwrap();
        let payload = serde_json::to_string(&Payload { challenge, solution }).unwrap();
        Presented::read(&STANDARD.encode(payload)).ok().unwrap()
    }

    /// Nodes of two versions stand side by side during an upgrade: each must take what the other signed.
    #[test]
    fn a_challenge_is_what_it_always_was_to_the_byte() {
        let text = concat!(
            r#"{"parameters":{"algorithm":"PBKDF2/SHA-256","cost":10,"data":{"purpose":"login"},"expiresAt":1800000000,"#,
            r#""keyLength":32,"keyPrefix":"0","nonce":"abababababababababababababababab","#,
            r#""salt":"cdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcd"},"signature":"0e78559ea120019e7116a8fee3303d6af7b807a8d63d105b372796c9a9eebec0"}"#,
        );
        assert_eq!(issued(&key(b"key")), text);
    }

    #[test]
    fn a_solution_is_read_back_and_only_under_a_key_that_signed_its_challenge() {
        let (mine, other) = (key(b"key"), key(b"other"));
        let signed = presented(&mine).signed_by(&[other.clone(), mine.clone()]).unwrap();
        assert_eq!((signed.purpose(), signed.expires_at(), signed.is_solved()), ("login", 1_800_000_000, true));
        assert!(presented(&mine).signed_by(&[other.clone(), other]).is_none());
        assert!(presented(&mine).signed_by(&[]).is_none());
    }

    /// The crate would look at the machine's clock, which is not the store's.
    #[test]
    fn whether_it_is_solved_does_not_depend_on_what_time_it_is() {
        let mine = key(b"key");
        let mut long_over = presented(&mine);
        long_over.parameters.expires_at = Some(1);
        assert!(Signed(long_over).is_solved());
    }
}
