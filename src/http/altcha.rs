//! Challenges for ALTCHA's widget, which fetches them with GET and expects JSON.

use std::sync::Arc;

use axum::{
    body::Body,
    extract::State,
    http::{HeaderValue, Request, StatusCode, header},
    response::Response,
};

use super::{
    form::FormFields,
    request::context,
    response::{plain, refusal},
};
use crate::{
    api::call,
    domain::{Api, Auth, CallContext, ChallengePurpose, Error, NewChallenge, Reason, Violation, WantedChallenge},
};

/// `GET /altcha/challenge?purpose=register|login&username=`
pub(super) async fn challenge(State(auth): State<Arc<Auth>>, request: Request<Body>) -> Response {
    let context = context(&auth, Api::Altcha, &request);
    let challenge = create(&auth, &context, request.uri().query().unwrap_or_default());
    match call::in_time(&auth, context.deadline, challenge).await {
        Ok(challenge) => {
            let mut response = plain(StatusCode::OK, challenge.text);
            response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
            response
        }
        Err(error) => refusal(&error),
    }
}

async fn create(auth: &Auth, context: &CallContext, query: &str) -> Result<NewChallenge, Error> {
    let mut fields = FormFields::parse(query)?;
    let purpose = match fields.take("purpose") {
        None => ChallengePurpose::Register,
        Some(name) => ChallengePurpose::parse(&name)
            .ok_or_else(|| Violation::new("purpose", Reason::Malformed, "is neither register nor login"))?,
    };
    let wanted = WantedChallenge::parse(purpose, &fields.take("username").unwrap_or_default())?;
    auth.create_challenge(context, &wanted).await
}
