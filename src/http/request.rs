//! What every route needs of a request: who calls, until when, and the form in the body.

use axum::{
    body::{Body, Bytes},
    http::{HeaderMap, Request, header},
};
use http_body_util::{BodyExt, LengthLimitError, Limited};

use crate::domain::{Auth, Bearer, Caller, DEADLINE_DEFAULT, Door, Error, Peer, Reason, Violation};

/// Bytes of a request body at most.
const BODY_BYTES_MAX: usize = 64 * 1024;

/// Who calls; HTTP callers name no deadline.
pub(super) fn caller(auth: &Auth, door: Door, request: &Request<Body>) -> Caller {
    let peer = request.extensions().get::<Peer>().copied().unwrap_or(Peer::Local { uid: None });
    let deadline = auth.clock().monotonic() + DEADLINE_DEFAULT;
    let user_agent = Caller::user_agent(request.headers().get(header::USER_AGENT).map(|value| value.as_bytes()));
    Caller { door, peer, deadline, bearer: Bearer::Missing, user_agent }
}

/// Answers in time, whatever happens: a body may never end.
pub(super) async fn within<T, E: From<Error>>(
    caller: &Caller,
    auth: &Auth,
    answer: impl Future<Output = Result<T, E>>,
) -> Result<T, E> {
    let left = caller.deadline.saturating_duration_since(auth.clock().monotonic());
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
