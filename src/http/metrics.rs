//! Measures every HTTP request until its response is ready.

use std::sync::Arc;

use axum::{
    body::Body,
    extract::{MatchedPath, State},
    http::{Method, Request},
    middleware::Next,
    response::Response,
};

use crate::{
    api::call::{CallLabels, CallMetrics},
    domain::Auth,
};

/// The templates of all routes. Callers must not choose the value of a label.
const ROUTES: [&str; 10] = [
    "/",
    "/register",
    "/login",
    "/altcha/challenge",
    "/.well-known/jwks.json",
    "/.well-known/oauth-authorization-server",
    "/.well-known/openid-configuration",
    "/oauth2/introspect",
    "/oauth2/revoke",
    "/oauth2/{*path}",
];

const METHODS: [&str; 9] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "CONNECT", "TRACE"];

/// The label of an unknown route or method, as in OpenTelemetry.
const OTHER: &str = "_OTHER";

/// The status of a request whose caller goes away before the response, as web servers log it.
const CALLER_LEFT: u16 = 499;

pub(super) async fn measure(State(auth): State<Arc<Auth>>, request: Request<Body>, next: Next) -> Response {
    let (route, method) = (route(&request), method(request.method()));
    let labels = |status| CallLabels::Http { route, method, status };
    let mut metrics = CallMetrics::begin(auth, labels(CALLER_LEFT));
    let response = next.run(request).await;
    metrics.labels = labels(response.status().as_u16());
    response
}

fn route(request: &Request<Body>) -> &'static str {
    let Some(matched) = request.extensions().get::<MatchedPath>() else { return OTHER };
    let known = ROUTES.into_iter().find(|route| *route == matched.as_str());
    debug_assert!(known.is_some(), "{} is a route that ROUTES lacks", matched.as_str());
    known.unwrap_or(OTHER)
}

fn method(method: &Method) -> &'static str {
    METHODS.into_iter().find(|known| *known == method.as_str()).unwrap_or(OTHER)
}
