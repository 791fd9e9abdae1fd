//! Challenges for ALTCHA's widget, which fetches them by GET and wants JSON.

use std::sync::Arc;

use axum::{
    body::Body,
    extract::State,
    http::{HeaderValue, Request, StatusCode, header},
    response::Response,
};

use super::{
    answer::{plain, refusal},
    query::Query,
    request::{context, within},
};
use crate::domain::{Api, Auth, CallContext, ChallengePurpose, Error, NewChallenge, Reason, Violation};

/// `GET /altcha/challenge?purpose=register|login`
pub(super) async fn challenge(State(auth): State<Arc<Auth>>, request: Request<Body>) -> Response {
    let context = context(&auth, Api::Altcha, &request);
    match within(&context, &auth, create(&auth, &context, request.uri().query().unwrap_or_default())).await {
        Ok(challenge) => {
            let mut response = plain(StatusCode::OK, challenge.text);
            response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
            response
        }
        Err(error) => refusal(&error),
    }
}

async fn create(auth: &Auth, context: &CallContext, query: &str) -> Result<NewChallenge, Error> {
    let purpose = match Query::parse(query)?.take("purpose") {
        None => ChallengePurpose::Register,
        Some(name) => ChallengePurpose::parse(&name)
            .ok_or_else(|| Violation::new("purpose", Reason::Malformed, "is neither register nor login"))?,
    };
    auth.create_challenge(context, purpose).await
}
