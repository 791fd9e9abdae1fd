//! What a gateway is told about the requests that it holds, and what becomes of their headers.

use std::{collections::BTreeMap, time::Duration};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use http_body_util::BodyExt;
use prost::Message;
use prost_types::value::Kind;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::time::timeout;
use tonic::{Code, Request, transport::Channel};
use watchword::{
    api::{
        envoy_auth::{
            AttributeContext, CheckRequest, CheckResponse, DeniedHttpResponse, OkHttpResponse,
            attribute_context::{self, HttpRequest},
            authorization_client::AuthorizationClient,
            check_response::HttpResponse,
        },
        envoy_core::{HeaderMap, HeaderValue, HeaderValueOption, header_value_option::HeaderAppendAction},
        pb,
    },
    domain::STORE_BUDGET,
};

use crate::support::{
    App, Node, StoreKind, app, channel,
    fault::{Fault, Faulty},
    h2, password, reason,
};

const CHECK: &str = "/envoy.service.auth.v3.Authorization/Check";
const IDENTITY: [&str; 4] = ["x-auth-subject", "x-auth-username", "x-auth-session-id", "x-auth-scopes"];

/// Settings of routes.
const REQUIRED: &[(&str, &str)] = &[];
const OPTIONAL: &[(&str, &str)] = &[("auth", "optional")];

fn http(headers: &[(&str, &str)]) -> HttpRequest {
    let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    HttpRequest { method: "GET".into(), headers, ..HttpRequest::default() }
}

/// A gateway's question about a request on a route with these settings.
fn about(http: HttpRequest, route: &[(&str, &str)]) -> CheckRequest {
    let context_extensions = route.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    let request = Some(attribute_context::Request { http: Some(http) });
    CheckRequest { attributes: Some(AttributeContext { request, context_extensions }) }
}

fn shows(token: &str) -> CheckRequest {
    about(http(&[("authorization", &format!("Bearer {token}"))]), REQUIRED)
}

async fn asked(app: &App, request: impl tonic::IntoRequest<CheckRequest>) -> CheckResponse {
    let mut gateway: AuthorizationClient<Channel> = AuthorizationClient::new(app.channel().await);
    gateway.check(request).await.unwrap().into_inner()
}

/// The same with a deadline and no timer of the gateway's own, so that it is the server who answers.
async fn asked_within(app: &App, request: &CheckRequest, patience: &str) -> CheckResponse {
    let answer = h2::call(app, CHECK, &[("grpc-timeout", patience)], h2::framed(request)).await;
    assert_eq!(answer.headers().get("grpc-status"), None, "{patience}: the call itself is OK: {answer:?}");
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    CheckResponse::decode(&body[5..]).unwrap()
}

async fn with_ada(kind: StoreKind) -> (App, pb::Tokens) {
    let app = App::with(kind).with_admin().start().await;
    app.registered("ada").await;
    let tokens = app.authenticate("ada").await;
    (app, tokens)
}

fn code(answer: &CheckResponse) -> Code {
    Code::from(answer.status.as_ref().unwrap().code)
}

fn named(headers: &[HeaderValueOption]) -> BTreeMap<&str, &str> {
    assert!(headers.iter().all(|header| header.append_action() == HeaderAppendAction::OverwriteIfExistsOrAdd));
    let headers = headers.iter().map(|option| option.header.as_ref().unwrap());
    headers.map(|header| (header.key.as_str(), header.value.as_str())).collect()
}

/// The changes to a request that passes.
fn passes(answer: &CheckResponse) -> &OkHttpResponse {
    let (Code::Ok, Some(HttpResponse::OkResponse(ok))) = (code(answer), &answer.http_response) else {
        panic!("does not pass: {}", outcome(answer));
    };
    ok
}

/// `user`, `nobody`, or why the client is refused, in the words of the error table; and that it is all in order.
fn outcome(answer: &CheckResponse) -> String {
    let (status, http, refusal) = match answer.http_response.as_ref().unwrap() {
        HttpResponse::OkResponse(ok) if ok.headers.is_empty() => return "nobody".into(),
        HttpResponse::OkResponse(_) => return "user".into(),
        HttpResponse::DeniedResponse(refusal) => (Code::Unauthenticated, 401, refusal),
        HttpResponse::ErrorResponse(_) => panic!("nobody is to blame"),
    };
    assert_eq!((code(answer), refusal.status.unwrap().code), (status, http));
    assert!(answer.dynamic_metadata.is_none());
    let headers = named(&refusal.headers);
    let reason = reason_in(refusal);
    let challenge = if reason == "TOKEN_MISSING" { "Bearer" } else { r#"Bearer error="invalid_token""# };
    let expected =
        [("cache-control", "no-store"), ("content-type", "application/json"), ("www-authenticate", challenge)];
    assert_eq!(headers, BTreeMap::from(expected));
    reason
}

fn reason_in(refusal: &DeniedHttpResponse) -> String {
    let body: Value = serde_json::from_str(&refusal.body).unwrap();
    let reason = body["reason"].as_str().unwrap().to_owned();
    assert!(pb::ErrorReason::from_str_name(&format!("ERROR_REASON_{reason}")).is_some(), "{reason}");
    assert!(!body["message"].as_str().unwrap().is_empty() && body.as_object().unwrap().len() == 2, "{body}");
    reason
}

/// The request as the upstream gets it: what Envoy does with an answer that lets it pass.
fn upstream_headers(sent: &[(&str, &str)], ok: &OkHttpResponse) -> BTreeMap<String, String> {
    let mut headers: BTreeMap<String, String> =
        sent.iter().map(|(name, value)| (name.to_lowercase(), (*value).to_owned())).collect();
    headers.extend(named(&ok.headers).into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())));
    for name in &ok.headers_to_remove {
        headers.remove(name);
    }
    headers
}

// === What passes

#[tokio::test]
async fn a_living_token_passes_and_says_whose_it_is() {
    for kind in StoreKind::ALL {
        let (app, tokens) = with_ada(kind).await;
        let answer = asked(&app, shows(&tokens.access_token)).await;
        let found = app.introspect(&tokens.access_token).await;
        let ok = passes(&answer);
        let expected = [
            ("x-auth-subject", found.user_id.as_str()),
            ("x-auth-username", "ada"),
            ("x-auth-session-id", &tokens.session_id),
        ];
        assert_eq!(named(&ok.headers), BTreeMap::from(expected), "{kind:?}");
        assert_eq!(ok.headers_to_remove, ["x-auth-scopes"], "{kind:?}: and the token stays");

        let payload = tokens.access_token.split('.').nth(1).unwrap();
        let claims: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).unwrap()).unwrap();
        let facts = answer.dynamic_metadata.unwrap().fields;
        assert_eq!(facts.keys().collect::<Vec<_>>(), ["exp", "iat", "iss", "sid", "sub"]);
        for (name, value) in facts {
            match value.kind.unwrap() {
                Kind::StringValue(text) => assert_eq!(json!(text), claims[&name], "{name}"),
                Kind::NumberValue(number) => assert_eq!(Some(number), claims[&name].as_f64(), "{name}"),
                other => panic!("{name}: {other:?}"),
            }
        }
    }
}

#[tokio::test]
async fn what_a_client_says_about_itself_never_reaches_the_upstream() {
    let (app, tokens) = with_ada(StoreKind::Memory).await;
    let bearer = format!("Bearer {}", tokens.access_token);
    let spoofed: Vec<_> = IDENTITY.iter().map(|name| (*name, "root")).chain([("X-Auth-Subject", "root")]).collect();
    for route in [REQUIRED, OPTIONAL] {
        let sent = [&spoofed[..], &[("authorization", &bearer)]].concat();
        let answer = asked(&app, about(http(&sent), route)).await;
        let upstream = upstream_headers(&sent, passes(&answer));
        assert!(!upstream.values().any(|value| value == "root"), "{upstream:?}");
        assert_eq!((upstream["x-auth-username"].as_str(), &upstream["authorization"]), ("ada", &bearer));
    }
    let answer = asked(&app, about(http(&spoofed), OPTIONAL)).await;
    let ok = passes(&answer);
    assert_eq!(ok.headers_to_remove, IDENTITY, "nobody has no identity");
    assert_eq!(upstream_headers(&spoofed, ok), BTreeMap::new());
    assert!(answer.dynamic_metadata.is_none());
}

#[tokio::test]
async fn a_route_may_keep_the_token_from_its_upstream() {
    let (app, tokens) = with_ada(StoreKind::Memory).await;
    let request = || http(&[("authorization", &format!("Bearer {}", tokens.access_token))]);
    for (setting, removed) in [("false", true), ("true", false), ("no", false)] {
        let answer = asked(&app, about(request(), &[("forward_authorization", setting)])).await;
        let removes = passes(&answer).headers_to_remove.iter().any(|name| name == "authorization");
        assert_eq!(removes, removed, "{setting}");
    }
}

#[tokio::test]
async fn a_name_that_no_header_may_hold_is_percent_encoded() {
    let app = app().await;
    for (name, encoded) in
        [("zoë", "zo%C3%AB"), ("алиса", "%D0%B0%D0%BB%D0%B8%D1%81%D0%B0"), ("a-b.c_d~e@f%g", "a-b.c_d~e%40f%25g")]
    {
        app.registered(name).await;
        let answer = asked(&app, shows(&app.authenticate(name).await.access_token)).await;
        assert_eq!(named(&passes(&answer).headers)["x-auth-username"], encoded);
    }
}

// === What does not

#[tokio::test]
async fn a_token_that_does_not_count_any_more_is_denied_with_the_reason() {
    for kind in StoreKind::ALL {
        let (app, mut tokens) = with_ada(kind).await;
        let denied = async |token: &str| outcome(&asked(&app, shows(token)).await);
        assert_eq!(denied(&tokens.refresh_token).await, "TOKEN_INVALID", "{kind:?}: no access token");

        let revoke = pb::RevokeTokenRequest { token: tokens.access_token.clone() };
        app.client().await.revoke_token(revoke).await.unwrap();
        assert_eq!(denied(&tokens.access_token).await, "TOKEN_REVOKED", "{kind:?}: logged out");

        tokens = app.authenticate("ada").await;
        app.set_disabled("ada", true).await;
        assert_eq!(denied(&tokens.access_token).await, "TOKEN_REVOKED", "{kind:?}: disabled");
        app.set_disabled("ada", false).await;

        tokens = app.authenticate("ada").await;
        let mut delete = Request::new(pb::DeleteUserRequest { current_password: password("ada") });
        let bearer = format!("Bearer {}", tokens.access_token).parse().unwrap();
        delete.metadata_mut().insert("authorization", bearer);
        app.client().await.delete_user(delete).await.unwrap();
        app.registered("ada").await;
        assert_eq!(denied(&tokens.access_token).await, "TOKEN_REVOKED", "{kind:?}: deleted");
    }
}

#[tokio::test]
async fn a_token_whose_time_is_over_is_denied() {
    // Redis has a clock of its own.
    for kind in [StoreKind::Memory, StoreKind::Embedded] {
        let (app, tokens) = with_ada(kind).await;
        app.clock.advance(Duration::from_secs(298));
        assert_eq!(outcome(&asked(&app, shows(&tokens.access_token)).await), "user");
        app.clock.advance(Duration::from_secs(2));
        for route in [REQUIRED, OPTIONAL] {
            let request = http(&[("authorization", &format!("Bearer {}", tokens.access_token))]);
            assert_eq!(outcome(&asked(&app, about(request, route)).await), "TOKEN_EXPIRED", "{kind:?}");
        }
    }
}

#[tokio::test]
async fn whatever_is_not_exactly_one_bearer_token_is_denied() {
    let (app, tokens) = with_ada(StoreKind::Memory).await;
    let good = &format!("Bearer {}", tokens.access_token);
    let twice = format!("{good},{good}");
    for (headers, expected) in [
        (vec![("Authorization", good.as_str())], "user"),
        (vec![], "TOKEN_MISSING"),
        (vec![("cookie", "authorization=Bearer")], "TOKEN_MISSING"),
        (vec![("authorization", "Basic YWRhOmEgcGFzc3dvcmQgb2YgYWRh")], "TOKEN_INVALID"),
        (vec![("authorization", "")], "TOKEN_INVALID"),
        (vec![("authorization", "Bearer")], "TOKEN_INVALID"),
        (vec![("authorization", "Bearer x")], "TOKEN_INVALID"),
        (vec![("authorization", tokens.access_token.as_str())], "TOKEN_INVALID"),
        (vec![("authorization", twice.as_str())], "TOKEN_INVALID"),
        (vec![("authorization", good.as_str()), ("Authorization", good.as_str())], "TOKEN_INVALID"),
    ] {
        let answer = asked(&app, about(http(&headers), REQUIRED)).await;
        assert_eq!(outcome(&answer), expected, "{headers:?}");
    }
}

#[tokio::test]
async fn headers_as_they_came_are_read_like_joined_ones() {
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
        ("alike in both forms", None, vec![both(good, good)], "user"),
        ("alike in both places", Some(good.as_str()), vec![raw(good)], "user"),
        ("two forms that differ", None, vec![both(good, "Bearer x")], "TOKEN_INVALID"),
        ("two places that differ", Some("Bearer x"), vec![raw(good)], "TOKEN_INVALID"),
        ("two places that differ, the other way round", Some(good.as_str()), vec![raw("Basic x")], "TOKEN_INVALID"),
        ("twice", None, vec![raw(good), raw(good)], "TOKEN_INVALID"),
        ("two users", None, vec![raw(good), raw("Bearer x")], "TOKEN_INVALID"),
        ("no text at all", None, vec![HeaderValue { raw_value: vec![0xff, 0], ..raw("") }], "TOKEN_INVALID"),
        ("empty", None, vec![raw("")], "TOKEN_INVALID"),
        ("another header", None, vec![HeaderValue { key: "cookie".into(), ..raw(good) }], "TOKEN_MISSING"),
    ] {
        let joined: Vec<_> = joined.iter().map(|value| ("authorization", *value)).collect();
        let request = HttpRequest { header_map: Some(HeaderMap { headers: list_entry }), ..http(&joined) };
        assert_eq!(outcome(&asked(&app, about(request, REQUIRED)).await), expected, "{what}");
    }
}

#[tokio::test]
async fn an_optional_route_lets_nobody_pass_as_nobody_and_still_denies_bad_tokens() {
    let app = app().await;
    for (setting, nothing) in [
        ("optional", "nobody"),
        ("required", "TOKEN_MISSING"),
        ("Optional", "TOKEN_MISSING"),
        ("off", "TOKEN_MISSING"),
        ("", "TOKEN_MISSING"),
    ] {
        let route = [("auth", setting)];
        assert_eq!(outcome(&asked(&app, about(http(&[]), &route)).await), nothing, "{setting:?}");
        for bad in ["Bearer x", "Basic x", ""] {
            let answer = asked(&app, about(http(&[("authorization", bad)]), &route)).await;
            assert_eq!(outcome(&answer), "TOKEN_INVALID", "{setting:?}: {bad:?}");
        }
    }
}

#[tokio::test]
async fn a_preflight_passes_where_the_route_says_so() {
    let app = app().await;
    let page = [("origin", "https://app.example"), ("access-control-request-method", "POST")];
    let options = |headers: &[(&str, &str)]| HttpRequest { method: "OPTIONS".into(), ..http(headers) };
    let allow = &[("preflight", "allow")][..];
    let with_token = [&page[..], &[("authorization", "Bearer x")]].concat();
    for (what, request, route, expected) in [
        ("allowed", options(&page), allow, "nobody"),
        ("not allowed", options(&page), REQUIRED, "TOKEN_MISSING"),
        ("misspelt", options(&page), &[("preflight", "yes")][..], "TOKEN_MISSING"),
        ("another method", http(&page), allow, "TOKEN_MISSING"),
        ("another spelling", HttpRequest { method: "options".into(), ..http(&page) }, allow, "TOKEN_MISSING"),
        ("no origin", options(&page[1..]), allow, "TOKEN_MISSING"),
        ("no method asked for", options(&page[..1]), allow, "TOKEN_MISSING"),
        ("with a bad token", options(&with_token), allow, "TOKEN_INVALID"),
    ] {
        let answer = asked(&app, about(request, route)).await;
        assert_eq!(outcome(&answer), expected, "{what}");
        if expected == "nobody" {
            assert_eq!(passes(&answer).headers_to_remove, IDENTITY);
        }
    }
}

#[tokio::test]
async fn a_check_that_describes_no_http_request_is_denied_on_every_route() {
    let app = app().await;
    let mut connection = about(http(&[]), &[("auth", "optional"), ("preflight", "allow")]);
    connection.attributes.as_mut().unwrap().request = None;
    for request in [CheckRequest { attributes: None }, connection] {
        assert_eq!(outcome(&asked(&app, request).await), "TOKEN_MISSING");
    }
}

#[tokio::test]
async fn the_gateways_own_token_is_not_its_clients() {
    let (app, tokens) = with_ada(StoreKind::Memory).await;
    let mut request = Request::new(about(http(&[]), REQUIRED));
    let bearer = format!("Bearer {}", tokens.access_token).parse().unwrap();
    request.metadata_mut().insert("authorization", bearer);
    assert_eq!(outcome(&asked(&app, request).await), "TOKEN_MISSING");
}

// === When nobody knows

/// Whether the request passes is then the operator's choice, so it is no refusal.
fn assert_nobody_knows(answer: &CheckResponse, reason: &str, http: i32) {
    let Some(HttpResponse::ErrorResponse(error)) = &answer.http_response else { panic!("{}", outcome(answer)) };
    assert_eq!((code(answer), error.status.unwrap().code), (Code::Unavailable, http));
    assert_eq!(reason_in(error), reason);
    let headers = named(&error.headers);
    assert_eq!(headers.get("retry-after").copied(), (http == 503).then_some("1"));
    assert_eq!((headers["cache-control"], headers["content-type"]), ("no-store", "application/json"));
    assert!(!headers.contains_key("www-authenticate") && answer.dynamic_metadata.is_none());
}

#[tokio::test]
async fn a_store_that_is_down_or_torn_is_nobodys_refusal() {
    let store = Faulty::with(Fault::None);
    let app = App::on(store.clone()).start().await;
    app.registered("ada").await;
    let request = shows(&app.authenticate("ada").await.access_token);
    for (fault, reason, status) in [(Fault::Down, "STORE_UNAVAILABLE", 503), (Fault::Corrupt, "CORRUPT_RECORD", 500)] {
        store.set(fault);
        assert_nobody_knows(&asked(&app, request.clone()).await, reason, status);
        // What needs no store is answered without it.
        assert_eq!(outcome(&asked(&app, about(http(&[]), REQUIRED)).await), "TOKEN_MISSING");
        assert_eq!(outcome(&asked(&app, about(http(&[]), OPTIONAL)).await), "nobody");
    }
    store.set(Fault::None);
    assert_eq!(outcome(&asked(&app, request).await), "user");
}

/// Its budget is 100 ms; Envoy waits 200, and a gateway that waits less still gets an answer.
#[tokio::test]
async fn a_store_that_hangs_is_given_up_before_the_gateway_gives_up() {
    assert_eq!(STORE_BUDGET, Duration::from_millis(100));
    let store = Faulty::with(Fault::None);
    let app = App::on(store.clone()).start().await;
    app.registered("ada").await;
    let request = shows(&app.authenticate("ada").await.access_token);
    store.set(Fault::Hangs);
    for patience in ["200m", "50m"] {
        assert_nobody_knows(&asked_within(&app, &request, patience).await, "STORE_UNAVAILABLE", 503);
    }
    // However long a gateway would wait.
    let answer =
        timeout(Duration::from_secs(5), asked_within(&app, &request, "30S")).await.expect("the store has a budget");
    assert_nobody_knows(&answer, "STORE_UNAVAILABLE", 503);
    assert_eq!(app.events.count("store failed"), 3, "and operators see it");
}

// === What holds for the service

/// A client chooses the bytes of its path and of its id: a check that cannot be read would be a failure of ours, which some
/// gateways let pass.
#[test]
fn what_is_no_utf8_in_parts_that_nobody_reads_does_not_make_a_check_unreadable() {
    let field = |number: u8, bytes: &[u8]| [&[number << 3 | 2, u8::try_from(bytes.len()).unwrap()], bytes].concat();
    for number in [1, 4, 5, 6, 10] {
        let http = [field(2, b"GET"), field(number, b"\xff")].concat();
        let check = field(1, &field(4, &field(2, &http)));
        let read = CheckRequest::decode(&*check).unwrap();
        assert_eq!(read.attributes.unwrap().request.unwrap().http.unwrap().method, "GET", "field {number}");
    }
}

/// As much as Envoy takes from a client by default, all of it in the path, which comes twice.
#[tokio::test]
async fn a_request_that_envoy_takes_is_not_too_large() {
    let (app, tokens) = with_ada(StoreKind::Memory).await;
    let path = format!("/{}", "p".repeat(60 * 1024));
    let bearer = format!("Bearer {}", tokens.access_token);
    let twice = http(&[("authorization", &bearer), (":path", &path), ("x-envoy-original-path", &path)]);
    let answer = asked(&app, about(twice, REQUIRED)).await;
    assert_eq!(outcome(&answer), "user");
    let huge = about(http(&[("cookie", &"c".repeat(256 * 1024))]), REQUIRED);
    let refused = AuthorizationClient::new(app.channel().await).check(huge).await.unwrap_err();
    assert_eq!((refused.code(), reason(&refused).as_str()), (Code::ResourceExhausted, "REQUEST_TOO_LARGE"));
}

#[tokio::test]
async fn neither_a_question_nor_its_answer_shows_a_header_in_debug() {
    let (app, tokens) = with_ada(StoreKind::Memory).await;
    let list_entry = HeaderMap {
        headers: vec![HeaderValue { key: "x-canary".into(), value: "canary".into(), raw_value: b"canary".to_vec() }],
    };
    let bearer = format!("Bearer {}", tokens.access_token);
    let request = HttpRequest { header_map: Some(list_entry.clone()), ..http(&[("authorization", &bearer)]) };
    let question = about(request, REQUIRED);
    let answer = asked(&app, question.clone()).await;
    let whose = named(&passes(&answer).headers)["x-auth-subject"].to_owned();
    let shown =
        format!("{question:?} {:?} {list_entry:?} {answer:?} {:?}", question.attributes, answer.http_response.as_ref());
    for secret in ["canary", &tokens.access_token, &tokens.session_id, &whose, "orders"] {
        assert!(!shown.contains(secret), "{secret} in {shown}");
    }
    assert!(shown.starts_with("CheckRequest "), "{shown}");
}

// Waits for the node's end while the channels hear of its drain.
#[tokio::test(flavor = "multi_thread")]
async fn the_log_has_neither_tokens_nor_whose_they_are() {
    let folder = TempDir::new().unwrap();
    let node = Node::start(folder.path(), &["--log-level", "trace"]);
    let mut client = pb::auth_client::AuthClient::new(channel(&node.grpc).await);
    let request = pb::RegisterRequest { username: "ada".into(), password: password("ada"), ..Default::default() };
    client.register(request).await.unwrap();
    let login = pb::LoginRequest { username: "ada".into(), password: password("ada"), ..Default::default() };
    let tokens = client.login(login).await.unwrap().into_inner().tokens.unwrap();

    let mut gateway = AuthorizationClient::new(channel(&node.grpc).await);
    let canary = about(http(&[("authorization", "Bearer canary"), ("x-auth-subject", "canary")]), REQUIRED);
    for request in [shows(&tokens.access_token), canary] {
        gateway.check(request).await.unwrap();
    }
    node.signal("TERM");
    let (_, log) = node.wait();
    assert!(log.contains("authn_token_refused"), "the log shows nothing at all:\n{log}");
    // The login's own line says which session it began.
    let lines: Vec<_> = log.lines().filter(|line| !line.contains("authn_login_success")).collect();
    for secret in ["canary", &tokens.access_token, &tokens.session_id] {
        assert!(!lines.iter().any(|line| line.contains(secret)), "{secret} in\n{log}");
    }
    assert!(!log.contains(&tokens.access_token) && lines.len() < log.lines().count());
}
