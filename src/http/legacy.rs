//! The original query-string routes, for clients that were written against them: plain text, mostly status 200.
//!
//! The four original texts keep their status 200; everything else is the error table's HTTP column. Passwords in a
//! query string end up in the logs of whatever stands in between, so these routes are off where strangers can reach
//! them; `POST /register` also takes a form body. Nothing here logs a query.

use std::sync::Arc;

use axum::{
    body::{Body, Bytes},
    extract::State,
    http::{HeaderName, HeaderValue, Request, StatusCode, header},
    response::Response,
};
use http_body_util::{BodyExt, LengthLimitError, Limited};

use super::{BODY_BYTES_MAX, plain, query::Query};
use crate::{
    domain::{
        Attempt, Auth, Bearer, Caller, DEADLINE_DEFAULT, Door, Error, Peer, Reason, Registration, User, Violation,
    },
    wire::error::{Row, row},
};

/// `GET /`
pub(super) async fn hello() -> Response {
    plain(StatusCode::OK, "Hello World!")
}

/// `POST /register?username=&password=&data=`
pub(super) async fn register(State(auth): State<Arc<Auth>>, request: Request<Body>) -> Response {
    let caller = caller(&auth, &request);
    match within(&caller, &auth, try_register(&auth, &caller, request)).await {
        Ok(_) => plain(StatusCode::OK, "Success"),
        Err(Error::UserAlreadyExists) => plain(StatusCode::OK, "User already registered."),
        Err(error) => refusal(&error),
    }
}

/// `GET /login?username=&password=`
pub(super) async fn login(State(auth): State<Arc<Auth>>, request: Request<Body>) -> Response {
    let caller = caller(&auth, &request);
    match within(&caller, &auth, try_login(&auth, &caller, request)).await {
        Ok(user) => plain(StatusCode::OK, user.data.as_str()),
        Err(Error::InvalidCredentials) => plain(StatusCode::OK, "User not found"),
        Err(error) => refusal(&error),
    }
}

async fn try_register(auth: &Auth, caller: &Caller, request: Request<Body>) -> Result<User, Error> {
    let (parts, body) = request.into_parts();
    let mut query = Query::parse(parts.uri.query().unwrap_or_default())?;
    if is_form(&parts.headers) {
        query.append(Query::parse_form(&collect(body).await?)?);
    }
    let [username, password, data] = ["username", "password", "data"].map(|name| query.take(name).unwrap_or_default());
    let wanted = Registration::parse(auth.rules(), &username, password, data, "")?;
    auth.register(caller, wanted).await
}

async fn try_login(auth: &Auth, caller: &Caller, request: Request<Body>) -> Result<User, Error> {
    let mut query = Query::parse(request.uri().query().unwrap_or_default())?;
    let [username, password] = ["username", "password"].map(|name| query.take(name).unwrap_or_default());
    // These clients can do nothing with tokens, so no session begins.
    auth.check_password(caller, Attempt::parse(&username, password)?).await
}

fn caller(auth: &Auth, request: &Request<Body>) -> Caller {
    let peer = request.extensions().get::<Peer>().copied().unwrap_or(Peer::Local);
    let deadline = auth.clock().monotonic() + DEADLINE_DEFAULT;
    Caller { door: Door::Legacy, peer, deadline, bearer: Bearer::Missing, user_agent: String::new() }
}

/// Answers in time, whatever happens: a body may never end.
async fn within<T>(caller: &Caller, auth: &Auth, answer: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    let left = caller.deadline.saturating_duration_since(auth.clock().monotonic());
    tokio::time::timeout(left, answer).await.unwrap_or(Err(Error::DeadlineExceeded))
}

fn is_form(headers: &axum::http::HeaderMap) -> bool {
    let media_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    media_type
        .split(';')
        .next()
        .is_some_and(|name| name.trim().eq_ignore_ascii_case("application/x-www-form-urlencoded"))
}

async fn collect(body: Body) -> Result<Bytes, Error> {
    match Limited::new(body, BODY_BYTES_MAX).collect().await {
        Ok(body) => Ok(body.to_bytes()),
        Err(cause) if cause.is::<LengthLimitError>() => Err(Error::RequestTooLarge),
        Err(_) => Err(Violation::new("body", Reason::Malformed, "ended before it was whole").into()),
    }
}

/// The HTTP column of the table, as text.
pub(super) fn refusal(error: &Error) -> Response {
    let Row { http, text, retry_after, .. } = row(error);
    let status = StatusCode::from_u16(http).expect("the table has HTTP statuses");
    let mut response = plain(status, text + "\n");
    if let Some(after) = retry_after {
        // Whole seconds, rounded up: earlier would be too early.
        let seconds = after.as_millis().div_ceil(1_000);
        response
            .headers_mut()
            .insert(header::RETRY_AFTER, HeaderValue::from(u64::try_from(seconds).unwrap_or(u64::MAX)));
    }
    if status == StatusCode::PAYLOAD_TOO_LARGE {
        response.headers_mut().insert(HeaderName::from_static("connection"), HeaderValue::from_static("close"));
    }
    response
}
