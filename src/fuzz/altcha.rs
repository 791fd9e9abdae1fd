//! Solutions of ALTCHA's challenges: only what we signed counts, and each challenge has one fingerprint, by which it is spent.

use std::sync::LazyLock;

use altcha::{Challenge, Payload, SolveChallengeOptions, solve_challenge};
use aws_lc_rs::hmac;
use base64::{Engine, engine::general_purpose::STANDARD};

use super::texts;
use crate::common::altcha::{Presented, SOLUTION_BYTES_MAX, Signed, Terms, Unreadable, Work, issue};

const PURPOSE: &str = "login";
const EXPIRES_AT: u64 = 1_800_000_000;

/// What we issued: as it comes back solved, and by what it is known.
struct Issued {
    payload: String,
    fingerprint: [u8; 32],
}

static ISSUED: LazyLock<Issued> = LazyLock::new(|| {
    let terms = Terms { purpose: PURPOSE, expires_at: EXPIRES_AT, nonce: [0xAB; 16], salt: [0xCD; 16] };
    let text = issue(&Work { cost: 10, key_prefix: "0" }, &terms, &key("ours"));
    let challenge: Challenge = serde_json::from_str(&text).expect("our own JSON");
    let solution = solve_challenge(SolveChallengeOptions::new(&challenge)).expect("it can be solved").expect("and is");
    let payload = serde_json::to_string(&Payload { challenge, solution }).expect("text and numbers");
    let signed = signed(&STANDARD.encode(&payload), "ours").expect("we signed it");
    assert!(signed.is_solved());
    Issued { payload, fingerprint: signed.fingerprint() }
});

/// The JSON that is sent in base64; and texts that are tried as they are.
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
    let is_too_long = matches!(Presented::read(text), Err(Unreadable::TooLong));
    assert_eq!(is_too_long, text.len() > SOLUTION_BYTES_MAX);
    assert!(signed(text, "somebody else").is_none(), "under a key that signed nothing");
    let Some(signed) = signed(text, "ours") else { return };
    assert_eq!((signed.purpose(), signed.expires_at()), (PURPOSE, EXPIRES_AT), "a signature covers all of it");
    assert_eq!(signed.fingerprint(), ISSUED.fingerprint, "one challenge is spent once");
    // Right or wrong, it costs one key of our own challenge.
    signed.is_solved();
}

fn signed(text: &str, secret: &str) -> Option<Signed> {
    Presented::read(text).ok()?.signed_by(&[key(secret)])
}

fn key(secret: &str) -> hmac::Key {
    hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes())
}
