//! The corpus of T14: invalid tokens that look like valid ones, derived from a valid token.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};

/// Decodes the header (`number` 0) or the claims (1) of a token.
pub fn part(token: &str, number: usize) -> Value {
    let part = token.split('.').nth(number).unwrap();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
}

/// Invalid tokens that resemble the valid token `good`, each with a description of its fault.
pub fn hostile(good: &str) -> Vec<(String, String)> {
    let encode = |text: &str| URL_SAFE_NO_PAD.encode(text);
    let [head, payload, signature] = <[&str; 3]>::try_from(good.split('.').collect::<Vec<_>>()).unwrap();
    let (header, claims) = (part(good, 0), part(good, 1));
    let mut all: Vec<(String, String)> = Vec::new();
    let mut add = |what: String, token: String| all.push((what, token));
    // Changed headers with the unchanged signature, and without a signature.
    for algorithm in [
        "none", "None", "NONE", "nOnE", "noNE", "HS256", "HS384", "RS256", "PS256", "ES384", "EdDSA", "es256", "",
        " ES256",
    ] {
        let mut changed = header.clone();
        changed["alg"] = json!(algorithm);
        let changed = encode(&changed.to_string());
        add(format!("alg {algorithm}"), format!("{changed}.{payload}.{signature}"));
        add(format!("alg {algorithm}, no signature"), format!("{changed}.{payload}."));
        add(format!("alg {algorithm}, no third part"), format!("{changed}.{payload}"));
    }
    for kid in ["../../../../dev/null", "", "0", "' OR 1=1 --", "http://evil.example/key", "\u{0}", "watchword:keys"] {
        let mut changed = header.clone();
        changed["kid"] = json!(kid);
        add(format!("kid {kid}"), format!("{}.{payload}.{signature}", encode(&changed.to_string())));
    }
    for (name, value) in [
        ("jku", json!("http://evil.example/jwks.json")),
        ("x5u", json!("http://evil.example/cert.pem")),
        ("jwk", json!({"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA"})),
        ("crit", json!(["exp"])),
        ("b64", json!(false)),
        ("typ", json!("JWT")),
        ("typ", json!("at+JWT")),
        ("zip", json!("DEF")),
        ("enc", json!("A256GCM")),
    ] {
        let mut changed = header.clone();
        changed[name] = value;
        add(format!("{name} in the header"), format!("{}.{payload}.{signature}", encode(&changed.to_string())));
    }
    // Changed claims with the unchanged signature.
    for (name, value) in [
        ("sub", json!("00000000-0000-7000-8000-000000000000")),
        ("exp", json!(u64::MAX)),
        ("exp", json!(claims["exp"].as_u64().unwrap() + 1)),
        ("exp", json!("never")),
        ("iat", json!(0)),
        ("nbf", json!(0)),
        ("aud", json!("another")),
        ("aud", json!(["watchword", "another"])),
        ("iss", json!("https://evil.example")),
        ("sid", json!("00000000-0000-7000-8000-000000000000")),
        ("admin", json!(true)),
    ] {
        let mut changed = claims.clone();
        changed[name] = value;
        add(format!("{name} changed"), format!("{head}.{}.{signature}", encode(&changed.to_string())));
    }
    // Truncated tokens, added text, and every byte of the signature changed.
    for cut in (0..good.len()).step_by(good.len() / 60) {
        add(format!("cut at {cut}"), good[..cut.max(1)].to_owned());
    }
    for at in 0..signature.len() {
        let mut changed = signature.as_bytes().to_vec();
        changed[at] = if changed[at] == b'A' { b'Q' } else { b'A' };
        add(format!("signature byte {at}"), format!("{head}.{payload}.{}", String::from_utf8(changed).unwrap()));
    }
    for affix in ["=", "==", ".", "..", ".x", " ", "\n", "\0", "%00", "é"] {
        add(format!("with suffix {affix:?}"), format!("{good}{affix}"));
        add(format!("with prefix {affix:?}"), format!("{affix}{good}"));
    }
    add("signature of zeros".into(), format!("{head}.{payload}.{}", URL_SAFE_NO_PAD.encode([0; 64])));
    add("signature in DER".into(), format!("{head}.{payload}.{}", URL_SAFE_NO_PAD.encode([0x30, 6, 2, 1, 1, 2, 1, 1])));
    add("long".into(), format!("{head}.{}.{signature}", "A".repeat(12_000)));
    let flat = json!({"protected": head, "payload": payload, "signature": signature});
    add("JSON serialisation".into(), flat.to_string());
    add("general JSON serialisation".into(), json!({"payload": payload, "signatures": [flat]}).to_string());
    add("five parts".into(), format!("{head}.AA.AA.{payload}.{signature}"));
    add("in quotes".into(), format!("\"{good}\""));
    add("with a scheme".into(), format!("Bearer {good}"));
    all
}
