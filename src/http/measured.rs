//! Measures every request of the HTTP door, until its answer is ready.

use std::{sync::Arc, time::Instant};

use axum::{
    body::Body,
    extract::{MatchedPath, State},
    http::{Method, Request},
    middleware::Next,
    response::Response,
};

use crate::domain::{Auth, Event};

/// The templates of all routes: whoever calls must not choose a label's value.
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

/// What OpenTelemetry calls a route or a method that nobody knows.
const OTHER: &str = "_OTHER";

/// The status of a request whose caller went away first, as web servers log it.
const CALLER_LEFT: u16 = 499;

/// A request under way; told when it is dropped.
struct Call {
    auth: Arc<Auth>,
    route: &'static str,
    method: &'static str,
    began: Instant,
    status: u16,
}

pub(super) async fn measure(State(auth): State<Arc<Auth>>, request: Request<Body>, next: Next) -> Response {
    let began = auth.environment().clock.monotonic();
    let (route, method) = (route(&request), method(request.method()));
    let mut call = Call { auth, route, method, began, status: CALLER_LEFT };
    let response = next.run(request).await;
    call.status = response.status().as_u16();
    response
}

fn route(request: &Request<Body>) -> &'static str {
    let Some(matched) = request.extensions().get::<MatchedPath>() else { return OTHER };
    let known = ROUTES.into_iter().find(|route| *route == matched.as_str());
    debug_assert!(known.is_some(), "{} is a route, so it belongs to ROUTES", matched.as_str());
    known.unwrap_or(OTHER)
}

fn method(method: &Method) -> &'static str {
    METHODS.into_iter().find(|known| *known == method.as_str()).unwrap_or(OTHER)
}

impl Drop for Call {
    fn drop(&mut self) {
        let environment = self.auth.environment();
        let took = environment.since(self.began);
        let Self { route, method, status, .. } = *self;
        environment.note(&Event::RequestEnded { route, method, status, took });
    }
}
