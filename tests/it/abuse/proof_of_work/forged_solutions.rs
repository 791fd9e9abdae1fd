//! T39 and T40: tampered, forged and wrong solutions are refused, and a flood of them is cheap for the server.

use std::sync::Arc;

use altcha::Solution;
use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use watchword::api::pb;

use super::{LOGIN, REGISTER, challenge, encoded, is_invalid, payload, solved, with_challenges};
use crate::support::{
    Api, App, StoreKind,
    fault::{Fault, Faulty},
    http, is_full, password, query, reason,
};

/// Changes of a valid solution: a description, the solution, and the expected reason. None of them may spend the challenge.
fn tampered(valid: &Value) -> Vec<(String, String, &'static str)> {
    let mut attacks = Vec::new();
    let mut add = |description: &str, reason, change: &dyn Fn(&mut Value)| {
        let mut tampered = valid.clone();
        change(&mut tampered);
        assert_ne!(tampered, *valid, "{description}");
        attacks.push((description.to_owned(), encoded(&tampered), reason));
    };
    let parameters =
        |change: fn(&mut Value)| move |payload: &mut Value| change(&mut payload["challenge"]["parameters"]);
    add("easier algorithm", "forged", &parameters(|p| p["algorithm"] = "SHA-256".into()));
    add("fewer rounds", "forged", &parameters(|p| p["cost"] = 1.into()));
    add("no prefix", "forged", &parameters(|p| p["keyPrefix"] = "".into()));
    add("shorter key", "forged", &parameters(|p| p["keyLength"] = 1.into()));
    add("later expiry", "forged", &parameters(|p| p["expiresAt"] = (p["expiresAt"].as_i64().unwrap() + 3_600).into()));
    add("no expiry", "forged", &parameters(|p| p["expiresAt"] = 0.into()));
    add("other purpose", "forged", &parameters(|p| p["data"]["purpose"] = "login".into()));
    add("other nonce", "forged", &parameters(|p| p["nonce"] = "00".repeat(16).into()));
    add("other salt", "forged", &parameters(|p| p["salt"] = "00".repeat(16).into()));
    // CVE-2025-68113 in the current format: digits from the end of one part are moved to the beginning of the next.
    add("moved digits", "forged", &|payload| {
        let nonce = payload["challenge"]["parameters"]["nonce"].as_str().unwrap().to_owned();
        payload["challenge"]["parameters"]["nonce"] = nonce[..24].into();
        payload["solution"]["counter"] = u32::from_str_radix(&nonce[24..], 16).unwrap().into();
    });
    add("no signature", "malformed", &|p| drop(p["challenge"].as_object_mut().unwrap().remove("signature")));
    add("empty signature", "forged", &|p| p["challenge"]["signature"] = "".into());
    add("signature in capitals", "forged", &|p| {
        p["challenge"]["signature"] = p["challenge"]["signature"].as_str().unwrap().to_uppercase().into();
    });
    add("a key signature that the crate would accept", "malformed", &parameters(|p| p["keySignature"] = "00".into()));
    add("an unsigned parameter", "malformed", &parameters(|p| p["memoryCost"] = 1.into()));
    add("unsigned data", "malformed", &parameters(|p| p["data"]["admin"] = true.into()));
    add("an unsigned field", "malformed", &|p| p["verified"] = true.into());
    add("an unsigned field of the challenge", "malformed", &|p| p["challenge"]["configuration"] = json!({}));
    add("an unsigned field of the solution", "malformed", &|p| p["solution"]["x"] = 1.into());
    add("a counter of 33 bits", "malformed", &|p| p["solution"]["counter"] = 4_294_967_296_u64.into());
    add("a negative counter", "malformed", &|p| p["solution"]["counter"] = (-1).into());
    add("no key", "malformed", &|p| drop(p["solution"].as_object_mut().unwrap().remove("derivedKey")));
    attacks
}

/// Text that is no solution: a description, the text, and the expected reason.
fn garbage(valid: &Value) -> Vec<(String, String, &'static str)> {
    let text = valid.to_string();
    let padded = format!("{text}{}", " ".repeat(5 * 1_024 - text.len()));
    let version_1 = |salt: &str, number: u32| json!({ "algorithm": "SHA-256", "challenge": "00", "number": number, "salt": salt, "signature": "00", "took": 1 });
    // Its base64 ends with two characters of padding.
    let uneven = format!("{text}{}", " ".repeat((4 - text.len() % 3) % 3));
    let cases = [
        ("5 KiB", STANDARD.encode(padded), "too_long"),
        ("5 KiB of zeros", "A".repeat(5 * 1_024), "too_long"),
        ("version 1", encoded(&version_1("aa?expires=9999999999&", 123)), "malformed"),
        ("version 1, its digits moved", encoded(&version_1("aa?expires=99999999991", 23)), "malformed"),
        ("no base64", "{}".into(), "malformed"),
        ("JSON itself", text.clone(), "malformed"),
        ("no padding", STANDARD.encode(uneven).replace("==", ""), "malformed"),
        ("two payloads", STANDARD.encode(format!("{text}{text}")), "malformed"),
        ("a field twice", STANDARD.encode(text.replacen("\"counter\"", "\"counter\":0,\"counter\"", 1)), "malformed"),
        ("not UTF-8", STANDARD.encode(b"\"\xFF\""), "malformed"),
        ("deep nesting", STANDARD.encode("[".repeat(3_000)), "malformed"),
    ];
    cases.into_iter().map(|(description, proof, reason)| (description.to_owned(), proof, reason)).collect()
}

#[tokio::test]
async fn tampered_solutions_are_refused_without_deriving_a_key_or_spending_the_challenge() {
    let app = with_challenges(StoreKind::Memory).start().await;
    for api in Api::ALL {
        let challenge = challenge(&app, REGISTER).await;
        let valid = payload(&challenge, &solved(&challenge));
        let (checked, accepted) = (app.events.count("challenge checked"), app.events.count("challenge accepted"));
        for (description, proof, reason) in tampered(&valid).into_iter().chain(garbage(&valid)) {
            let before = app.events.count(reason);
            let answer = api.register_with(&app, "eve", &password("eve"), "", &proof).await;
            assert!(is_invalid(&answer), "{api:?}, {description}: {answer:?}");
            assert_eq!(app.events.count(reason), before + 1, "{api:?}, {description} is not {reason}");
        }
        let wrong_purpose = api.login_with(&app, "eve", &password("eve"), &encoded(&valid)).await;
        assert!(is_invalid(&wrong_purpose) && app.events.count("other_purpose") > 0, "{wrong_purpose:?}");
        assert_eq!(app.events.count("challenge checked"), checked, "a key was derived");
        assert_eq!(app.events.count("challenge accepted"), accepted);
        let name = format!("ada-{api:?}");
        let answer = api.register_with(&app, &name, &password(&name), "", &encoded(&valid)).await;
        assert_eq!(answer.outcome(), "ok", "the challenge was not spent");
    }
}

#[tokio::test]
async fn wrong_solution_is_refused_and_spends_its_challenge() {
    let app = with_challenges(StoreKind::Memory).start().await;
    for api in Api::ALL {
        // The correct key of counter 0. It lacks the required prefix, except for one challenge in sixteen.
        let (challenge, first) = loop {
            let challenge = challenge(&app, REGISTER).await;
            let mut easy = challenge.clone();
            easy.parameters.key_prefix.clear();
            let first = solved(&easy);
            assert_eq!(first.counter, 0);
            if !first.derived_key.starts_with(&challenge.parameters.key_prefix) {
                break (challenge, first);
            }
        };
        let correct = solved(&challenge);
        let wrong_key = Solution { derived_key: first.derived_key.clone(), ..correct.clone() };
        let no_key = Solution { derived_key: String::new(), ..correct.clone() };
        let prefix_only = Solution { derived_key: challenge.parameters.key_prefix.clone(), ..correct.clone() };
        let before = app.events.count("unsolved");
        let answer = api.register_with(&app, "eve", &password("eve"), "", &encoded(&payload(&challenge, &first))).await;
        assert!(is_invalid(&answer) && app.events.count("unsolved") == before + 1, "{answer:?}");
        let after_wrong =
            api.register_with(&app, "eve", &password("eve"), "", &encoded(&payload(&challenge, &correct))).await;
        assert!(is_invalid(&after_wrong), "a wrong solution spends the challenge: {after_wrong:?}");
        for wrong in [wrong_key, no_key, prefix_only] {
            let fresh = self::challenge(&app, REGISTER).await;
            let counter = solved(&fresh).counter;
            let proof = encoded(&payload(&fresh, &Solution { counter, ..wrong }));
            assert!(is_invalid(&api.register_with(&app, "eve", &password("eve"), "", &proof).await));
        }
        assert_eq!(app.events.count("unsolved"), before + 4);
    }
    assert_eq!(app.events.count("challenge accepted"), 0);
}

#[tokio::test]
async fn longest_allowed_solution_is_accepted() {
    let app = with_challenges(StoreKind::Memory).start().await;
    let challenge = challenge(&app, REGISTER).await;
    let text = payload(&challenge, &solved(&challenge)).to_string();
    let longest = STANDARD.encode(format!("{text}{}", " ".repeat(3 * 1_024 - text.len())));
    assert_eq!(longest.len(), 4 * 1_024);
    assert_eq!(Api::Grpc.register_with(&app, "ada", &password("ada"), "", &longest).await.outcome(), "ok");
}

/// T40. The store refuses all calls, and an event counts each derived key.
#[tokio::test(flavor = "multi_thread")]
async fn flood_of_forged_solutions_derives_no_key_and_does_not_read_the_store() {
    let flood = if is_full() { 20_000 } else { 2_000 };
    let faulty = Faulty::with(Fault::None);
    let app = Arc::new(App::on(faulty.clone()).args(&["--challenge", "both"]).start().await);
    let challenge = challenge(&app, LOGIN).await;
    let mut forged = payload(&challenge, &solved(&challenge));
    faulty.set(Fault::Down);
    let client = app.client().await;
    let mut calls = JoinSet::new();
    for number in 0..flood {
        forged["challenge"]["parameters"]["nonce"] = format!("{number:032x}").into();
        let request = pb::LoginRequest {
            username: "ada".into(),
            password: password("ada"),
            challenge_solution: encoded(&forged),
        };
        let mut client = client.clone();
        calls.spawn(async move { reason(&client.login(request).await.unwrap_err()) });
    }
    assert!(calls.join_all().await.iter().all(|reason| reason == "CHALLENGE_INVALID"));
    let target = format!("/login?{}", query(&[("username", "ada"), ("password", "x"), ("altcha", &encoded(&forged))]));
    assert_eq!(http(app.http_socket(), "GET", &target, &[], "").await.status, 400);
    assert_eq!(app.events.count("forged"), flood + 1);
    for event in ["challenge checked", "challenge spent", "store failed", "hashed"] {
        assert_eq!(app.events.count(event), 0, "{event}");
    }
}
