//! ALTCHA solutions: only a signed challenge is accepted, and each challenge has one fingerprint, by which it is used once.

use std::sync::LazyLock;

use altcha::{Challenge, Payload, SolveChallengeOptions, solve_challenge};
use aws_lc_rs::hmac;
use base64::{Engine, engine::general_purpose::STANDARD};

use super::texts;
use crate::common::altcha::{
    ChallengeContents, SOLUTION_BYTES_MAX, SignedSolution, Unreadable, UnverifiedSolution, Work, issue,
};

const PURPOSE: &str = "login";
const EXPIRES_AT: u64 = 1_800_000_000;
const WORK: Work = Work { cost: 10, key_prefix: "0" };

/// An issued challenge: its solution, and its fingerprint.
struct IssuedChallenge {
    payload: String,
    fingerprint: [u8; 32],
}

static ISSUED: LazyLock<IssuedChallenge> = LazyLock::new(|| {
    let contents = ChallengeContents {
        purpose: PURPOSE,
        account: None,
        expires_at: EXPIRES_AT,
        nonce: [0xAB; 16],
        salt: [0xCD; 16],
    };
    let text = issue(&WORK, &contents, &key("issuing"));
    let challenge: Challenge = serde_json::from_str(&text).expect("issued JSON is valid");
    let solution = solve_challenge(SolveChallengeOptions::new(&challenge))
        .expect("the challenge is valid")
        .expect("a solution exists");
    let payload = serde_json::to_string(&Payload { challenge, solution }).expect("text and numbers are JSON");
    let signed = signed(&STANDARD.encode(&payload), "issuing").expect("the key signed it");
    assert!(signed.is_solved());
    IssuedChallenge { payload, fingerprint: signed.fingerprint() }
});

/// JSON, which is sent in base64, and texts that are sent unchanged.
pub(super) fn seeds() -> Vec<Vec<u8>> {
    let good = ISSUED.payload.as_str();
    let mut seeds = texts(&[
        good,
        &good.replace("login", "register"),
        &good.replace("\"cost\":10", "\"cost\":4294967295"),
        &good.replace("\"keyLength\":32", "\"keyLength\":18446744073709551615"),
        &good.replace("1800000000", "-1"),
        &good.replace("\"keyPrefix\":\"0\"", "\"keyPrefix\":\"\""),
        &good.replace("cdcd", "CDCD"),
        &good.replacen('{', "{\"x\":[[[[{}]]]],", 1),
        "{\"challenge\":{},\"solution\":{\"counter\":1e308,\"derivedKey\":\"\",\"time\":null}}",
    ]);
    seeds.push(STANDARD.encode(good).into_bytes());
    seeds.push(format!("{good}{}", " ".repeat(SOLUTION_BYTES_MAX)).into_bytes());
    seeds
}

pub(super) fn try_input(input: &[u8]) {
    try_text(&STANDARD.encode(input));
    if let Ok(text) = std::str::from_utf8(input) {
        try_text(text);
    }
}

fn try_text(text: &str) {
    let is_too_long = matches!(UnverifiedSolution::parse(text), Err(Unreadable::TooLong));
    assert_eq!(is_too_long, text.len() > SOLUTION_BYTES_MAX);
    assert!(signed(text, "other").is_none(), "accepted under a key that did not sign it");
    let Some(signed) = signed(text, "issuing") else { return };
    assert_eq!((signed.purpose(), signed.expires_at()), (PURPOSE, EXPIRES_AT), "a signature covers every field");
    assert_eq!(signed.fingerprint(), ISSUED.fingerprint, "a challenge has two fingerprints");
    // Must not panic, for a right or a wrong solution.
    signed.is_solved();
}

fn signed(text: &str, secret: &str) -> Option<SignedSolution> {
    UnverifiedSolution::parse(text).ok()?.signed_by(&WORK, 0, &[key(secret)])
}

fn key(secret: &str) -> hmac::Key {
    hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes())
}
