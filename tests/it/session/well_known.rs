//! The published keys and metadata, with which other services verify tokens offline with their own libraries.

use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header, jwk::JwkSet};
use serde_json::Value;

use crate::support::{
    App, StoreKind, TestStore, app,
    fault::{Fault, Faulty},
    http,
};

async fn fetch(app: &App, path: &str) -> Value {
    let reply = http(app.http_socket(), "GET", path, &[], "").await;
    assert_eq!((reply.status, reply.header("content-type")), (200, Some("application/json")), "{path}");
    serde_json::from_str(&reply.body).unwrap()
}

const KEYS: &str = "/.well-known/jwks.json";

#[tokio::test]
async fn jwt_library_verifies_tokens_with_the_published_keys_and_the_audience() {
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
async fn published_keys_are_cacheable_and_have_no_private_fields() {
    let app = app().await;
    let reply = http(app.http_socket(), "GET", KEYS, &[], "").await;
    assert_eq!(reply.header("cache-control"), Some("public, max-age=300"));
    let etag = reply.header("etag").unwrap().to_owned();
    let unchanged = http(app.http_socket(), "GET", KEYS, &[("if-none-match", &etag)], "").await;
    assert_eq!((unchanged.status, unchanged.body.as_str()), (304, ""));
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
async fn metadata_names_the_key_url_and_only_endpoints_that_exist() {
    let app = app().await;
    let metadata = fetch(&app, "/.well-known/oauth-authorization-server").await;
    assert_eq!(metadata, fetch(&app, "/.well-known/openid-configuration").await);
    assert_eq!(metadata["issuer"], format!("http://{}", app.http_socket()));
    assert_eq!(metadata["jwks_uri"], format!("http://{}{KEYS}", app.http_socket()));
    assert!(metadata["note"].as_str().unwrap().contains("not an OpenID Provider"));
    for name in ["authorization_endpoint", "token_endpoint", "introspection_endpoint"] {
        assert_eq!(metadata[name], Value::Null, "{name}");
    }
}

/// Every node verifies the tokens of all nodes, so nodes that start together must share one key ring.
#[tokio::test(flavor = "multi_thread")]
async fn nodes_that_start_together_create_one_key_ring() {
    let store = TestStore::new(StoreKind::Redis);
    let mut nodes = Vec::new();
    for _ in 0..4 {
        nodes.push(App::with(StoreKind::Redis).start_in(store.clone()).await);
    }
    let fetched = futures_util::future::join_all(nodes.iter().map(|node| fetch(node, KEYS))).await;
    assert!(fetched.iter().all(|keys| *keys == fetched[0]), "{fetched:?}");
    assert_eq!(fetched[0]["keys"].as_array().unwrap().len(), 1);
}

/// T29, for tokens: without a store no keys are served.
#[tokio::test]
async fn key_request_during_a_store_outage_is_503_with_retry_after() {
    let app = App::on(Faulty::with(Fault::Down)).start().await;
    let reply = http(app.http_socket(), "GET", KEYS, &[], "").await;
    assert_eq!(reply.status, 503);
    assert!(reply.header("retry-after").is_some());
}
