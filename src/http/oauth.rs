//! Introspection (RFC 7662) and revocation (RFC 7009) for gateways and libraries that speak OAuth: forms in, JSON out.
//!
//! Errors are in the words of RFC 6749 (5.2, and 4.1.2.1 for what is not the caller's fault). A refresh token counts only for a caller who says that it asks about one: a gateway
//! that looks at `active` alone must not take it for an access token.

use std::{sync::Arc, time::SystemTime};

use axum::{
    body::Body,
    extract::State,
    http::{HeaderName, HeaderValue, Request, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};

use super::{
    answer::{add_headers, status},
    clients::{Clients, Stranger},
    query::Query,
    request::{collect, context, is_form, within},
};
use crate::{
    api::error::row,
    domain::{Api, Auth, CallContext, Error, Event, Introspection, TokenUse},
};

/// Nobody keeps what is said of a token.
const NO_STORE: [(HeaderName, HeaderValue); 3] = [
    (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    (header::PRAGMA, HeaderValue::from_static("no-cache")),
    (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
];

/// What the routes work with.
#[derive(Clone)]
pub(super) struct OAuth {
    pub(super) auth: Arc<Auth>,
    pub(super) clients: Arc<Clients>,
}

/// What both forms say.
struct Asked {
    token: String,
    /// `token_type_hint=refresh_token`
    may_refresh: bool,
}

/// Why a request is not answered.
enum Refused {
    /// The form is not what the RFC asks for.
    Request(&'static str),
    /// The caller is nobody who may ask.
    Client,
    /// The rules, or the body.
    Rule(Error),
}

/// `POST /oauth2/introspect`
pub(super) async fn introspect(State(api): State<OAuth>, request: Request<Body>) -> Response {
    let context = context(&api.auth, Api::OAuth, &request);
    let answer = async {
        let Asked { token, may_refresh } = api.open(&context, request).await?;
        let found = api.auth.introspect_token(&token).await?;
        Ok::<_, Refused>(found.filter(|found| found.token_use == TokenUse::Access || may_refresh))
    };
    match within(&context, &api.auth, answer).await {
        Ok(found) => document(StatusCode::OK, &introspection(found)),
        Err(refused) => refused.answer(),
    }
}

/// `POST /oauth2/revoke`
pub(super) async fn revoke(State(api): State<OAuth>, request: Request<Body>) -> Response {
    let context = context(&api.auth, Api::OAuth, &request);
    let answer = async {
        let Asked { token, .. } = api.open(&context, request).await?;
        Ok::<_, Refused>(api.auth.revoke_token(&context, &token).await?)
    };
    match within(&context, &api.auth, answer).await {
        Ok(()) => (StatusCode::OK, NO_STORE).into_response(),
        Err(refused) => refused.answer(),
    }
}

impl OAuth {
    /// Reads the form of a client that may ask.
    async fn open(&self, context: &CallContext, request: Request<Body>) -> Result<Asked, Refused> {
        let (parts, body) = request.into_parts();
        if !is_form(&parts.headers) {
            return Err(Refused::Request("send content-type: application/x-www-form-urlencoded"));
        }
        let mut form = Query::parse_form(&collect(body).await?)?;
        if form.repeats() {
            return Err(Refused::Request("a parameter stands there twice"));
        }
        self.clients.check(&parts.headers, &mut form).map_err(|stranger| match stranger {
            Stranger::Malformed(fault) => Refused::Request(fault),
            Stranger::Unknown => {
                self.auth.environment().note(&Event::ClientRefused { context });
                Refused::Client
            }
        })?;
        let token =
            form.take("token").filter(|token| !token.is_empty()).ok_or(Refused::Request("token is required"))?;
        let may_refresh = form.take("token_type_hint").as_deref() == Some("refresh_token");
        Ok(Asked { token, may_refresh })
    }
}

/// RFC 7662 2.2; of a token that does not count, nothing but that.
fn introspection(found: Option<Introspection>) -> Value {
    let Some(found) = found else { return json!({"active": false}) };
    let mut document = json!({
        "active": true,
        "sub": found.user_id.to_string(),
        "username": found.username.as_str(),
        "sid": found.session_id.to_string(),
        "iat": seconds(found.issue_time),
        "exp": seconds(found.expire_time),
        "iss": found.issuer,
        "aud": found.audience,
    });
    let (name, value) = match found.token_use {
        TokenUse::Access => ("token_type", "Bearer"),
        // It is of no OAuth type: nobody may be called with it.
        TokenUse::Refresh => ("token_use", "refresh"),
    };
    document[name] = value.into();
    document
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
}

fn document(status: StatusCode, document: &Value) -> Response {
    let content_type = (header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    (status, NO_STORE, [content_type], document.to_string()).into_response()
}

// === impl Refused ===

impl From<Error> for Refused {
    fn from(error: Error) -> Self {
        Refused::Rule(error)
    }
}

impl Refused {
    fn answer(&self) -> Response {
        let say = |status, code: &str, text: &str| document(status, &json!({"error": code, "error_description": text}));
        match self {
            Refused::Request(text) => say(StatusCode::BAD_REQUEST, "invalid_request", text),
            Refused::Client => {
                let text = "authenticate with a name and a secret of --oauth-clients-file";
                let mut response = say(StatusCode::UNAUTHORIZED, "invalid_client", text);
                let challenge = HeaderValue::from_static("Basic realm=\"watchword\", charset=\"UTF-8\"");
                response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
                response
            }
            Refused::Rule(error) => {
                let row = row(error);
                let status = status(&row);
                let code = match status {
                    StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS => "temporarily_unavailable",
                    status if status.is_server_error() => "server_error",
                    _ => "invalid_request",
                };
                let mut response = say(status, code, &row.text);
                add_headers(&row, &mut response);
                response
            }
        }
    }
}
