//! Conversions for the external authorization of gateways: headers to a bearer token, and an identity to headers.
//!
//! Guarantees: an upstream learns the user only from the identity headers, so a response that allows a request sets or
//! removes each of them. A copy that a client sent never reaches the upstream. It does not validate tokens.

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
    errors::{ErrorRow, error_row},
    rpc,
};
use crate::domain::{Bearer, Error, Introspection, Route};

/// The user's id.
const SUBJECT: &str = "x-auth-subject";
/// The canonical username, percent-encoded.
const USERNAME: &str = "x-auth-username";
/// The session's id.
const SESSION_ID: &str = "x-auth-session-id";
/// The scopes of the token. There are no scopes yet, so it is always removed.
const SCOPES: &str = "x-auth-scopes";

/// All identity headers.
const IDENTITY_HEADERS: [&str; 4] = [SUBJECT, USERNAME, SESSION_ID, SCOPES];

const AUTHORIZATION: &str = "authorization";

/// A gateway's question about one request.
#[derive(Debug)]
pub(crate) struct AuthorizationCheck {
    /// The token of the request.
    pub(crate) bearer: Bearer,
    /// Which requests the route allows.
    pub(crate) route: Route,
    /// Whether the upstream gets the token too.
    pub(crate) forwards_authorization: bool,
}

impl From<CheckRequest> for AuthorizationCheck {
    fn from(request: CheckRequest) -> Self {
        let attributes = request.attributes.unwrap_or_default();
        let has_setting =
            |key: &str, value: &str| attributes.context_extensions.get(key).is_some_and(|found| found == value);
        let forwards_authorization = !has_setting("forward_authorization", "false");
        let Some(http) = attributes.request.and_then(|request| request.http) else {
            // Without a description of the request there is nothing to allow.
            return Self { bearer: Bearer::Missing, route: Route::Required, forwards_authorization };
        };
        // Every other value, a misspelt one included, means the safe default.
        let is_open = has_setting("auth", "optional") || (has_setting("preflight", "allow") && is_preflight(&http));
        let route = if is_open { Route::Optional } else { Route::Required };
        Self { bearer: bearer(&http), route, forwards_authorization }
    }
}

/// Whether this is a CORS preflight request (Fetch standard). A preflight never has credentials.
fn is_preflight(http: &HttpRequest) -> bool {
    let has = |name| !values(http, name).is_empty();
    http.method == "OPTIONS" && has("origin") && has("access-control-request-method")
}

fn bearer(http: &HttpRequest) -> Bearer {
    Bearer::parse(values(http, AUTHORIZATION).into_iter())
}

/// Every value of a header. A gateway fills one of the two places. If both hold the same values, they are one copy.
fn values<'a>(http: &'a HttpRequest, name: &str) -> Vec<&'a [u8]> {
    let joined = http.headers.iter().filter(|(key, _)| key.eq_ignore_ascii_case(name));
    let joined: Vec<_> = joined.map(|(_, value)| value.as_bytes()).collect();
    let list_entry = http.header_map.iter().flat_map(|map| &map.headers).filter(|h| h.key.eq_ignore_ascii_case(name));
    let list_entry: Vec<_> = list_entry.flat_map(values_of).collect();
    if joined == list_entry { joined } else { [joined, list_entry].concat() }
}

/// One value, unless text and bytes differ.
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

/// The response to the gateway.
pub(crate) fn check_response(
    authorized: Result<Option<Introspection>, Error>,
    forwards_authorization: bool,
) -> CheckResponse {
    match authorized {
        Ok(user) => allowed(user.as_ref(), forwards_authorization),
        Err(error) => refused(&error),
    }
}

fn allowed(user: Option<&Introspection>, forwards_authorization: bool) -> CheckResponse {
    let set: Vec<_> = user.into_iter().flat_map(identity_headers).collect();
    let names_set = |name: &&str| set.iter().any(|(named, _)| named == name);
    let unset = IDENTITY_HEADERS.into_iter().filter(|name| !names_set(name));
    let token = (!forwards_authorization).then_some(AUTHORIZATION);
    let ok = OkHttpResponse {
        headers_to_remove: unset.chain(token).map(str::to_owned).collect(),
        headers: set.into_iter().map(|(name, value)| header(name, value)).collect(),
    };
    CheckResponse {
        status: Some(rpc::Status { code: Code::Ok.into(), ..Default::default() }),
        dynamic_metadata: user.map(token_metadata),
        http_response: Some(HttpResponse::OkResponse(ok)),
    }
}

fn identity_headers(user: &Introspection) -> [(&'static str, String); 3] {
    [
        (SUBJECT, user.user_id.to_string()),
        (USERNAME, percent_encoded(user.username.as_str())),
        (SESSION_ID, user.session_id.to_string()),
    ]
}

/// For later filters of the gateway and its log. The names are those of the claims of the token.
fn token_metadata(user: &Introspection) -> Struct {
    let text = |text: &str| Value { kind: Some(Kind::StringValue(text.to_owned())) };
    let time = |time| Value { kind: Some(Kind::NumberValue(seconds(time))) };
    let fields = [
        ("sub", text(&user.user_id.to_string())),
        ("sid", text(&user.session_id.to_string())),
        ("iss", text(&user.issuer)),
        ("iat", time(user.issue_time)),
        ("exp", time(user.expire_time)),
    ];
    let fields: BTreeMap<_, _> = fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    Struct { fields }
}

/// Seconds since 1970. Tokens have whole seconds, which an `f64` holds exactly.
fn seconds(time: SystemTime) -> f64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

fn refused(error: &Error) -> CheckResponse {
    let row = error_row(error);
    match error {
        // RFC 6750 section 3.1: a request without credentials gets no error code.
        Error::TokenMissing => denied(row, "Bearer"),
        Error::TokenInvalid | Error::TokenExpired | Error::TokenRevoked | Error::InvalidCredentials => {
            denied(row, r#"Bearer error="invalid_token""#)
        }
        // Not the client's fault. The gateway decides, as its operator configured it: fail open or fail closed.
        Error::CallerNotAllowed
        | Error::UserAlreadyExists
        | Error::UserNotFound
        | Error::UserDisabled
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

fn denied(row: ErrorRow, challenge: &str) -> CheckResponse {
    let mut response = http_response(&row);
    response.headers.push(header("www-authenticate", challenge.into()));
    let status = rpc::Status { code: Code::Unauthenticated.into(), message: row.text, details: Vec::new() };
    CheckResponse {
        status: Some(status),
        http_response: Some(HttpResponse::DeniedResponse(response)),
        dynamic_metadata: None,
    }
}

fn failed(row: ErrorRow) -> CheckResponse {
    let mut response = http_response(&row);
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

fn http_response(row: &ErrorRow) -> DeniedHttpResponse {
    DeniedHttpResponse {
        status: Some(HttpStatus { code: row.http.into() }),
        headers: vec![
            header("content-type", "application/json".into()),
            // The decision depends on the time.
            header("cache-control", "no-store".into()),
        ],
        body: json!({"reason": row.reason, "message": row.text}).to_string(),
    }
}

/// A header that replaces all headers of its name.
fn header(name: &str, value: String) -> HeaderValueOption {
    HeaderValueOption {
        header: Some(HeaderValue { key: name.into(), value, raw_value: Vec::new() }),
        append_action: HeaderAppendAction::OverwriteIfExistsOrAdd.into(),
    }
}

/// Encodes all but the unreserved characters of RFC 3986 section 2.3, because a username may hold characters that a header
/// must not.
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
