//! The OAuth endpoints for gateways: token introspection (RFC 7662) and revocation (RFC 7009), client secrets, errors.

use std::{fs, time::Duration};

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use tempfile::NamedTempFile;

use crate::support::{
    App, Reply, StoreKind, app,
    fault::{Fault, Faulty},
    http, query,
};

const SECRET: &str = "5f8b+2/0c9e4=a7%d1e63b2";
const INTROSPECT: &str = "/oauth2/introspect";
const REVOKE: &str = "/oauth2/revoke";

/// A clients file. It must exist until the server has read it.
fn clients() -> NamedTempFile {
    let file = NamedTempFile::new().unwrap();
    fs::write(file.path(), format!("# gateways\n\nkong:another-secret-of-kong-1\nkong:{SECRET}\n")).unwrap();
    file
}

async fn start(kind: StoreKind) -> App {
    let file = clients();
    App::with(kind).args(&["--oauth-clients-file", file.path().to_str().unwrap()]).start().await
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
    let app = App::on(faulty.clone()).args(&["--oauth-clients-file", file.path().to_str().unwrap()]).start().await;
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
