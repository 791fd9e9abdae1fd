//! The messages of the service: their encoding and size, and what `Debug` and the log show of them.

use prost::Message;
use tempfile::TempDir;
use tonic::Code;
use watchword::api::{
    envoy_auth::{CheckRequest, attribute_context::HttpRequest, authorization_client::AuthorizationClient},
    envoy_core::{HeaderMap, HeaderValue},
    pb,
};

use super::{REQUIRED, allowed, check, check_request, header_map, http, outcome, with_ada, with_token};
use crate::support::{Node, StoreKind, channel, password, reason};

/// The client chooses the bytes of its path and of its id. A check that cannot be decoded is an error, and some
/// gateways allow the request then.
#[test]
fn check_with_invalid_utf8_in_unused_fields_is_decoded() {
    let field = |number: u8, bytes: &[u8]| [&[number << 3 | 2, u8::try_from(bytes.len()).unwrap()], bytes].concat();
    for number in [1, 4, 5, 6, 10] {
        let http = [field(2, b"GET"), field(number, b"\xff")].concat();
        let check = field(1, &field(4, &field(2, &http)));
        let read = CheckRequest::decode(&*check).unwrap();
        assert_eq!(read.attributes.unwrap().request.unwrap().http.unwrap().method, "GET", "field {number}");
    }
}

/// The largest request head that Envoy accepts by default (60 KiB), all of it in the path, which is sent twice.
#[tokio::test]
async fn largest_request_head_of_envoy_is_accepted() {
    let (app, tokens) = with_ada(StoreKind::Memory).await;
    let path = format!("/{}", "p".repeat(60 * 1024));
    let bearer = format!("Bearer {}", tokens.access_token);
    let twice = http(&[("authorization", &bearer), (":path", &path), ("x-envoy-original-path", &path)]);
    let response = check(&app, check_request(twice, REQUIRED)).await;
    assert_eq!(outcome(&response), "user");
    let huge = check_request(http(&[("cookie", &"c".repeat(256 * 1024))]), REQUIRED);
    let refused = AuthorizationClient::new(app.channel().await).check(huge).await.unwrap_err();
    assert_eq!((refused.code(), reason(&refused).as_str()), (Code::ResourceExhausted, "REQUEST_TOO_LARGE"));
}

#[tokio::test]
async fn debug_of_a_check_and_its_response_shows_no_header() {
    let (app, tokens) = with_ada(StoreKind::Memory).await;
    let list_entry = HeaderMap {
        headers: vec![HeaderValue { key: "x-canary".into(), value: "canary".into(), raw_value: b"canary".to_vec() }],
    };
    let bearer = format!("Bearer {}", tokens.access_token);
    let request = HttpRequest { header_map: Some(list_entry.clone()), ..http(&[("authorization", &bearer)]) };
    let request = check_request(request, REQUIRED);
    let response = check(&app, request.clone()).await;
    let user_id = header_map(&allowed(&response).headers)["x-auth-subject"].to_owned();
    let shown = format!(
        "{request:?} {:?} {list_entry:?} {response:?} {:?}",
        request.attributes,
        response.http_response.as_ref()
    );
    for secret in ["canary", &tokens.access_token, &tokens.session_id, &user_id, "orders"] {
        assert!(!shown.contains(secret), "{secret} in {shown}");
    }
    assert!(shown.starts_with("CheckRequest "), "{shown}");
}

// Needs two threads: one waits for the node to exit while the channels receive its GOAWAY.
#[tokio::test(flavor = "multi_thread")]
async fn log_of_checks_has_neither_tokens_nor_session_ids() {
    let folder = TempDir::new().unwrap();
    let node = Node::start(folder.path(), &["--log-level", "trace"]);
    let mut client = pb::auth_client::AuthClient::new(channel(&node.grpc).await);
    let request = pb::RegisterRequest { username: "ada".into(), password: password("ada"), ..Default::default() };
    client.register(request).await.unwrap();
    let login = pb::LoginRequest { username: "ada".into(), password: password("ada"), ..Default::default() };
    let tokens = client.login(login).await.unwrap().into_inner().tokens.unwrap();

    let mut gateway = AuthorizationClient::new(channel(&node.grpc).await);
    let canary = check_request(http(&[("authorization", "Bearer canary"), ("x-auth-subject", "canary")]), REQUIRED);
    for request in [with_token(&tokens.access_token), canary] {
        gateway.check(request).await.unwrap();
    }
    node.signal("TERM");
    let (_, log) = node.wait();
    assert!(log.contains("authn_token_refused"), "the control: refusals are logged:\n{log}");
    // The line of the login names the session that it created.
    let lines: Vec<_> = log.lines().filter(|line| !line.contains("authn_login_success")).collect();
    for secret in ["canary", &tokens.access_token, &tokens.session_id] {
        assert!(!lines.iter().any(|line| line.contains(secret)), "{secret} in\n{log}");
    }
    assert!(!log.contains(&tokens.access_token) && lines.len() < log.lines().count());
}
