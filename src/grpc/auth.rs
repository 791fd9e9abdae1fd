//! `watchword.auth.v1.Auth`: one thin method for each RPC.

use std::sync::Arc;

use tonic::{Request, Response, Status};

use crate::{
    domain::{Auth, Caller},
    wire::{convert, error::status, pb},
};

/// The service; the rules are in [`Auth`].
#[derive(Clone)]
pub(super) struct AuthService {
    auth: Arc<Auth>,
}

impl AuthService {
    pub(super) fn new(auth: Arc<Auth>) -> Self {
        Self { auth }
    }
}

#[tonic::async_trait]
impl pb::auth_server::Auth for AuthService {
    async fn register(&self, request: Request<pb::RegisterRequest>) -> Result<Response<pb::RegisterResponse>, Status> {
        let (caller, request) = open(request);
        let wanted = convert::registration(self.auth.rules(), request).map_err(|error| status(&error))?;
        let user = self.auth.register(&caller, wanted).await.map_err(|error| status(&error))?;
        Ok(Response::new(pb::RegisterResponse { user: Some(user.into()) }))
    }

    async fn login(&self, request: Request<pb::LoginRequest>) -> Result<Response<pb::LoginResponse>, Status> {
        let (caller, request) = open(request);
        let attempt = convert::attempt(request).map_err(|error| status(&error))?;
        let user = self.auth.login(&caller, attempt).await.map_err(|error| status(&error))?;
        Ok(Response::new(pb::LoginResponse { user: Some(user.into()) }))
    }
}

fn open<T>(request: Request<T>) -> (Caller, T) {
    let (_, mut extensions, message) = request.into_parts();
    (extensions.remove::<Caller>().expect("the door says who calls before it routes"), message)
}
