//! ALTCHA proof of work, version 2, as text: signed challenges and their solutions.
//!
//! The crate `altcha` signs challenges and verifies solutions. This file is stricter: it accepts only the form that
//! Watchword issues, so an unknown field, or one that no signature covers, is an error; and it reads fields only after the
//! signature is verified ([`SignedSolution`]). Does not know where keys are kept, nor the time, nor which challenges were
//! used before.

use std::collections::BTreeMap;

use altcha::{
    Challenge, ChallengeParameters, HmacAlgorithm, Solution, VerifySolutionOptions, sign_challenge, verify_solution,
};
use aws_lc_rs::{constant_time::verify_slices_are_equal, hmac};
use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};

use super::sha256::{hex, sha256};

/// The maximum length of a solution in bytes, in base64. Those of the widget have about 600. Longer ones are not parsed.
pub(crate) const SOLUTION_BYTES_MAX: usize = 4 * 1024;

/// The only key derivation that is issued. Browsers have it built in (Web Crypto), also on pages with a strict CSP.
const ALGORITHM: &str = "PBKDF2/SHA-256";

/// Bytes of the derived key: one block of SHA-256, since an attacker would not have to compute a second one.
const KEY_BYTES: usize = 32;

/// Bytes of the nonce and of the salt of a challenge.
const RANDOM_BYTES: usize = 16;

/// Bytes of the keyed hash of an account.
pub(crate) const ACCOUNT_BYTES: usize = 16;

/// The work that a challenge requires. A solver derives `16 ^ digits of the prefix` keys on average, each of `cost` rounds.
/// A check derives one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Work {
    /// Rounds of PBKDF2 for one key.
    pub cost: u32,
    /// The hexadecimal digits that the key must begin with.
    pub key_prefix: &'static str,
}

impl Work {
    /// 8 192 000 rounds on average: about a second for the widget on two cores, where a round takes 0.1 µs and Web Crypto
    /// adds 0.2 ms to each key. With more digits and fewer rounds this overhead, which native solvers do not have, would
    /// dominate. With more rounds and fewer digits the check on the server would cost more.
    pub const DEFAULT: Self = Self { cost: 2_000, key_prefix: "000" };

    /// The rounds of the keys in steps that double, after which there is one digit more. A check takes a millisecond at most,
    /// whatever the work.
    const COSTS: [u32; 4] = [1, 2, 4, 8];

    /// This work doubled so many times.
    #[must_use]
    pub(crate) fn doubled(self, times: u8) -> Self {
        // Each digit is four doublings, of which the rounds make the last three.
        let exponent = usize::from(times) + 1;
        let cost = self.cost * Self::COSTS[exponent % 4] / 2;
        let digits = self.key_prefix.len() + exponent / 4;
        Self { cost, key_prefix: &ZEROS[..digits.min(ZEROS.len())] }
    }
}

/// The key prefixes of all works are the first of these.
const ZEROS: &str = "00000000";

/// The contents of a challenge beside its work.
pub(crate) struct ChallengeContents<'a> {
    /// The call that it is valid for.
    pub(crate) purpose: &'a str,
    /// The account that it is valid for, as a keyed hash.
    pub(crate) account: Option<[u8; ACCOUNT_BYTES]>,
    /// When it expires, in seconds since 1970.
    pub(crate) expires_at: u64,
    /// Random.
    pub(crate) nonce: [u8; RANDOM_BYTES],
    /// Random.
    pub(crate) salt: [u8; RANDOM_BYTES],
}

/// A parsed solution. Its signature is not verified yet.
#[derive(Clone)]
pub(crate) struct UnverifiedSolution {
    parameters: ChallengeParameters,
    purpose: String,
    account: Option<String>,
    expires_at: u64,
    signature: String,
    solution: Solution,
}

/// A solution of a challenge that one of the keys signed. Whether it is right is not checked yet.
pub(crate) struct SignedSolution {
    solution: UnverifiedSolution,
    doublings: u8,
}

/// Why a text is not a solution.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unreadable {
    /// More than [`SOLUTION_BYTES_MAX`].
    TooLong,
    /// Not the form of version 2 with the fields that we issue.
    Malformed,
}

/// Signs a challenge and encodes it as the JSON that the widget reads.
pub(crate) fn issue(work: &Work, contents: &ChallengeContents<'_>, key: &hmac::Key) -> String {
    // The order of the fields is that of their names, as the signature needs it.
    let parameters = form::ParametersForm {
        algorithm: ALGORITHM.into(),
        cost: work.cost,
        data: form::DataForm {
            account: contents.account.map(|account| hex(&account)),
            purpose: contents.purpose.into(),
        },
        expires_at: i64::try_from(contents.expires_at).unwrap_or(i64::MAX),
        key_length: KEY_BYTES,
        key_prefix: work.key_prefix.into(),
        nonce: hex(&contents.nonce),
        salt: hex(&contents.salt),
    };
    let parameters = serde_json::to_string(&parameters).expect("text and numbers are always JSON");
    // As the crate signs, without its conversions, which took most of the time of a challenge.
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret(key).as_bytes());
    let signature = hex(hmac::sign(&key, parameters.as_bytes()).as_ref());
    format!(r#"{{"parameters":{parameters},"signature":"{signature}"}}"#)
}

// === impl UnverifiedSolution ===

impl UnverifiedSolution {
    /// Parses what the widget sends: JSON in base64.
    pub(crate) fn parse(text: &str) -> Result<Self, Unreadable> {
        if text.len() > SOLUTION_BYTES_MAX {
            return Err(Unreadable::TooLong);
        }
        let json = STANDARD.decode(text).map_err(|_| Unreadable::Malformed)?;
        let payload: form::PayloadForm = serde_json::from_slice(&json).map_err(|_| Unreadable::Malformed)?;
        let form::ChallengeForm { parameters, signature } = payload.challenge;
        let form::SolutionForm { counter, derived_key, time } = payload.solution;
        Ok(Self {
            purpose: parameters.data.purpose.clone(),
            account: parameters.data.account.clone(),
            // Times before 1970 have expired too.
            expires_at: u64::try_from(parameters.expires_at).unwrap_or_default(),
            parameters: parameters.into(),
            signature,
            solution: Solution { counter, derived_key, time },
        })
    }

    /// The solution, if one of these keys signed its challenge and the challenge asks for this work, doubled a number of times
    /// up to this one. A signature alone does not decide how long this host computes: a key may be stolen.
    pub(crate) fn signed_by(&mut self, work: &Work, doublings_max: u8, keys: &[hmac::Key]) -> Option<SignedSolution> {
        let doublings = (0..=doublings_max).find(|times| self.asks_for(&work.doubled(*times)))?;
        let is_signed = keys.iter().any(|key| {
            let expected = sign(&mut self.parameters, &secret(key)).signature.unwrap_or_default();
            verify_slices_are_equal(expected.as_bytes(), self.signature.as_bytes()).is_ok()
        });
        is_signed.then(|| SignedSolution { solution: self.clone(), doublings })
    }

    /// Whether the challenge has the parameters that are issued with this work.
    fn asks_for(&self, work: &Work) -> bool {
        let ChallengeParameters {
            algorithm,
            cost,
            data: _,
            expires_at: _,
            key_length,
            key_prefix,
            key_signature,
            memory_cost,
            nonce,
            parallelism,
            salt,
        } = &self.parameters;
        (algorithm.as_str(), *cost, *key_length, key_prefix.as_str())
            == (ALGORITHM, work.cost, KEY_BYTES, work.key_prefix)
            && (key_signature, memory_cost, parallelism) == (&None, &None, &None)
            && [nonce, salt].iter().all(|random| random.len() == 2 * RANDOM_BYTES)
    }
}

// === impl SignedSolution ===

impl SignedSolution {
    /// The call that the challenge is valid for.
    pub(crate) fn purpose(&self) -> &str {
        &self.solution.purpose
    }

    /// Whether the challenge is valid for this account. Without one it is valid for every account.
    pub(crate) fn is_for(&self, account: Option<[u8; ACCOUNT_BYTES]>) -> bool {
        self.solution.account.as_ref().is_none_or(|signed| account.is_some_and(|account| hex(&account) == *signed))
    }

    /// How many times the work of the challenge was doubled.
    pub(crate) fn doublings(&self) -> u8 {
        self.doublings
    }

    /// When the challenge expires, in seconds since 1970.
    pub(crate) fn expires_at(&self) -> u64 {
        self.solution.expires_at
    }

    /// Identifies the challenge, independent of the solution: SHA-256 of its signature.
    pub(crate) fn fingerprint(&self) -> [u8; 32] {
        sha256(self.solution.signature.as_bytes())
    }

    /// Derives the key of the solution, which takes up to a millisecond. Returns whether it equals the key that was
    /// sent and begins with the prefix of the challenge.
    pub(crate) fn is_solved(&self) -> bool {
        // The caller compares the expiry with the clock of the store; the crate would use that of the host. So it gets the
        // challenge without an expiry, signed again.
        const SECRET: &str = "the signature was checked";
        let mut parameters = ChallengeParameters { expires_at: None, ..self.solution.parameters.clone() };
        let undated = sign(&mut parameters, SECRET);
        let checked = verify_solution(VerifySolutionOptions::new(&undated, &self.solution.solution, SECRET));
        checked.is_ok_and(|result| result.verified)
    }
}

/// The secret for the crate, which expects text.
fn secret(key: &hmac::Key) -> String {
    URL_SAFE_NO_PAD.encode(hmac::sign(key, b"altcha 2"))
}

fn sign(parameters: &mut ChallengeParameters, secret: &str) -> Challenge {
    sign_challenge(&HmacAlgorithm::Sha256, parameters, None, secret, None)
        .expect("text and numbers are always JSON, and every text is a secret")
}

/// The JSON that the widget reads and sends.
mod form {
    use serde::{Deserialize, Serialize};
    use serde_json::Value;

    use super::{BTreeMap, ChallengeParameters};

    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    pub(super) struct PayloadForm {
        pub(super) challenge: ChallengeForm,
        pub(super) solution: SolutionForm,
    }

    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    pub(super) struct ChallengeForm {
        pub(super) parameters: ParametersForm,
        pub(super) signature: String,
    }

    #[derive(Serialize, Deserialize)]
    #[serde(deny_unknown_fields, rename_all = "camelCase")]
    pub(super) struct ParametersForm {
        pub(super) algorithm: String,
        pub(super) cost: u32,
        pub(super) data: DataForm,
        pub(super) expires_at: i64,
        pub(super) key_length: usize,
        pub(super) key_prefix: String,
        pub(super) nonce: String,
        pub(super) salt: String,
    }

    impl From<ParametersForm> for ChallengeParameters {
        fn from(form: ParametersForm) -> Self {
            Self {
                algorithm: form.algorithm,
                cost: form.cost,
                data: Some(form.data.into()),
                expires_at: Some(form.expires_at),
                key_length: form.key_length,
                key_prefix: form.key_prefix,
                key_signature: None,
                memory_cost: None,
                nonce: form.nonce,
                parallelism: None,
                salt: form.salt,
            }
        }
    }

    #[derive(Serialize, Deserialize)]
    #[serde(deny_unknown_fields)]
    pub(super) struct DataForm {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub(super) account: Option<String>,
        pub(super) purpose: String,
    }

    impl From<DataForm> for BTreeMap<String, Value> {
        fn from(form: DataForm) -> Self {
            let account = form.account.map(|account| ("account".to_owned(), account.into()));
            [("purpose".to_owned(), form.purpose.into())].into_iter().chain(account).collect()
        }
    }

    #[derive(Deserialize)]
    #[serde(deny_unknown_fields, rename_all = "camelCase")]
    pub(super) struct SolutionForm {
        pub(super) counter: u32,
        pub(super) derived_key: String,
        /// Milliseconds that the solver took. Not used.
        #[serde(default)]
        pub(super) time: Option<f64>,
    }
}

#[cfg(test)]
mod tests {
    use altcha::{Payload, SolveChallengeOptions, solve_challenge};

    use super::*;

    const WORK: Work = Work { cost: 10, key_prefix: "0" };

    fn key(secret: &[u8]) -> hmac::Key {
        hmac::Key::new(hmac::HMAC_SHA256, secret)
    }

    fn issued(key: &hmac::Key) -> String {
        let contents = ChallengeContents {
            purpose: "login",
            account: None,
            expires_at: 1_800_000_000,
            nonce: [0xAB; 16],
            salt: [0xCD; 16],
        };
        issue(&WORK, &contents, key)
    }

    fn presented(key: &hmac::Key) -> UnverifiedSolution {
        let challenge: Challenge = serde_json::from_str(&issued(key)).unwrap();
        let solution = solve_challenge(SolveChallengeOptions::new(&challenge)).unwrap().unwrap();
        let payload = serde_json::to_string(&Payload { challenge, solution }).unwrap();
        UnverifiedSolution::parse(&STANDARD.encode(payload)).ok().unwrap()
    }

    /// During an upgrade nodes of two versions run side by side, and each must accept what the other signed.
    #[test]
    fn challenge_has_the_same_bytes_as_in_earlier_versions() {
        let text = concat!(
            r#"{"parameters":{"algorithm":"PBKDF2/SHA-256","cost":10,"data":{"purpose":"login"},"expiresAt":1800000000,"#,
            r#""keyLength":32,"keyPrefix":"0","nonce":"abababababababababababababababab","#,
            r#""salt":"cdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcd"},"signature":"0e78559ea120019e7116a8fee3303d6af7b807a8d63d105b372796c9a9eebec0"}"#,
        );
        assert_eq!(issued(&key(b"key")), text);
    }

    #[test]
    fn solution_is_signed_only_under_a_key_that_signed_its_challenge() {
        let (mine, other) = (key(b"key"), key(b"other"));
        let signed = presented(&mine).signed_by(&WORK, 0, &[other.clone(), mine.clone()]).unwrap();
        assert_eq!((signed.purpose(), signed.expires_at(), signed.is_solved()), ("login", 1_800_000_000, true));
        assert!(presented(&mine).signed_by(&WORK, 0, &[other.clone(), other]).is_none());
        assert!(presented(&mine).signed_by(&WORK, 0, &[]).is_none());
    }

    #[test]
    fn signed_challenge_that_asks_for_other_work_is_not_computed() {
        let mine = key(b"key");
        for work in [Work { cost: 11, ..WORK }, Work { cost: 400_000_000, ..WORK }, Work { key_prefix: "", ..WORK }] {
            assert!(presented(&mine).signed_by(&work, 0, std::slice::from_ref(&mine)).is_none(), "{work:?}");
        }
        for change in [
            |parameters: &mut ChallengeParameters| parameters.key_length = 64,
            |parameters: &mut ChallengeParameters| parameters.algorithm = "PBKDF2/SHA-512".into(),
            |parameters: &mut ChallengeParameters| parameters.salt.push('0'),
        ] {
            let mut changed = presented(&mine);
            change(&mut changed.parameters);
            changed.signature = sign(&mut changed.parameters, &secret(&mine)).signature.unwrap();
            assert!(changed.signed_by(&WORK, 0, std::slice::from_ref(&mine)).is_none());
        }
    }

    /// The crate would compare the expiry with the clock of the host, not of the store.
    #[test]
    fn expired_solution_is_still_solved() {
        let mine = key(b"key");
        let mut expired = presented(&mine);
        expired.parameters.expires_at = Some(1);
        assert!(SignedSolution { solution: expired, doublings: 0 }.is_solved());
    }

    #[test]
    fn work_doubles_exactly_and_a_check_takes_no_more_than_8000_rounds() {
        let total = |work: Work| u64::from(work.cost) << (4 * work.key_prefix.len());
        for times in 0..=12 {
            let work = Work::DEFAULT.doubled(times);
            assert_eq!(total(work), total(Work::DEFAULT) << times, "{work:?}");
            assert!(work.cost <= 8_000, "{work:?}");
        }
    }
}
