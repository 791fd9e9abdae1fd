//! Allowed requests: the identity headers and the metadata of the response.

use std::collections::BTreeMap;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use prost_types::value::Kind;
use serde_json::{Value, json};

use super::{
    IDENTITY, OPTIONAL, REQUIRED, allowed, check, check_request, header_map, http, spellings_without, upstream_headers,
    with_ada, with_token,
};
use crate::support::{StoreKind, app};

#[tokio::test]
async fn valid_token_is_allowed_and_identifies_its_user() {
    for kind in StoreKind::ALL {
        let (app, tokens) = with_ada(kind).await;
        let response = check(&app, with_token(&tokens.access_token)).await;
        let found = app.introspect(&tokens.access_token).await;
        let ok = allowed(&response);
        let expected = [
            ("x-auth-subject", found.user_id.as_str()),
            ("x-auth-username", "ada"),
            ("x-auth-session-id", &tokens.session_id),
        ];
        assert_eq!(header_map(&ok.headers), BTreeMap::from(expected), "{kind:?}");
        let removed = spellings_without(&["x-auth-subject", "x-auth-username", "x-auth-session-id"]);
        assert_eq!(ok.headers_to_remove, removed, "{kind:?}: the token is forwarded");

        let payload = tokens.access_token.split('.').nth(1).unwrap();
        let claims: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).unwrap()).unwrap();
        let metadata = response.dynamic_metadata.unwrap().fields;
        assert_eq!(metadata.keys().collect::<Vec<_>>(), ["exp", "iat", "iss", "sid", "sub"]);
        for (name, value) in metadata {
            match value.kind.unwrap() {
                Kind::StringValue(text) => assert_eq!(json!(text), claims[&name], "{name}"),
                Kind::NumberValue(number) => assert_eq!(Some(number), claims[&name].as_f64(), "{name}"),
                other => panic!("{name}: {other:?}"),
            }
        }
    }
}

#[tokio::test]
async fn identity_headers_of_the_client_never_reach_the_upstream() {
    let (app, tokens) = with_ada(StoreKind::Memory).await;
    let bearer = format!("Bearer {}", tokens.access_token);
    // CGI, WSGI and PHP read all of them as identity headers; names that only resemble them stay.
    let folded =
        ["x_auth_subject", "x-auth_subject", "X_Auth-Session_Id", "x.auth.subject", "x~auth~username", "X-AUTH_SCOPES"];
    let names = IDENTITY.into_iter().chain(["X-Auth-Subject"]).chain(folded);
    let spoofed: Vec<_> = names.map(|name| (name, "root")).chain([("x-auth-subjects", "kept")]).collect();
    for route in [REQUIRED, OPTIONAL] {
        let sent = [&spoofed[..], &[("authorization", &bearer)]].concat();
        let response = check(&app, check_request(http(&sent), route)).await;
        let upstream = upstream_headers(&sent, allowed(&response));
        assert!(!upstream.values().any(|value| value == "root"), "{upstream:?}");
        assert_eq!((upstream["x-auth-username"].as_str(), &upstream["authorization"]), ("ada", &bearer));
    }
    let response = check(&app, check_request(http(&spoofed), OPTIONAL)).await;
    let ok = allowed(&response);
    let kept = BTreeMap::from([("x-auth-subjects".to_owned(), "kept".to_owned())]);
    assert_eq!(upstream_headers(&spoofed, ok), kept, "an anonymous request has no identity headers");
    // A gateway that does not list the headers of the request learns the spellings that all upstreams fold.
    let response = check(&app, check_request(http(&[]), OPTIONAL)).await;
    assert_eq!(allowed(&response).headers_to_remove, spellings_without(&[]));
    assert!(response.dynamic_metadata.is_none());
}

#[tokio::test]
async fn route_without_forward_authorization_removes_the_token() {
    let (app, tokens) = with_ada(StoreKind::Memory).await;
    let request = || http(&[("authorization", &format!("Bearer {}", tokens.access_token))]);
    for (setting, removed) in [("false", true), ("true", false), ("no", false)] {
        let response = check(&app, check_request(request(), &[("forward_authorization", setting)])).await;
        let removes = allowed(&response).headers_to_remove.iter().any(|name| name == "authorization");
        assert_eq!(removes, removed, "{setting}");
    }
}

#[tokio::test]
async fn username_is_percent_encoded_in_the_header() {
    let app = app().await;
    for (name, encoded) in
        [("zoë", "zo%C3%AB"), ("алиса", "%D0%B0%D0%BB%D0%B8%D1%81%D0%B0"), ("a-b.c_d~e@f%g", "a-b.c_d~e%40f%25g")]
    {
        app.registered(name).await;
        let response = check(&app, with_token(&app.authenticate(name).await.access_token)).await;
        assert_eq!(header_map(&allowed(&response).headers)["x-auth-username"], encoded);
    }
}
