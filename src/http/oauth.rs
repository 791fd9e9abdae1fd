//! Introspection (RFC 7662) and revocation (RFC 7009), for gateways and libraries that speak OAuth: forms in, JSON out.
//!
//! Errors have the codes of RFC 6749 (section 5.2, and 4.1.2.1 for server errors). A refresh token is active only for a
//! client that sends the hint `refresh_token`: a gateway that reads only `active` must not accept one as an access token.

use std::{sync::Arc, time::SystemTime};

use axum::{
    body::Body,
    extract::State,
    http::{HeaderName, HeaderValue, Request, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};

use super::{
    form::FormFields,
    oauth_clients::{ClientAuthError, OAuthClients},
    request::{collect, context, is_form},
    response::{add_headers, status},
};
use crate::{
    api::{call, errors::error_row},
    domain::{Api, Auth, CallContext, Error, Introspection, TokenTypeHint, TokenUse},
};

/// No cache stores what is said about a token.
const NO_STORE: [(HeaderName, HeaderValue); 3] = [
    (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    (header::PRAGMA, HeaderValue::from_static("no-cache")),
    (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
];

/// What the routes need.
#[derive(Clone)]
pub(super) struct OAuthState {
    pub(super) auth: Arc<Auth>,
    pub(super) clients: Arc<OAuthClients>,
}

/// The form of both routes.
struct TokenForm {
    /// The name of the client that sent it.
    client: String,
    token: String,
    /// `token_type_hint`
    hint: TokenTypeHint,
}

/// Why a request failed.
enum OAuthError {
    /// The form does not satisfy the RFC.
    Request(&'static str),
    /// Client authentication failed.
    Client,
    /// The domain, the body or the deadline.
    Domain(Error),
}

/// `POST /oauth2/introspect`
pub(super) async fn introspect(State(state): State<OAuthState>, request: Request<Body>) -> Response {
    let context = context(&state.auth, Api::OAuth, &request);
    let answer = async {
        let TokenForm { token, hint, .. } = state.open(&context, request).await?;
        Ok::<_, OAuthError>(state.auth.introspect_token(&context, &token, hint).await?)
    };
    match call::in_time(&state.auth, context.deadline, answer).await {
        Ok(found) => document(StatusCode::OK, &introspection(found)),
        Err(error) => error.response(),
    }
}

/// `POST /oauth2/revoke`
pub(super) async fn revoke(State(state): State<OAuthState>, request: Request<Body>) -> Response {
    let context = context(&state.auth, Api::OAuth, &request);
    let answer = async {
        let TokenForm { client, token, .. } = state.open(&context, request).await?;
        Ok::<_, OAuthError>(state.auth.revoke_token(&context, Some(&client), &token).await?)
    };
    match call::in_time(&state.auth, context.deadline, answer).await {
        Ok(()) => (StatusCode::OK, NO_STORE).into_response(),
        Err(error) => error.response(),
    }
}

impl OAuthState {
    /// Reads the form and authenticates the client.
    async fn open(&self, context: &CallContext, request: Request<Body>) -> Result<TokenForm, OAuthError> {
        let (parts, body) = request.into_parts();
        if !is_form(&parts.headers) {
            return Err(OAuthError::Request("send content-type: application/x-www-form-urlencoded"));
        }
        let mut form = FormFields::parse_form(&collect(body).await?)?;
        if form.repeats() {
            return Err(OAuthError::Request("a parameter appears twice"));
        }
        let client = self.clients.check(&parts.headers, &mut form).map_err(|error| match error {
            ClientAuthError::Malformed(fault) => OAuthError::Request(fault),
            ClientAuthError::Unknown => {
                self.auth.refuse_client(context).map_or_else(OAuthError::Domain, |()| OAuthError::Client)
            }
        })?;
        let client = client.to_owned();
        let token =
            form.take("token").filter(|token| !token.is_empty()).ok_or(OAuthError::Request("token is required"))?;
        let hint = TokenTypeHint::parse(&form.take("token_type_hint").unwrap_or_default());
        Ok(TokenForm { client, token, hint })
    }
}

/// RFC 7662 section 2.2. The response about an inactive token holds nothing else.
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
        "client_id": found.client_id,
    });
    let (name, value) = match found.token_use {
        TokenUse::Access => ("token_type", "Bearer"),
        // OAuth defines no type for it: a refresh token authorizes no call.
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

// === impl OAuthError ===

impl From<Error> for OAuthError {
    fn from(error: Error) -> Self {
        OAuthError::Domain(error)
    }
}

impl OAuthError {
    fn response(&self) -> Response {
        let error_document =
            |status, code: &str, text: &str| document(status, &json!({"error": code, "error_description": text}));
        match self {
            OAuthError::Request(text) => error_document(StatusCode::BAD_REQUEST, "invalid_request", text),
            OAuthError::Client => {
                let text = "authenticate with a name and a secret of --oauth-clients-file";
                let mut response = error_document(StatusCode::UNAUTHORIZED, "invalid_client", text);
                let challenge = HeaderValue::from_static("Basic realm=\"watchword\", charset=\"UTF-8\"");
                response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
                response
            }
            OAuthError::Domain(Error::CallerNotAllowed) => {
                let text = "the token was issued to another client; --token-client-id names the one of new sessions";
                error_document(StatusCode::BAD_REQUEST, "unauthorized_client", text)
            }
            OAuthError::Domain(error) => {
                let row = error_row(error);
                let status = status(&row);
                let code = match status {
                    StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS => "temporarily_unavailable",
                    status if status.is_server_error() => "server_error",
                    _ => "invalid_request",
                };
                let mut response = error_document(status, code, &row.text);
                add_headers(&row, &mut response);
                response
            }
        }
    }
}
