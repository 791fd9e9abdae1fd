//! What every route needs of a request: who calls, until when, and the form in the body.

use std::{net::IpAddr, sync::Arc};

use axum::{
    body::{Body, Bytes},
    extract::State,
    http::{HeaderMap, Request, header},
    middleware::Next,
    response::Response,
};
use http_body_util::{BodyExt, LengthLimitError, Limited};

use super::answer::refusal;
use crate::{
    api::forwarded::TrustedProxies,
    domain::{Api, Auth, Bearer, CallContext, DEADLINE_DEFAULT, Error, Peer, Reason, Violation},
};

/// Bytes of a request body at most.
const BODY_BYTES_MAX: usize = 64 * 1024;

/// The end user's address of a request.
#[derive(Clone, Copy)]
struct Client(Option<IpAddr>);

/// Says where the end user of a request is: at the other end, unless a trusted proxy says otherwise.
pub(super) async fn find_client(
    State(proxies): State<Arc<TrustedProxies>>,
    mut request: Request<Body>,
    next: Next,
) -> Response {
    let peer = peer(&request);
    match proxies.client(peer, request.headers()) {
        Ok(said) => {
            let at_the_other_end = match peer {
                Peer::Ip(address) => Some(address),
                Peer::Local { .. } => None,
            };
            request.extensions_mut().insert(Client(said.or(at_the_other_end)));
            next.run(request).await
        }
        Err(violation) => refusal(&violation.into()),
    }
}

fn peer(request: &Request<Body>) -> Peer {
    request.extensions().get::<Peer>().copied().unwrap_or(Peer::Local { uid: None })
}

/// Who calls; HTTP callers name no deadline.
pub(super) fn context(auth: &Auth, api: Api, request: &Request<Body>) -> CallContext {
    let client = request.extensions().get::<Client>().and_then(|client| client.0);
    let deadline = auth.environment().clock.monotonic() + DEADLINE_DEFAULT;
    let user_agent = CallContext::user_agent(request.headers().get(header::USER_AGENT).map(|value| value.as_bytes()));
    CallContext { api, peer: peer(request), client, deadline, bearer: Bearer::Missing, user_agent }
}

/// Answers in time, whatever happens: a body may never end.
pub(super) async fn within<T, E: From<Error>>(
    context: &CallContext,
    auth: &Auth,
    answer: impl Future<Output = Result<T, E>>,
) -> Result<T, E> {
    let left = context.deadline.saturating_duration_since(auth.environment().clock.monotonic());
    tokio::time::timeout(left, answer).await.unwrap_or(Err(Error::DeadlineExceeded.into()))
}

/// Whether the body says that it is a form.
pub(super) fn is_form(headers: &HeaderMap) -> bool {
    let media_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    media_type
        .split(';')
        .next()
        .is_some_and(|name| name.trim().eq_ignore_ascii_case("application/x-www-form-urlencoded"))
}

/// The whole body, unless it is too long or does not end.
pub(super) async fn collect(body: Body) -> Result<Bytes, Error> {
    match Limited::new(body, BODY_BYTES_MAX).collect().await {
        Ok(body) => Ok(body.to_bytes()),
        Err(cause) if cause.is::<LengthLimitError>() => Err(Error::RequestTooLarge),
        Err(_) => Err(Violation::new("body", Reason::Malformed, "ended before it was whole").into()),
    }
}
