//! Others check our tokens by themselves, with the keys that they fetch and the libraries that they have.

use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header, jwk::JwkSet};
use serde_json::Value;

use crate::support::{App, StoreKind, TestStore, app, http};

async fn fetch(app: &App, path: &str) -> Value {
    let reply = http(app.http_socket(), "GET", path, &[], "").await;
    assert_eq!((reply.status, reply.header("content-type")), (200, Some("application/json")), "{path}");
    serde_json::from_str(&reply.body).unwrap()
}

const KEYS: &str = "/.well-known/jwks.json";

#[tokio::test]
async fn a_foreign_library_verifies_our_tokens_with_the_published_keys_and_finds_theirs_wrong() {
    for kind in StoreKind::ALL {
        let app = App::with(kind).start().await;
        app.registered("ada").await;
        let token = app.authenticate("ada").await.access_token;
        let keys: JwkSet = serde_json::from_value(fetch(&app, KEYS).await).unwrap();
        let key_id = decode_header(&token).unwrap().kid.unwrap();
        let key = DecodingKey::from_jwk(keys.find(&key_id).expect("the key is published")).unwrap();
        let mut expected = Validation::new(Algorithm::ES256);
        expected.set_issuer(&[format!("http://{}", app.http_socket())]);
        expected.set_audience(&["watchword"]);
        expected.set_required_spec_claims(&["exp", "aud", "iss", "sub"]);
        let claims = decode::<Value>(&token, &key, &expected).unwrap().claims;
        assert_eq!(claims["sid"].as_str().unwrap().len(), 36);
        expected.set_audience(&["another"]);
        assert!(decode::<Value>(&token, &key, &expected).is_err());
    }
}

#[tokio::test]
async fn the_keys_may_be_kept_for_a_while_and_say_nothing_private() {
    let app = app().await;
    let reply = http(app.http_socket(), "GET", KEYS, &[], "").await;
    assert_eq!(reply.header("cache-control"), Some("public, max-age=300"));
    let etag = reply.header("etag").unwrap().to_owned();
    let known = http(app.http_socket(), "GET", KEYS, &[("if-none-match", &etag)], "").await;
    assert_eq!((known.status, known.body.as_str()), (304, ""));
    let other = http(app.http_socket(), "GET", KEYS, &[("if-none-match", "\"other\"")], "").await;
    assert_eq!(other.status, 200);
    let keys: Value = serde_json::from_str(&reply.body).unwrap();
    for key in keys["keys"].as_array().unwrap() {
        let mut names: Vec<_> = key.as_object().unwrap().keys().map(String::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["alg", "crv", "kid", "kty", "use", "x", "y"]);
    }
    assert_eq!(http(app.http_socket(), "POST", KEYS, &[], "").await.status, 405);
}

#[tokio::test]
async fn the_metadata_lead_to_the_keys_and_claim_nothing_that_is_not_there() {
    let app = app().await;
    let plain = fetch(&app, "/.well-known/oauth-authorization-server").await;
    assert_eq!(plain, fetch(&app, "/.well-known/openid-configuration").await);
    assert_eq!(plain["issuer"], format!("http://{}", app.http_socket()));
    assert_eq!(plain["jwks_uri"], format!("http://{}{KEYS}", app.http_socket()));
    assert!(plain["note"].as_str().unwrap().contains("not an OpenID Provider"));
    for name in ["authorization_endpoint", "token_endpoint", "introspection_endpoint"] {
        assert_eq!(plain[name], Value::Null, "{name}");
    }
}

/// One ring, whoever comes first: tokens of every node are verified with the keys of any.
#[tokio::test(flavor = "multi_thread")]
async fn nodes_that_start_together_make_one_ring_of_keys() {
    let place = TestStore::new(StoreKind::Redis);
    let mut nodes = Vec::new();
    for _ in 0..4 {
        nodes.push(App::with(StoreKind::Redis).start_in(place.clone()).await);
    }
    let fetched = futures_util::future::join_all(nodes.iter().map(|node| fetch(node, KEYS))).await;
    assert!(fetched.iter().all(|keys| *keys == fetched[0]), "{fetched:?}");
    assert_eq!(fetched[0]["keys"].as_array().unwrap().len(), 1);
}

/// T29 of tokens: no key, no answer.
#[tokio::test]
async fn without_a_store_there_are_no_keys_to_hand_out() {
    use crate::support::fault::{Fault, Faulty};
    let app = App::on(Faulty::with(Fault::Down)).start().await;
    let reply = http(app.http_socket(), "GET", KEYS, &[], "").await;
    assert_eq!(reply.status, 503);
    assert!(reply.header("retry-after").is_some());
}
