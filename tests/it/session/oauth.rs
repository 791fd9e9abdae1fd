//! The OAuth endpoints for gateways: token introspection (RFC 7662) and revocation (RFC 7009), client secrets, errors.

use std::{fs, time::Duration};

use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use serde_json::{Value, json};
use tempfile::NamedTempFile;
use watchword::domain::{Api, Bearer, CallContext, Peer};

use crate::support::{
    App, Reply, StoreKind, app,
    fault::{Fault, Faulty},
    http, query,
};

const SECRET: &str = "5f8b+2/0c9e4=a7%d1e63b2";
const SECRET_OF_SHOP: &str = "0123456789abcdef0123456789abcdef";
const INTROSPECT: &str = "/oauth2/introspect";
const REVOKE: &str = "/oauth2/revoke";

/// A clients file. It must exist until the server has read it.
fn clients() -> NamedTempFile {
    let file = NamedTempFile::new().unwrap();
    let text = format!("# gateways\n\nkong:another-secret-of-kong-1\nkong:{SECRET}\nshop:{SECRET_OF_SHOP}\n");
    fs::write(file.path(), text).unwrap();
    file
}

/// The arguments of a node whose sessions belong to the client kong.
fn args(clients: &NamedTempFile) -> [&str; 4] {
    ["--oauth-clients-file", clients.path().to_str().unwrap(), "--token-client-id", "kong"]
}

async fn start(kind: StoreKind) -> App {
    let file = clients();
    App::with(kind).args(&args(&file)).start().await
}

fn basic(name: &str, secret: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{name}:{secret}")))
}

const FORM: (&str, &str) = ("content-type", "application/x-www-form-urlencoded");

/// Posts a form with the credentials of a known client.
async fn post(app: &App, path: &str, form: &[(&str, &str)]) -> Reply {
    let known = basic("kong", SECRET);
    http(app.http_socket(), "POST", path, &[FORM, ("authorization", &known)], &query(form)).await
}

fn body(reply: &Reply) -> Value {
    assert_eq!(reply.header("content-type"), Some("application/json"), "{reply:?}");
    assert_eq!(reply.header("cache-control"), Some("no-store"), "{reply:?}");
    serde_json::from_str(&reply.body).unwrap()
}

#[tokio::test]
async fn gateway_introspects_and_revokes_a_token_on_every_store() {
    for kind in StoreKind::ALL {
        let app = start(kind).await;
        app.registered("ada").await;
        let tokens = app.authenticate("ada").await;
        let expected_token = app.introspect(&tokens.access_token).await;
        let reply = post(&app, INTROSPECT, &[("token", &tokens.access_token)]).await;
        let expected = json!({
            "active": true,
            "token_type": "Bearer",
            "sub": expected_token.user_id,
            "username": "ada",
            "sid": tokens.session_id,
            "iat": expected_token.issue_time.unwrap().seconds,
            "exp": expected_token.expire_time.unwrap().seconds,
            "iss": format!("http://{}", app.http_socket()),
            "aud": "watchword",
            "client_id": "kong",
        });
        assert_eq!((reply.status, body(&reply)), (200, expected), "{kind:?}");

        let revoked = post(&app, REVOKE, &[("token", &tokens.access_token)]).await;
        assert_eq!((revoked.status, revoked.body.as_str()), (200, ""), "{kind:?}");
        let reply = post(&app, INTROSPECT, &[("token", &tokens.access_token)]).await;
        assert_eq!((reply.status, reply.body.as_str()), (200, r#"{"active":false}"#), "{kind:?}");
        assert_eq!(app.events.count("session ended"), 1, "{kind:?}");
        let again = post(&app, REVOKE, &[("token", &tokens.access_token), ("token_type_hint", "nonsense")]).await;
        assert_eq!(again.status, 200, "{kind:?}");
    }
}

/// RFC 7009 section 2.1: one compromised gateway must not log out the users of all others.
#[tokio::test]
async fn client_revokes_only_the_sessions_that_belong_to_it() {
    for kind in StoreKind::ALL {
        let app = start(kind).await;
        app.registered("ada").await;
        let tokens = app.authenticate("ada").await;
        let shop = basic("shop", SECRET_OF_SHOP);
        for token in [&tokens.access_token, &tokens.refresh_token] {
            let headers = [FORM, ("authorization", shop.as_str())];
            let reply = http(app.http_socket(), "POST", REVOKE, &headers, &query(&[("token", token)])).await;
            assert_eq!((reply.status, &body(&reply)["error"]), (400, &json!("unauthorized_client")), "{kind:?}");
        }
        let found = app.introspect(&tokens.access_token).await;
        assert_eq!((found.active, found.client_id.as_str()), (true, "kong"), "{kind:?}");
        let payload = tokens.access_token.split('.').nth(1).unwrap();
        let payload: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).unwrap()).unwrap();
        assert_eq!(payload["client_id"], "kong", "RFC 9068 section 2.2");
        assert_eq!(post(&app, REVOKE, &[("token", &tokens.refresh_token)]).await.status, 200, "{kind:?}");
        assert!(!app.introspect(&tokens.access_token).await.active, "{kind:?}");
    }
}

#[tokio::test]
async fn wrong_client_secrets_are_limited_and_the_right_one_passes() {
    let file = clients();
    let limits = ["--throttle", "on", "--throttle-per-address", "10/1h"];
    let app = App::with(StoreKind::Memory).args(&args(&file)).args(&limits).start().await;
    let wrong = basic("kong", "not-the-secret-of-kong");
    let headers = [FORM, ("authorization", wrong.as_str())];
    for attempt in 0..20 {
        let reply = http(app.http_socket(), "POST", INTROSPECT, &headers, "token=a").await;
        let expected = if attempt < 10 { (401, "invalid_client") } else { (429, "temporarily_unavailable") };
        assert_eq!((reply.status, body(&reply)["error"].as_str().unwrap()), expected, "attempt {attempt}");
        assert_eq!(reply.header("retry-after").is_some(), attempt >= 10, "attempt {attempt}");
    }
    assert_eq!(app.events.count("client refused"), 10);
    assert_eq!(post(&app, INTROSPECT, &[("token", "a")]).await.status, 200);
}

/// No network of this machine has an IPv6 /48, so the test calls the rules.
#[tokio::test]
async fn wrong_client_secrets_from_an_ipv6_network_have_two_and_three_times_the_limit() {
    for (peers, expected) in [
        (["2001:db8:1:1::1", "2001:db8:1:1::2"].as_slice(), 4),
        (&["2001:db8:1:1::1", "2001:db8:1:2::1", "2001:db8:1:3::1", "2001:db8:1:4::1"], 8),
        (&["2001:db8:1:100::1", "2001:db8:1:200::1", "2001:db8:1:300::1", "2001:db8:1:400::1"], 12),
        (&["2001:db8:1::1", "2001:db8:2::1", "2001:db8:3::1", "2001:db8:4::1"], 16),
        (&["192.0.2.1", "192.0.2.2"], 8),
    ] {
        let limits = ["--throttle", "on", "--throttle-per-address", "4/1h"];
        let app = App::with(StoreKind::Memory).args(&limits).start().await;
        let deadline = app.rules.environment().clock.monotonic() + Duration::from_secs(60);
        let counted = (0..40).filter(|number| {
            let peer = Peer::Ip(peers[number % peers.len()].parse().unwrap());
            let (api, bearer, user_agent) = (Api::OAuth, Bearer::Missing, String::new());
            app.rules.refuse_client(&CallContext { api, peer, client: None, deadline, bearer, user_agent }).is_ok()
        });
        assert_eq!(counted.count(), expected, "{peers:?}");
    }
}

/// A gateway reads only `active`, so a refresh token must not be active by default.
#[tokio::test]
async fn refresh_token_is_active_only_with_the_hint_refresh_token() {
    let app = start(StoreKind::Memory).await;
    app.registered("ada").await;
    let tokens = app.authenticate("ada").await;
    let token = ("token", tokens.refresh_token.as_str());
    for hint in [&[token][..], &[token, ("token_type_hint", "access_token")]] {
        assert_eq!(post(&app, INTROSPECT, hint).await.body, r#"{"active":false}"#, "{hint:?}");
    }
    let found = body(&post(&app, INTROSPECT, &[token, ("token_type_hint", "refresh_token")]).await);
    assert_eq!((&found["active"], &found["token_use"]), (&json!(true), &json!("refresh")));
    assert_eq!(found["token_type"], Value::Null);
    let other = [("token", tokens.access_token.as_str()), ("token_type_hint", "refresh_token")];
    assert_eq!(
        body(&post(&app, INTROSPECT, &other).await)["active"],
        true,
        "a wrong hint does not hide an access token"
    );

    assert_eq!(post(&app, REVOKE, &[token]).await.status, 200);
    let access = post(&app, INTROSPECT, &[("token", &tokens.access_token)]).await;
    assert_eq!(access.body, r#"{"active":false}"#, "the whole session has ended");
}

#[tokio::test]
async fn client_without_a_valid_secret_is_refused_and_revokes_nothing() {
    let app = start(StoreKind::Memory).await;
    app.registered("ada").await;
    let token = app.authenticate("ada").await.access_token;
    let headers = [
        None,
        Some(basic("kong", "another-secret-of-kong-2")),
        Some(basic("Kong", SECRET)),
        Some(basic("", "")),
        Some("Basic".to_owned()),
        Some("Basic %%%".to_owned()),
        Some(format!("Bearer {token}")),
        Some(basic("kong", SECRET).replace("Basic", "Digest")),
    ];
    for path in [INTROSPECT, REVOKE] {
        for header in &headers {
            let authorization = header.iter().map(|value| ("authorization", value.as_str()));
            let all: Vec<_> = [FORM].into_iter().chain(authorization).collect();
            let reply = http(app.http_socket(), "POST", path, &all, &query(&[("token", &token)])).await;
            assert_eq!((reply.status, &body(&reply)["error"]), (401, &json!("invalid_client")), "{path} {header:?}");
            assert_eq!(reply.header("www-authenticate"), Some("Basic realm=\"watchword\", charset=\"UTF-8\""));
        }
        let twice = basic("kong", SECRET);
        let all = [FORM, ("authorization", &twice), ("authorization", &twice)];
        assert_eq!(http(app.http_socket(), "POST", path, &all, &query(&[("token", &token)])).await.status, 401);
        let in_form = [("token", token.as_str()), ("client_id", "kong"), ("client_secret", "wrong")];
        assert_eq!(http(app.http_socket(), "POST", path, &[FORM], &query(&in_form)).await.status, 401);
    }
    let known = basic("kong", SECRET);
    let other = query(&[("token", &token), ("client_id", "another")]);
    let reply = http(app.http_socket(), "POST", REVOKE, &[FORM, ("authorization", &known)], &other).await;
    assert_eq!(reply.status, 401, "one client in the header, another in the form");
    assert!(app.introspect(&token).await.active);
    assert_eq!(app.events.count("client refused"), 2 * (headers.len() + 2) + 1);
}

#[tokio::test]
async fn client_secret_is_accepted_in_the_header_or_the_form() {
    let app = start(StoreKind::Memory).await;
    let encoded = query(&[("", SECRET)]).trim_start_matches('=').to_owned();
    assert_ne!(encoded, SECRET, "the form-encoded secret differs");
    for header in [basic("kong", SECRET), basic("kong", &encoded), basic("kong", "another-secret-of-kong-1")] {
        let all = [FORM, ("authorization", &header)];
        assert_eq!(http(app.http_socket(), "POST", INTROSPECT, &all, "token=x").await.body, r#"{"active":false}"#);
    }
    let in_form = query(&[("token", "x"), ("client_id", "kong"), ("client_secret", SECRET)]);
    assert_eq!(http(app.http_socket(), "POST", INTROSPECT, &[FORM], &in_form).await.body, r#"{"active":false}"#);
    let both = basic("kong", SECRET);
    let reply = http(app.http_socket(), "POST", INTROSPECT, &[FORM, ("authorization", &both)], &in_form).await;
    assert_eq!((reply.status, &body(&reply)["error"]), (400, &json!("invalid_request")));
}

#[tokio::test]
async fn malformed_form_is_an_invalid_request() {
    let app = start(StoreKind::Memory).await;
    let known = basic("kong", SECRET);
    let json_type = ("content-type", "application/json");
    for (content_type, form) in [
        (FORM, ""),
        (FORM, "token="),
        (FORM, "token=a&token=b"),
        (FORM, "token=a&token_type_hint=x&token_type_hint=y"),
        (FORM, "token=%FF"),
        (FORM, &"a&".repeat(33)),
        (json_type, r#"{"token":"a"}"#),
    ] {
        for path in [INTROSPECT, REVOKE] {
            let headers = [content_type, ("authorization", known.as_str())];
            let reply = http(app.http_socket(), "POST", path, &headers, form).await;
            assert_eq!((reply.status, &body(&reply)["error"]), (400, &json!("invalid_request")), "{path} {form}");
        }
    }
    let headers = [FORM, ("authorization", known.as_str())];
    let in_query = http(app.http_socket(), "POST", "/oauth2/introspect?token=a", &headers, "").await;
    assert_eq!(in_query.status, 400, "a token in the URL is refused");
    let large = format!("token={}", "a".repeat(70_000));
    let reply = http(app.http_socket(), "POST", INTROSPECT, &[FORM, ("authorization", &known)], &large).await;
    assert_eq!(reply.status, 413);
    let get = http(app.http_socket(), "GET", INTROSPECT, &[], "").await;
    assert_eq!((get.status, get.header("allow")), (405, Some("POST,OPTIONS")));
}

#[tokio::test]
async fn expired_token_is_inactive() {
    let app = start(StoreKind::Memory).await;
    app.registered("ada").await;
    let token = app.authenticate("ada").await.access_token;
    app.clock.advance(Duration::from_secs(301));
    assert_eq!(post(&app, INTROSPECT, &[("token", &token)]).await.body, r#"{"active":false}"#);
}

/// T29, for gateways: without a store there is no result.
#[tokio::test]
async fn gateway_request_during_a_store_outage_is_503_with_retry_after() {
    let (faulty, file) = (Faulty::with(Fault::None), clients());
    let app = App::on(faulty.clone()).args(&args(&file)).start().await;
    app.registered("ada").await;
    let token = app.authenticate("ada").await.access_token;
    faulty.set(Fault::Down);
    for path in [INTROSPECT, REVOKE] {
        let reply = post(&app, path, &[("token", &token)]).await;
        assert_eq!((reply.status, &body(&reply)["error"]), (503, &json!("temporarily_unavailable")), "{path}");
        assert_eq!(reply.header("retry-after"), Some("1"), "{path}");
    }
}

#[tokio::test]
async fn oauth_routes_and_their_metadata_exist_only_with_a_clients_file() {
    let metadata_path = "/.well-known/oauth-authorization-server";
    let without_clients = app().await;
    let hint = http(without_clients.http_socket(), "POST", INTROSPECT, &[FORM], "token=a").await;
    assert!(hint.status == 404 && hint.body.contains("--oauth-clients-file"), "{hint:?}");
    let with_clients = start(StoreKind::Memory).await;
    let metadata: Value =
        serde_json::from_str(&http(with_clients.http_socket(), "GET", metadata_path, &[], "").await.body).unwrap();
    let at = |path: &str| json!(format!("http://{}{path}", with_clients.http_socket()));
    assert_eq!((&metadata["introspection_endpoint"], &metadata["revocation_endpoint"]), (&at(INTROSPECT), &at(REVOKE)));
    let methods = json!(["client_secret_basic", "client_secret_post"]);
    assert_eq!(metadata["introspection_endpoint_auth_methods_supported"], methods);
    assert_eq!(metadata["revocation_endpoint_auth_methods_supported"], methods);
}
