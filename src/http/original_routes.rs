//! The original query-string routes, for clients that were written against them: plain text, mostly status 200.
//!
//! The four original texts keep status 200. Every other error is a row of the error table. A password in a query string
//! is written to the logs of proxies, so these routes are off where other hosts can reach the listener. `POST /register`
//! also reads a form body. A proof of work is the field `altcha`, as ALTCHA's widget names it. Nothing here logs a query.

use std::sync::Arc;

use axum::{
    body::Body,
    extract::State,
    http::{Request, StatusCode},
    response::Response,
};

use super::{
    form::FormFields,
    request::{collect, context, is_form},
    response::{plain, refusal},
};
use crate::{
    api::call,
    domain::{Api, Auth, CallContext, Credentials, Error, Registration, Solution, User},
};

/// `GET /`
pub(super) async fn hello() -> Response {
    plain(StatusCode::OK, "Hello World!")
}

/// `POST /register?username=&password=&data=`
pub(super) async fn register(State(auth): State<Arc<Auth>>, request: Request<Body>) -> Response {
    let context = context(&auth, Api::Legacy, &request);
    match call::in_time(&auth, context.deadline, read_and_register(&auth, &context, request)).await {
        Ok(_) => plain(StatusCode::OK, "Success"),
        Err(Error::UserAlreadyExists) => plain(StatusCode::OK, "User already registered."),
        Err(error) => refusal(&error),
    }
}

/// `GET /login?username=&password=`
pub(super) async fn login(State(auth): State<Arc<Auth>>, request: Request<Body>) -> Response {
    let context = context(&auth, Api::Legacy, &request);
    match call::in_time(&auth, context.deadline, read_and_check_password(&auth, &context, request)).await {
        Ok(user) => plain(StatusCode::OK, user.data.as_str()),
        Err(Error::InvalidCredentials) => plain(StatusCode::OK, "User not found"),
        Err(error) => refusal(&error),
    }
}

async fn read_and_register(auth: &Arc<Auth>, context: &CallContext, request: Request<Body>) -> Result<User, Error> {
    let (parts, body) = request.into_parts();
    let mut fields = FormFields::parse(parts.uri.query().unwrap_or_default())?;
    if is_form(&parts.headers) {
        fields.append(FormFields::parse_form(&collect(body).await?)?);
    }
    let [username, password, data, solution] =
        ["username", "password", "data", "altcha"].map(|name| fields.take(name).unwrap_or_default());
    let registration = Registration::parse(auth.rules(), &username, password, data, "", Solution::parse(solution))?;
    auth.register(context, registration).await
}

async fn read_and_check_password(auth: &Auth, context: &CallContext, request: Request<Body>) -> Result<User, Error> {
    let mut fields = FormFields::parse(request.uri().query().unwrap_or_default())?;
    let [username, password, solution] =
        ["username", "password", "altcha"].map(|name| fields.take(name).unwrap_or_default());
    // These clients cannot use tokens, so no session is created.
    auth.check_password(context, Credentials::parse(&username, password, Solution::parse(solution))?).await
}
