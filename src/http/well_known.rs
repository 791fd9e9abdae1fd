//! What services need to validate access tokens themselves: the public keys (RFC 7517) and the metadata (RFC 8414).
//!
//! The metadata is also at OpenID's path, because some gateways look only there. It says that this is not an OpenID
//! provider.

use std::sync::Arc;

use axum::{
    body::Body,
    extract::State,
    http::{HeaderValue, Request, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};

use super::response::refusal;
use crate::domain::{Auth, fingerprint};

/// How long a client may use what it fetched. A key is published for longer than this before it is used.
const CACHE_CONTROL: &str = "public, max-age=300";

/// `GET /.well-known/jwks.json`
pub(super) async fn keys(State(auth): State<Arc<Auth>>, request: Request<Body>) -> Response {
    let keys = match auth.public_keys().await {
        Ok(keys) => keys,
        Err(error) => return refusal(&error),
    };
    let keys: Vec<_> = keys
        .iter()
        .map(|key| {
            json!({"kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "kid": key.key_id, "x": key.x, "y": key.y})
        })
        .collect();
    document(&request, &json!({ "keys": keys }))
}

/// `GET /.well-known/oauth-authorization-server`, and OpenID's path.
pub(super) async fn metadata(State(auth): State<Arc<Auth>>, request: Request<Body>, has_oauth: bool) -> Response {
    let at = |path: &str| format!("{}{path}", auth.token_settings().names.issuer.trim_end_matches('/'));
    let mut metadata = json!({
        "issuer": auth.token_settings().names.issuer,
        "jwks_uri": at("/.well-known/jwks.json"),
        // RFC 8414 requires the lists. They are empty, because services log users in over gRPC.
        "response_types_supported": [],
        "grant_types_supported": [],
        "access_token_signing_alg_values_supported": ["ES256"],
        "note": "Watchword is not an OpenID Provider and not an OAuth authorization server: it issues no ID tokens and has \
                 no authorization endpoint. This document is here so that gateways find the keys of its access tokens.",
    });
    if has_oauth {
        for name in ["introspection", "revocation"] {
            let methods = ["client_secret_basic", "client_secret_post"];
            metadata[format!("{name}_endpoint_auth_methods_supported")] = json!(methods);
        }
        metadata["introspection_endpoint"] = at("/oauth2/introspect").into();
        metadata["revocation_endpoint"] = at("/oauth2/revoke").into();
    }
    document(&request, &metadata)
}

/// JSON that clients may cache, or NOT_MODIFIED.
fn document(request: &Request<Body>, document: &Value) -> Response {
    let text = document.to_string();
    let etag = fingerprint(&text);
    let etag = HeaderValue::from_str(&format!("\"{etag}\"")).expect("base64 is a header value");
    let known = request.headers().get_all(header::IF_NONE_MATCH).iter().any(|values| {
        let mut values = values.to_str().unwrap_or_default().split(',').map(str::trim);
        values.any(|value| value == "*" || value.trim_start_matches("W/").as_bytes() == etag.as_bytes())
    });
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("application/json")),
        (header::CACHE_CONTROL, HeaderValue::from_static(CACHE_CONTROL)),
        (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        (header::ETAG, etag),
    ];
    if known { (StatusCode::NOT_MODIFIED, headers).into_response() } else { (headers, text).into_response() }
}
