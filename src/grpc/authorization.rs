//! `envoy.service.auth.v3.Authorization`: what Envoy, Istio and other gateways ask about each request that they hold.
//!
//! The call is OK whatever becomes of the request; an error of the call itself is for what is wrong with the call.

use std::sync::Arc;

use tonic::{Request, Response, Status};

use super::auth::open;
use crate::{
    api::{
        authorization::{Check, answer},
        envoy_auth::{CheckRequest, CheckResponse, authorization_server},
    },
    domain::{Auth, CallContext},
};

/// The service; the rule is [`Auth::authorize`].
#[derive(Clone)]
pub(super) struct AuthorizationService {
    auth: Arc<Auth>,
}

impl AuthorizationService {
    pub(super) fn new(auth: Arc<Auth>) -> Self {
        Self { auth }
    }
}

#[tonic::async_trait]
impl authorization_server::Authorization for AuthorizationService {
    async fn check(&self, request: Request<CheckRequest>) -> Result<Response<CheckResponse>, Status> {
        let (gateway, request) = open(request);
        let check = Check::from(request);
        // What the gateway shows for itself is not what its client showed.
        let context = CallContext { bearer: check.bearer, ..gateway };
        let authorized = self.auth.authorize(&context, check.route).await;
        Ok(Response::new(answer(authorized, check.forwards_authorization)))
    }
}
