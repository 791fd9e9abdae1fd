//! Between what a gateway asks and the rules: headers to a bearer token, and who calls to headers.
//!
//! Identity headers are the upstream's only word on who calls, so an answer that lets a request pass has something to say
//! about every one of them: it is set, or it is removed. A copy that a client sent never survives.

use std::{
    collections::BTreeMap,
    time::{SystemTime, UNIX_EPOCH},
};

use prost_types::{Struct, Value, value::Kind};
use serde_json::json;
use tonic::Code;

use super::{
    envoy_auth::{
        CheckRequest, CheckResponse, DeniedHttpResponse, OkHttpResponse, attribute_context::HttpRequest,
        check_response::HttpResponse,
    },
    envoy_core::{HeaderValue, HeaderValueOption, header_value_option::HeaderAppendAction},
    envoy_type::HttpStatus,
    error::{Row, row},
    rpc,
};
use crate::domain::{Bearer, Error, Introspection, Route};

/// The user's id.
const SUBJECT: &str = "x-auth-subject";
/// The user's canonical name, percent-encoded.
const USERNAME: &str = "x-auth-username";
/// The session's id.
const SESSION_ID: &str = "x-auth-session-id";
/// What the token may be used for. There are no scopes yet, so it is only ever removed.
const SCOPES: &str = "x-auth-scopes";

/// Every header that says who calls.
const IDENTITY: [&str; 4] = [SUBJECT, USERNAME, SESSION_ID, SCOPES];

const AUTHORIZATION: &str = "authorization";

/// What a gateway wants to know.
#[derive(Debug)]
pub(crate) struct Check {
    /// What the request shows.
    pub(crate) bearer: Bearer,
    /// Whom the request's route lets pass.
    pub(crate) route: Route,
    /// Whether the upstream gets the token too.
    pub(crate) forwards_authorization: bool,
}

impl From<CheckRequest> for Check {
    fn from(request: CheckRequest) -> Self {
        let attributes = request.attributes.unwrap_or_default();
        let says = |key: &str, value: &str| attributes.context_extensions.get(key).is_some_and(|said| said == value);
        let forwards_authorization = !says("forward_authorization", "false");
        let Some(http) = attributes.request.and_then(|request| request.http) else {
            // Nobody can say what this is, so it passes nowhere.
            return Self { bearer: Bearer::Missing, route: Route::Required, forwards_authorization };
        };
        // Whatever else the settings say, a misspelt word included, is the safe default.
        let is_open = says("auth", "optional") || (says("preflight", "allow") && is_preflight(&http));
        let route = if is_open { Route::Optional } else { Route::Required };
        Self { bearer: bearer(&http), route, forwards_authorization }
    }
}

/// A browser that asks whether a page may make a request (Fetch, "CORS-preflight request"); it never has credentials.
fn is_preflight(http: &HttpRequest) -> bool {
    let has = |name| !values(http, name).is_empty();
    http.method == "OPTIONS" && has("origin") && has("access-control-request-method")
}

fn bearer(http: &HttpRequest) -> Bearer {
    Bearer::parse(values(http, AUTHORIZATION).into_iter())
}

/// Every value of a header. A gateway fills one of the two places; what both have alike came once.
fn values<'a>(http: &'a HttpRequest, name: &str) -> Vec<&'a [u8]> {
    let joined = http.headers.iter().filter(|(key, _)| key.eq_ignore_ascii_case(name));
    let joined: Vec<_> = joined.map(|(_, value)| value.as_bytes()).collect();
    let list_entry = http.header_map.iter().flat_map(|map| &map.headers).filter(|h| h.key.eq_ignore_ascii_case(name));
    let list_entry: Vec<_> = list_entry.flat_map(values_of).collect();
    if joined == list_entry { joined } else { [joined, list_entry].concat() }
}

/// One value, unless text and bytes say different things.
fn values_of(header: &HeaderValue) -> Vec<&[u8]> {
    let (text, raw) = (header.value.as_bytes(), header.raw_value.as_slice());
    if raw.is_empty() || raw == text {
        vec![text]
    } else if text.is_empty() {
        vec![raw]
    } else {
        vec![text, raw]
    }
}

/// What the gateway is told.
pub(crate) fn answer(authorized: Result<Option<Introspection>, Error>, forwards_authorization: bool) -> CheckResponse {
    match authorized {
        Ok(who) => allowed(who.as_ref(), forwards_authorization),
        Err(error) => refused(&error),
    }
}

fn allowed(who: Option<&Introspection>, forwards_authorization: bool) -> CheckResponse {
    let set: Vec<_> = who.into_iter().flat_map(identity).collect();
    let names_set = |name: &&str| set.iter().any(|(named, _)| named == name);
    let unset = IDENTITY.into_iter().filter(|name| !names_set(name));
    let token = (!forwards_authorization).then_some(AUTHORIZATION);
    let ok = OkHttpResponse {
        headers_to_remove: unset.chain(token).map(str::to_owned).collect(),
        headers: set.into_iter().map(|(name, value)| header(name, value)).collect(),
    };
    CheckResponse {
        status: Some(rpc::Status { code: Code::Ok.into(), ..Default::default() }),
        dynamic_metadata: who.map(facts),
        http_response: Some(HttpResponse::OkResponse(ok)),
    }
}

fn identity(who: &Introspection) -> [(&'static str, String); 3] {
    [
        (SUBJECT, who.user_id.to_string()),
        (USERNAME, percent_encoded(who.username.as_str())),
        (SESSION_ID, who.session_id.to_string()),
    ]
}

/// For the gateway's later filters and its log; named like the token's claims.
fn facts(who: &Introspection) -> Struct {
    let text = |text: &str| Value { kind: Some(Kind::StringValue(text.to_owned())) };
    let time = |time| Value { kind: Some(Kind::NumberValue(seconds(time))) };
    let fields = [
        ("sub", text(&who.user_id.to_string())),
        ("sid", text(&who.session_id.to_string())),
        ("iss", text(&who.issuer)),
        ("iat", time(who.issue_time)),
        ("exp", time(who.expire_time)),
    ];
    let fields: BTreeMap<_, _> = fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    Struct { fields }
}

/// Since 1970. Whole in tokens, and a `f64` has every whole second exactly.
fn seconds(time: SystemTime) -> f64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

fn refused(error: &Error) -> CheckResponse {
    let row = row(error);
    match error {
        // RFC 6750, 3.1: whoever showed nothing is told the scheme and no more.
        Error::TokenMissing => denied(row, "Bearer"),
        Error::TokenInvalid | Error::TokenExpired | Error::TokenRevoked | Error::InvalidCredentials => {
            denied(row, r#"Bearer error="invalid_token""#)
        }
        // Ours to answer for: never a word against the client, so that the operator's choice to fail open or closed holds.
        Error::UserAlreadyExists
        | Error::UserNotFound
        | Error::Invalid(_)
        | Error::PasswordPolicy(_)
        | Error::RequestTooLarge
        | Error::ChallengeRequired { .. }
        | Error::ChallengeInvalid { .. }
        | Error::Overloaded { .. }
        | Error::RateLimited { .. }
        | Error::Conflict
        | Error::Draining
        | Error::StoreUnavailable
        | Error::OutcomeUnknown
        | Error::DeadlineExceeded
        | Error::Internal(_)
        | Error::CorruptRecord(_) => failed(row),
    }
}

fn denied(row: Row, challenge: &str) -> CheckResponse {
    let mut response = http_answer(&row);
    response.headers.push(header("www-authenticate", challenge.into()));
    let status = rpc::Status { code: Code::Unauthenticated.into(), message: row.text, details: Vec::new() };
    CheckResponse {
        status: Some(status),
        http_response: Some(HttpResponse::DeniedResponse(response)),
        dynamic_metadata: None,
    }
}

fn failed(row: Row) -> CheckResponse {
    let mut response = http_answer(&row);
    if let Some(seconds) = row.retry_after_seconds() {
        response.headers.push(header("retry-after", seconds.to_string()));
    }
    let status = rpc::Status { code: Code::Unavailable.into(), message: row.text, details: Vec::new() };
    CheckResponse {
        status: Some(status),
        http_response: Some(HttpResponse::ErrorResponse(response)),
        dynamic_metadata: None,
    }
}

fn http_answer(row: &Row) -> DeniedHttpResponse {
    DeniedHttpResponse {
        status: Some(HttpStatus { code: row.http.into() }),
        headers: vec![
            header("content-type", "application/json".into()),
            // Another moment, another answer.
            header("cache-control", "no-store".into()),
        ],
        body: json!({"reason": row.reason, "message": row.text}).to_string(),
    }
}

/// One that replaces whatever is there under its name.
fn header(name: &str, value: String) -> HeaderValueOption {
    HeaderValueOption {
        header: Some(HeaderValue { key: name.into(), value, raw_value: Vec::new() }),
        append_action: HeaderAppendAction::OverwriteIfExistsOrAdd.into(),
    }
}

/// RFC 3986, 2.3: all but the unreserved characters. Names may hold what no header may.
fn percent_encoded(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => encoded.push(byte.into()),
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}
