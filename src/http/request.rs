//! What the routes read from a request: the origin, the call context, and the form in the body.

use std::sync::Arc;

use axum::{
    body::{Body, Bytes},
    extract::State,
    http::{HeaderMap, Request, header},
    middleware::Next,
    response::Response,
};
use http_body_util::{BodyExt, LengthLimitError, Limited};

use super::response::refusal;
use crate::{
    api::{
        call::{self, CallOrigin},
        forwarded::{ClientAddress, TrustedProxies},
    },
    domain::{Api, Auth, CallContext, Error, Reason, Violation},
};

/// Bytes of a request body at most.
const BODY_BYTES_MAX: usize = 64 * 1024;

/// Middleware that reads the origin of every request, also of one that no route takes.
pub(super) async fn read_origin(
    State(proxies): State<Arc<TrustedProxies>>,
    mut request: Request<Body>,
    next: Next,
) -> Response {
    match CallOrigin::read(request.extensions(), request.headers(), &proxies) {
        Ok(origin) => {
            request.extensions_mut().insert(origin);
            next.run(request).await
        }
        Err(violation) => refusal(&violation.into()),
    }
}

/// The context of a call. HTTP callers name no timeout.
pub(super) fn context(auth: &Auth, api: Api, request: &Request<Body>) -> CallContext {
    let origin = request.extensions().get::<CallOrigin>().expect("`read_origin` runs before every route");
    // HTTP clients are end users.
    origin.context(api, ClientAddress::Peer, request.headers(), call::deadline(&*auth.environment().clock, None))
}

/// Whether the body is a form, as its content type says.
pub(super) fn is_form(headers: &HeaderMap) -> bool {
    let media_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    media_type
        .split(';')
        .next()
        .is_some_and(|name| name.trim().eq_ignore_ascii_case("application/x-www-form-urlencoded"))
}

/// Reads the whole body.
///
/// # Errors
/// The body is too large, or it ended early.
pub(super) async fn collect(body: Body) -> Result<Bytes, Error> {
    match Limited::new(body, BODY_BYTES_MAX).collect().await {
        Ok(body) => Ok(body.to_bytes()),
        Err(cause) if cause.is::<LengthLimitError>() => Err(Error::RequestTooLarge),
        Err(_) => Err(Violation::new("body", Reason::Malformed, "ended before it was complete").into()),
    }
}
