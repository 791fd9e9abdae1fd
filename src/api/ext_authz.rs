//! Conversions for the external authorization of gateways: headers to a bearer token, and an identity to headers.
//!
//! Guarantees: an upstream learns the user only from the identity headers, so a response that allows a request sets or
//! removes each of them. A copy that a client sent never reaches the upstream, in any spelling that the upstream reads as
//! the same name: CGI, WSGI and PHP read `x_auth_subject` as `x-auth-subject`. It does not validate tokens.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    time::{SystemTime, UNIX_EPOCH},
};

use prost_types::{Struct, Value, value::Kind};
use serde_json::json;
use tonic::Code;

use super::{
    envoy_auth::{
        CheckRequest, CheckResponse, DeniedHttpResponse, OkHttpResponse,
        attribute_context::{self, HttpRequest},
        check_response::HttpResponse,
    },
    envoy_core::{HeaderValue, HeaderValueOption, address, header_value_option::HeaderAppendAction},
    envoy_type::HttpStatus,
    errors::{ErrorRow, error_row},
    rpc,
};
use crate::{
    common::bearer::{CHALLENGE, CHALLENGE_INVALID},
    domain::{Bearer, Error, Introspection, Route},
};

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
    /// The address of the client that the gateway serves, where the gateway names it. It is the gateway's own observation
    /// and no header of the client. Any caller of the gRPC listener can send any address, so only the audit log names it; no
    /// rate limit counts it.
    pub(crate) client: Option<IpAddr>,
    /// Which requests the route allows.
    pub(crate) route: Route,
    /// What the response changes in the request.
    pub(crate) changes: HeaderChanges,
}

/// What a response that allows a request changes in its headers, in addition to the identity.
#[derive(Debug, Default)]
pub(crate) struct HeaderChanges {
    /// Names in the request that an upstream can read as identity headers.
    lookalikes: BTreeSet<String>,
    /// Whether the token is removed.
    removes_authorization: bool,
}

impl From<CheckRequest> for AuthorizationCheck {
    fn from(request: CheckRequest) -> Self {
        let attributes = request.attributes.unwrap_or_default();
        let has_setting =
            |key: &str, value: &str| attributes.context_extensions.get(key).is_some_and(|found| found == value);
        let removes_authorization = has_setting("forward_authorization", "false");
        let client = attributes.source.as_ref().and_then(ip_address);
        let Some(http) = attributes.request.and_then(|request| request.http) else {
            // Without a description of the request there is nothing to allow.
            let changes = HeaderChanges::default();
            return Self { bearer: Bearer::Missing, client, route: Route::Required, changes };
        };
        // Every other value, a misspelt one included, means the safe default.
        let is_open = has_setting("auth", "optional") || (has_setting("preflight", "allow") && is_preflight(&http));
        let route = if is_open { Route::Optional } else { Route::Required };
        let changes = HeaderChanges { lookalikes: lookalikes(&http), removes_authorization };
        Self { bearer: bearer(&http), client, route, changes }
    }
}

/// The address of a peer of the gateway. A Unix socket has none.
fn ip_address(peer: &attribute_context::Peer) -> Option<IpAddr> {
    let address::Address::SocketAddress(socket) = peer.address.as_ref()?.address.as_ref()?;
    socket.address.parse::<IpAddr>().ok().map(|address| address.to_canonical())
}

/// The names of the request's headers that an upstream can read as identity headers, in lower case.
fn lookalikes(http: &HttpRequest) -> BTreeSet<String> {
    let listed = http.header_map.iter().flat_map(|map| &map.headers).map(|header| &header.key);
    let names = http.headers.keys().chain(listed).map(|name| name.to_ascii_lowercase());
    names.filter(|name| IDENTITY_HEADERS.iter().any(|identity| folded(name) == *identity)).collect()
}

/// A name in lower case, with every other sign as a hyphen: the coarsest reading, which some CGI servers have.
fn folded(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' }).collect()
}

/// A name with every choice of hyphens and underscores, for requests whose headers the gateway does not list.
fn spellings(name: &str) -> Vec<String> {
    name.split('-').fold(Vec::new(), |begun: Vec<String>, part| match begun.as_slice() {
        [] => vec![part.to_owned()],
        begun => begun.iter().flat_map(|begun| ["-", "_"].map(|sign| format!("{begun}{sign}{part}"))).collect(),
    })
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
    changes: HeaderChanges,
) -> CheckResponse {
    match authorized {
        Ok(user) => allowed(user.as_ref(), changes),
        Err(error) => refused(&error),
    }
}

fn allowed(user: Option<&Introspection>, changes: HeaderChanges) -> CheckResponse {
    let set: Vec<_> = user.into_iter().flat_map(identity_headers).collect();
    let mut removed = changes.lookalikes;
    removed.extend(IDENTITY_HEADERS.into_iter().flat_map(spellings));
    // A gateway removes after it sets.
    removed.retain(|name| set.iter().all(|(set, _)| set != name));
    removed.extend(changes.removes_authorization.then(|| AUTHORIZATION.to_owned()));
    let ok = OkHttpResponse {
        headers_to_remove: removed.into_iter().collect(),
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
        Error::TokenMissing => denied(row, CHALLENGE),
        Error::TokenInvalid | Error::TokenExpired | Error::TokenRevoked | Error::InvalidCredentials => {
            denied(row, CHALLENGE_INVALID)
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
