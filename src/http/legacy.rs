//! The original query-string routes, for clients that were written against them: plain text, mostly status 200.
//!
//! The four original texts keep their status 200; everything else is the error table's HTTP column. Passwords in a
//! query string end up in the logs of whatever stands in between, so these routes are off where strangers can reach
//! them; `POST /register` also takes a form body. A proof of work is
//! the parameter `altcha`, as ALTCHA's widget names it. Nothing here logs a query.

use std::sync::Arc;

use axum::{
    body::Body,
    extract::State,
    http::{Request, StatusCode},
    response::Response,
};

use super::{
    answer::{plain, refusal},
    query::Query,
    request::{collect, context, is_form, within},
};
use crate::domain::{Api, Auth, CallContext, Credentials, Error, Registration, User};

/// `GET /`
pub(super) async fn hello() -> Response {
    plain(StatusCode::OK, "Hello World!")
}

/// `POST /register?username=&password=&data=`
pub(super) async fn register(State(auth): State<Arc<Auth>>, request: Request<Body>) -> Response {
    let context = context(&auth, Api::Legacy, &request);
    match within(&context, &auth, try_register(&auth, &context, request)).await {
        Ok(_) => plain(StatusCode::OK, "Success"),
        Err(Error::UserAlreadyExists) => plain(StatusCode::OK, "User already registered."),
        Err(error) => refusal(&error),
    }
}

/// `GET /login?username=&password=`
pub(super) async fn login(State(auth): State<Arc<Auth>>, request: Request<Body>) -> Response {
    let context = context(&auth, Api::Legacy, &request);
    match within(&context, &auth, try_login(&auth, &context, request)).await {
        Ok(user) => plain(StatusCode::OK, user.data.as_str()),
        Err(Error::InvalidCredentials) => plain(StatusCode::OK, "User not found"),
        Err(error) => refusal(&error),
    }
}

async fn try_register(auth: &Arc<Auth>, context: &CallContext, request: Request<Body>) -> Result<User, Error> {
    let (parts, body) = request.into_parts();
    let mut query = Query::parse(parts.uri.query().unwrap_or_default())?;
    if is_form(&parts.headers) {
        query.append(Query::parse_form(&collect(body).await?)?);
    }
    let [username, password, data, solution] =
        ["username", "password", "data", "altcha"].map(|name| query.take(name).unwrap_or_default());
    let wanted = Registration::parse(auth.rules(), &username, password, data, "")?;
    auth.register(context, wanted.with_solution(solution)).await
}

async fn try_login(auth: &Auth, context: &CallContext, request: Request<Body>) -> Result<User, Error> {
    let mut query = Query::parse(request.uri().query().unwrap_or_default())?;
    let [username, password, solution] =
        ["username", "password", "altcha"].map(|name| query.take(name).unwrap_or_default());
    // These clients can do nothing with tokens, so no session begins.
    auth.check_password(context, Credentials::parse(&username, password)?.with_solution(solution)).await
}
