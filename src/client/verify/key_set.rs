//! The published keys, parsed from a JWK set (RFC 7517).

use std::collections::HashMap;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::Value;

use crate::common::bearer;

/// Bytes of a coordinate on P-256.
const COORDINATE_BYTES: usize = 32;

/// Public keys by the header, in base64url, of the tokens that they sign.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct KeySet(HashMap<String, Vec<u8>>);

impl KeySet {
    /// Parses a document. `None` if it is not a JWK set or has no key that can sign an access token of Watchword. Keys of
    /// other kinds are ignored, because other algorithms may be added.
    pub(super) fn parse(document: &[u8]) -> Option<Self> {
        let document: Value = serde_json::from_slice(document).ok()?;
        let keys: HashMap<_, _> = document["keys"].as_array()?.iter().filter_map(key).collect();
        (!keys.is_empty()).then_some(Self(keys))
    }

    /// The key for the header of a token: its point, uncompressed.
    pub(super) fn get(&self, header: &str) -> Option<&[u8]> {
        self.0.get(header).map(Vec::as_slice)
    }
}

fn key(key: &Value) -> Option<(String, Vec<u8>)> {
    let is = |name: &str, expected: &str| key[name] == expected;
    let is_or_absent = |name: &str, expected: &str| key[name].is_null() || is(name, expected);
    if !(is("kty", "EC") && is("crv", "P-256") && is_or_absent("alg", "ES256") && is_or_absent("use", "sig")) {
        return None;
    }
    let mut point = vec![4];
    for name in ["x", "y"] {
        let coordinate = URL_SAFE_NO_PAD.decode(key[name].as_str()?).ok()?;
        point.extend((coordinate.len() == COORDINATE_BYTES).then_some(coordinate)?);
    }
    Some((bearer::header(key["kid"].as_str()?), point))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_keys_that_can_sign_access_tokens_are_parsed() {
        let half = URL_SAFE_NO_PAD.encode([1; 32]);
        let good = json!({"kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "kid": "a", "x": half, "y": half});
        let read = |keys: Value| KeySet::parse(json!({ "keys": keys }).to_string().as_bytes());
        assert!(read(json!([good])).expect("one key").get(&bearer::header("a")).is_some());
        for (name, value) in [
            ("kty", json!("RSA")),
            ("crv", json!("P-384")),
            ("alg", json!("HS256")),
            ("use", json!("enc")),
            ("kid", json!(7)),
            ("x", json!("")),
            ("y", json!(URL_SAFE_NO_PAD.encode([1; 33]))),
            ("y", json!("=")),
            ("x", json!(null)),
        ] {
            let mut other = good.clone();
            other[name] = value;
            assert_eq!(read(json!([other])), None, "{other}");
            assert_eq!(read(json!([good, other])).expect("one key").0.len(), 1, "{other}");
        }
        for none in ["", "[]", "{}", "null", r#"{"keys":{}}"#, r#"{"keys":[]}"#, r#"{"keys":[null,1,"x",[]]}"#] {
            assert_eq!(KeySet::parse(none.as_bytes()), None, "{none}");
        }
        assert_eq!(KeySet::parse("[".repeat(100_000).as_bytes()), None);
    }
}
