//! The authorization service for Envoy and other gateways (ext_authz): decisions and the headers of a request.

mod allowed;
mod denied;
mod messages;
mod protos;
mod unavailable;

use std::collections::BTreeMap;

use http_body_util::BodyExt;
use prost::Message;
use serde_json::Value;
use tonic::{Code, transport::Channel};
use watchword::api::{
    envoy_auth::{
        AttributeContext, CheckRequest, CheckResponse, DeniedHttpResponse, OkHttpResponse,
        attribute_context::{self, HttpRequest},
        authorization_client::AuthorizationClient,
        check_response::HttpResponse,
    },
    envoy_core::{HeaderValueOption, header_value_option::HeaderAppendAction},
    pb,
};

use crate::support::{App, StoreKind, h2};

const CHECK: &str = "/envoy.service.auth.v3.Authorization/Check";
const IDENTITY: [&str; 4] = ["x-auth-subject", "x-auth-username", "x-auth-session-id", "x-auth-scopes"];

/// Settings of a route, as a gateway sends them.
const REQUIRED: &[(&str, &str)] = &[];
const OPTIONAL: &[(&str, &str)] = &[("auth", "optional")];

fn http(headers: &[(&str, &str)]) -> HttpRequest {
    let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    HttpRequest { method: "GET".into(), headers, ..HttpRequest::default() }
}

/// The check of an HTTP request on a route with these settings.
fn check_request(http: HttpRequest, route: &[(&str, &str)]) -> CheckRequest {
    let context_extensions = route.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    let request = Some(attribute_context::Request { http: Some(http) });
    CheckRequest { attributes: Some(AttributeContext { source: None, request, context_extensions }) }
}

fn with_token(token: &str) -> CheckRequest {
    check_request(http(&[("authorization", &format!("Bearer {token}"))]), REQUIRED)
}

async fn check(app: &App, request: impl tonic::IntoRequest<CheckRequest>) -> CheckResponse {
    let mut gateway: AuthorizationClient<Channel> = AuthorizationClient::new(app.channel().await);
    gateway.check(request).await.unwrap().into_inner()
}

/// Like [`check`], with a deadline. The gateway has no timer of its own, so the server's response arrives.
async fn check_within(app: &App, request: &CheckRequest, timeout_header: &str) -> CheckResponse {
    let response = h2::call(app, CHECK, &[("grpc-timeout", timeout_header)], h2::framed(request)).await;
    assert_eq!(response.headers().get("grpc-status"), None, "{timeout_header}: the call succeeds: {response:?}");
    let body = response.into_body().collect().await.unwrap().to_bytes();
    CheckResponse::decode(&body[5..]).unwrap()
}

async fn with_ada(kind: StoreKind) -> (App, pb::Tokens) {
    let app = App::with(kind).with_admin().start().await;
    app.registered("ada").await;
    let tokens = app.authenticate("ada").await;
    (app, tokens)
}

fn code(response: &CheckResponse) -> Code {
    Code::from(response.status.as_ref().unwrap().code)
}

fn header_map(headers: &[HeaderValueOption]) -> BTreeMap<&str, &str> {
    assert!(headers.iter().all(|header| header.append_action() == HeaderAppendAction::OverwriteIfExistsOrAdd));
    let headers = headers.iter().map(|option| option.header.as_ref().unwrap());
    headers.map(|header| (header.key.as_str(), header.value.as_str())).collect()
}

/// The identity headers and their spellings with underscores, without these.
fn spellings_without(set: &[&str]) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for name in IDENTITY {
        for choice in 0..1 << name.matches('-').count() {
            let mut signs = (0..).map(|number| if choice >> number & 1 == 0 { "-" } else { "_" });
            let mut parts = name.split('-');
            let first = parts.next().unwrap().to_owned();
            found.push(parts.fold(first, |begun, part| begun + signs.next().unwrap() + part));
        }
    }
    found.retain(|name| !set.contains(&name.as_str()));
    found.sort();
    found
}

/// The changes to a request that is allowed.
fn allowed(response: &CheckResponse) -> &OkHttpResponse {
    let (Code::Ok, Some(HttpResponse::OkResponse(ok))) = (code(response), &response.http_response) else {
        panic!("not allowed: {}", outcome(response));
    };
    ok
}

/// `user`, `anonymous`, or the error reason of a denied request. Checks all fields of a denied response.
fn outcome(response: &CheckResponse) -> String {
    let (status, http, denied) = match response.http_response.as_ref().unwrap() {
        HttpResponse::OkResponse(ok) if ok.headers.is_empty() => return "anonymous".into(),
        HttpResponse::OkResponse(_) => return "user".into(),
        HttpResponse::DeniedResponse(denied) => (Code::Unauthenticated, 401, denied),
        HttpResponse::ErrorResponse(_) => panic!("an error response"),
    };
    assert_eq!((code(response), denied.status.unwrap().code), (status, http));
    assert!(response.dynamic_metadata.is_none());
    let headers = header_map(&denied.headers);
    let reason = reason_in(denied);
    // RFC 6750 section 3: a realm, and no error for a request without a bearer token.
    let challenge = match reason.as_str() {
        "TOKEN_MISSING" => r#"Bearer realm="watchword""#,
        _ => r#"Bearer realm="watchword", error="invalid_token""#,
    };
    let expected =
        [("cache-control", "no-store"), ("content-type", "application/json"), ("www-authenticate", challenge)];
    assert_eq!(headers, BTreeMap::from(expected));
    reason
}

fn reason_in(denied: &DeniedHttpResponse) -> String {
    let body: Value = serde_json::from_str(&denied.body).unwrap();
    let reason = body["reason"].as_str().unwrap().to_owned();
    assert!(pb::ErrorReason::from_str_name(&format!("ERROR_REASON_{reason}")).is_some(), "{reason}");
    assert!(!body["message"].as_str().unwrap().is_empty() && body.as_object().unwrap().len() == 2, "{body}");
    reason
}

/// The headers of the request as the upstream gets it: Envoy's processing of an allowed response.
fn upstream_headers(sent: &[(&str, &str)], ok: &OkHttpResponse) -> BTreeMap<String, String> {
    let mut headers: BTreeMap<String, String> =
        sent.iter().map(|(name, value)| (name.to_lowercase(), (*value).to_owned())).collect();
    headers.extend(header_map(&ok.headers).into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())));
    for name in &ok.headers_to_remove {
        headers.remove(name);
    }
    headers
}
