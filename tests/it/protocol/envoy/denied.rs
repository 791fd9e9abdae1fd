//! Denied requests: invalid tokens, and the settings of a route.

use std::time::Duration;

use tonic::Request;
use watchword::api::{
    envoy_auth::{CheckRequest, attribute_context::HttpRequest},
    envoy_core::{HeaderMap, HeaderValue},
    pb,
};

use super::{
    OPTIONAL, REQUIRED, allowed, check, check_request, http, outcome, spellings_without, with_ada, with_token,
};
use crate::support::{StoreKind, app, password};

#[tokio::test]
async fn revoked_token_is_denied_with_the_reason() {
    for kind in StoreKind::ALL {
        let (app, mut tokens) = with_ada(kind).await;
        let denied = async |token: &str| outcome(&check(&app, with_token(token)).await);
        assert_eq!(denied(&tokens.refresh_token).await, "TOKEN_INVALID", "{kind:?}: not an access token");

        let revoke = pb::RevokeTokenRequest { token: tokens.access_token.clone() };
        app.client().await.revoke_token(revoke).await.unwrap();
        assert_eq!(denied(&tokens.access_token).await, "TOKEN_REVOKED", "{kind:?}: logged out");

        tokens = app.authenticate("ada").await;
        app.set_disabled("ada", true).await;
        assert_eq!(denied(&tokens.access_token).await, "TOKEN_REVOKED", "{kind:?}: disabled");
        app.set_disabled("ada", false).await;

        tokens = app.authenticate("ada").await;
        let mut delete =
            Request::new(pb::DeleteUserRequest { current_password: password("ada"), ..Default::default() });
        let bearer = format!("Bearer {}", tokens.access_token).parse().unwrap();
        delete.metadata_mut().insert("authorization", bearer);
        app.client().await.delete_user(delete).await.unwrap();
        app.registered("ada").await;
        assert_eq!(denied(&tokens.access_token).await, "TOKEN_REVOKED", "{kind:?}: deleted");
    }
}

#[tokio::test]
async fn expired_token_is_denied_on_every_route() {
    // Redis is not tested: it has its own clock.
    for kind in [StoreKind::Memory, StoreKind::Embedded] {
        let (app, tokens) = with_ada(kind).await;
        app.clock.advance(Duration::from_secs(298));
        assert_eq!(outcome(&check(&app, with_token(&tokens.access_token)).await), "user");
        app.clock.advance(Duration::from_secs(2));
        for route in [REQUIRED, OPTIONAL] {
            let request = http(&[("authorization", &format!("Bearer {}", tokens.access_token))]);
            assert_eq!(outcome(&check(&app, check_request(request, route)).await), "TOKEN_EXPIRED", "{kind:?}");
        }
    }
}

#[tokio::test]
async fn authorization_that_is_not_exactly_one_bearer_token_is_denied() {
    let (app, tokens) = with_ada(StoreKind::Memory).await;
    let good = &format!("Bearer {}", tokens.access_token);
    let twice = format!("{good},{good}");
    for (headers, expected) in [
        (vec![("Authorization", good.as_str())], "user"),
        (vec![], "TOKEN_MISSING"),
        (vec![("cookie", "authorization=Bearer")], "TOKEN_MISSING"),
        (vec![("authorization", good.replace(' ', "   ").as_str())], "user"),
        (vec![("authorization", good.replace("Bearer", "bEARER").as_str())], "user"),
        (vec![("authorization", good.replace(' ', "\t").as_str())], "TOKEN_INVALID"),
        // Another scheme is no bearer token, so the challenge has no error.
        (vec![("authorization", "Basic YWRhOmEgcGFzc3dvcmQgb2YgYWRh")], "TOKEN_MISSING"),
        (vec![("authorization", "Negotiate")], "TOKEN_MISSING"),
        (vec![("authorization", "Bearerx y")], "TOKEN_MISSING"),
        (vec![("authorization", " Basic x")], "TOKEN_INVALID"),
        (vec![("authorization", "")], "TOKEN_INVALID"),
        (vec![("authorization", "Bearer")], "TOKEN_INVALID"),
        (vec![("authorization", "Bearer x")], "TOKEN_INVALID"),
        (vec![("authorization", tokens.access_token.as_str())], "TOKEN_MISSING"),
        (vec![("authorization", twice.as_str())], "TOKEN_INVALID"),
        (vec![("authorization", good.as_str()), ("Authorization", good.as_str())], "TOKEN_INVALID"),
    ] {
        let response = check(&app, check_request(http(&headers), REQUIRED)).await;
        assert_eq!(outcome(&response), expected, "{headers:?}");
    }
}

#[tokio::test]
async fn header_list_is_read_like_the_joined_headers() {
    let (app, tokens) = with_ada(StoreKind::Memory).await;
    let good = &format!("Bearer {}", tokens.access_token);
    let raw = |value: &str| HeaderValue {
        key: "authorization".into(),
        raw_value: value.as_bytes().to_vec(),
        ..Default::default()
    };
    let text = |value: &str| HeaderValue { key: "AUTHORIZATION".into(), value: value.into(), ..Default::default() };
    let both = |value: &str, raw: &str| HeaderValue {
        key: "authorization".into(),
        value: value.into(),
        raw_value: raw.as_bytes().to_vec(),
    };
    for (what, joined, list_entry, expected) in [
        ("bytes", None, vec![raw(good)], "user"),
        ("text", None, vec![text(good)], "user"),
        ("equal in both forms", None, vec![both(good, good)], "user"),
        ("equal in the map and the list", Some(good.as_str()), vec![raw(good)], "user"),
        ("two different forms", None, vec![both(good, "Bearer x")], "TOKEN_INVALID"),
        ("map and list differ", Some("Bearer x"), vec![raw(good)], "TOKEN_INVALID"),
        ("list and map differ", Some(good.as_str()), vec![raw("Basic x")], "TOKEN_INVALID"),
        ("twice", None, vec![raw(good), raw(good)], "TOKEN_INVALID"),
        ("two users", None, vec![raw(good), raw("Bearer x")], "TOKEN_INVALID"),
        ("not UTF-8", None, vec![HeaderValue { raw_value: vec![0xff, 0], ..raw("") }], "TOKEN_INVALID"),
        ("empty", None, vec![raw("")], "TOKEN_INVALID"),
        ("another header", None, vec![HeaderValue { key: "cookie".into(), ..raw(good) }], "TOKEN_MISSING"),
    ] {
        let joined: Vec<_> = joined.iter().map(|value| ("authorization", *value)).collect();
        let request = HttpRequest { header_map: Some(HeaderMap { headers: list_entry }), ..http(&joined) };
        assert_eq!(outcome(&check(&app, check_request(request, REQUIRED)).await), expected, "{what}");
    }
}

#[tokio::test]
async fn optional_route_allows_anonymous_requests_and_denies_invalid_tokens() {
    let app = app().await;
    for (setting, without_token) in [
        ("optional", "anonymous"),
        ("required", "TOKEN_MISSING"),
        ("Optional", "TOKEN_MISSING"),
        ("off", "TOKEN_MISSING"),
        ("", "TOKEN_MISSING"),
    ] {
        let route = [("auth", setting)];
        assert_eq!(outcome(&check(&app, check_request(http(&[]), &route)).await), without_token, "{setting:?}");
        for (bad, reason) in [("Bearer x", "TOKEN_INVALID"), ("Basic x", "TOKEN_MISSING"), ("", "TOKEN_INVALID")] {
            let response = check(&app, check_request(http(&[("authorization", bad)]), &route)).await;
            assert_eq!(outcome(&response), reason, "{setting:?}: {bad:?}");
        }
    }
}

#[tokio::test]
async fn preflight_is_allowed_only_where_the_route_allows_it() {
    let app = app().await;
    let preflight = [("origin", "https://app.example"), ("access-control-request-method", "POST")];
    let options = |headers: &[(&str, &str)]| HttpRequest { method: "OPTIONS".into(), ..http(headers) };
    let allow_route = &[("preflight", "allow")][..];
    let with_invalid_token = [&preflight[..], &[("authorization", "Bearer x")]].concat();
    for (what, request, route, expected) in [
        ("allowed", options(&preflight), allow_route, "anonymous"),
        ("not allowed", options(&preflight), REQUIRED, "TOKEN_MISSING"),
        ("misspelt", options(&preflight), &[("preflight", "yes")][..], "TOKEN_MISSING"),
        ("another method", http(&preflight), allow_route, "TOKEN_MISSING"),
        (
            "another spelling",
            HttpRequest { method: "options".into(), ..http(&preflight) },
            allow_route,
            "TOKEN_MISSING",
        ),
        ("no origin", options(&preflight[1..]), allow_route, "TOKEN_MISSING"),
        ("no requested method", options(&preflight[..1]), allow_route, "TOKEN_MISSING"),
        ("with a bad token", options(&with_invalid_token), allow_route, "TOKEN_INVALID"),
    ] {
        let response = check(&app, check_request(request, route)).await;
        assert_eq!(outcome(&response), expected, "{what}");
        if expected == "anonymous" {
            assert_eq!(allowed(&response).headers_to_remove, spellings_without(&[]));
        }
    }
}

#[tokio::test]
async fn check_without_an_http_request_is_denied_on_every_route() {
    let app = app().await;
    let mut connection = check_request(http(&[]), &[("auth", "optional"), ("preflight", "allow")]);
    connection.attributes.as_mut().unwrap().request = None;
    for request in [CheckRequest { attributes: None }, connection] {
        assert_eq!(outcome(&check(&app, request).await), "TOKEN_MISSING");
    }
}

#[tokio::test]
async fn token_of_the_gateway_does_not_authenticate_its_client() {
    let (app, tokens) = with_ada(StoreKind::Memory).await;
    let mut request = Request::new(check_request(http(&[]), REQUIRED));
    let bearer = format!("Bearer {}", tokens.access_token).parse().unwrap();
    request.metadata_mut().insert("authorization", bearer);
    assert_eq!(outcome(&check(&app, request).await), "TOKEN_MISSING");
}
