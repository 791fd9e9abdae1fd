//! Gateways ask about tokens and end them as OAuth has it (RFC 7662, RFC 7009): forms, secrets, and the RFC's own errors.

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

/// A file of clients; it must live until the server has read it.
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

/// Posts a form as the client that the server knows.
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
async fn a_gateway_introspects_a_token_and_ends_it_on_every_store() {
    for kind in StoreKind::ALL {
        let app = start(kind).await;
        app.registered("ada").await;
        let tokens = app.authenticate("ada").await;
        let known = app.introspect(&tokens.access_token).await;
        let reply = post(&app, INTROSPECT, &[("token", &tokens.access_token)]).await;
        let expected = json!({
            "active": true,
            "token_type": "Bearer",
            "sub": known.user_id,
            "username": "ada",
            "sid": tokens.session_id,
            "iat": known.issue_time.unwrap().seconds,
            "exp": known.expire_time.unwrap().seconds,
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

/// A gateway looks at `active` alone, and must not let a refresh token in.
#[tokio::test]
async fn a_refresh_token_is_active_only_for_whoever_asks_about_one() {
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
    assert_eq!(body(&post(&app, INTROSPECT, &other).await)["active"], true, "a wrong hint does not hide a token");

    assert_eq!(post(&app, REVOKE, &[token]).await.status, 200);
    let access = post(&app, INTROSPECT, &[("token", &tokens.access_token)]).await;
    assert_eq!(access.body, r#"{"active":false}"#, "the whole session has ended");
}

#[tokio::test]
async fn whoever_shows_no_known_secret_learns_nothing_and_ends_nothing() {
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
async fn every_way_of_showing_the_secret_is_taken() {
    let app = start(StoreKind::Memory).await;
    let encoded = query(&[("", SECRET)]).trim_start_matches('=').to_owned();
    assert_ne!(encoded, SECRET, "the form-encoded secret looks different");
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
async fn what_is_no_proper_form_is_refused_in_the_rfcs_words() {
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
    assert_eq!(in_query.status, 400, "a token never stands in a URL");
    let large = format!("token={}", "a".repeat(70_000));
    let reply = http(app.http_socket(), "POST", INTROSPECT, &[FORM, ("authorization", &known)], &large).await;
    assert_eq!(reply.status, 413);
    let get = http(app.http_socket(), "GET", INTROSPECT, &[], "").await;
    assert_eq!((get.status, get.header("allow")), (405, Some("POST,OPTIONS")));
}

#[tokio::test]
async fn a_token_is_over_for_gateways_too_when_its_time_is() {
    let app = start(StoreKind::Memory).await;
    app.registered("ada").await;
    let token = app.authenticate("ada").await.access_token;
    app.clock.advance(Duration::from_secs(301));
    assert_eq!(post(&app, INTROSPECT, &[("token", &token)]).await.body, r#"{"active":false}"#);
}

/// T29 of gateways: no answer on doubt.
#[tokio::test]
async fn without_a_store_a_gateway_gets_no_answer_and_is_told_when_to_come_back() {
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
async fn the_routes_are_there_and_told_of_only_with_clients() {
    let metadata = "/.well-known/oauth-authorization-server";
    let closed = app().await;
    let hint = http(closed.http_socket(), "POST", INTROSPECT, &[FORM], "token=a").await;
    assert!(hint.status == 404 && hint.body.contains("--oauth-clients-file"), "{hint:?}");
    let open = start(StoreKind::Memory).await;
    let told: Value = serde_json::from_str(&http(open.http_socket(), "GET", metadata, &[], "").await.body).unwrap();
    let at = |path: &str| json!(format!("http://{}{path}", open.http_socket()));
    assert_eq!((&told["introspection_endpoint"], &told["revocation_endpoint"]), (&at(INTROSPECT), &at(REVOKE)));
    let methods = json!(["client_secret_basic", "client_secret_post"]);
    assert_eq!(told["introspection_endpoint_auth_methods_supported"], methods);
    assert_eq!(told["revocation_endpoint_auth_methods_supported"], methods);
}
