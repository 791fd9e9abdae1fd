//! `watchword.auth.v1.AuthAdmin`: one thin method for each RPC.

use std::{sync::Arc, time::SystemTime};

use tonic::{Request, Response};

use super::auth::{Answer, open, refused};
use crate::{
    api::{convert, pb},
    domain::{Auth, password::PoolSettings},
};

/// The service; the rules are in [`Auth`].
#[derive(Clone)]
pub(super) struct AdminService {
    auth: Arc<Auth>,
    server: Arc<ServerView>,
}

/// What operators see of the server, made by whoever knows.
pub struct ServerView {
    /// The version of the program.
    pub version: &'static str,
    /// Since when it runs.
    pub start_time: SystemTime,
    /// The kind of store.
    pub store: &'static str,
    /// Who computes hashes, and what they cost.
    pub hashing: PoolSettings,
    /// Whether the store answers, and what must be mended.
    pub health: Box<dyn Fn() -> (bool, Vec<String>) + Send + Sync>,
}

impl AdminService {
    pub(super) fn new(auth: Arc<Auth>, server: ServerView) -> Self {
        Self { auth, server: Arc::new(server) }
    }
}

#[tonic::async_trait]
impl pb::auth_admin_server::AuthAdmin for AdminService {
    async fn rotate_signing_key(
        &self,
        request: Request<pb::RotateSigningKeyRequest>,
    ) -> Answer<pb::RotateSigningKeyResponse> {
        let (context, request) = open(request);
        let (public, key) =
            self.auth.admin().rotate_signing_key(&context, request.drop_old_keys).await.map_err(refused)?;
        let use_time = Some(convert::timestamp(key.use_time));
        Ok(Response::new(pb::RotateSigningKeyResponse { key_id: public.key_id, use_time }))
    }

    async fn get_user(&self, request: Request<pb::AuthAdminGetUserRequest>) -> Answer<pb::AuthAdminGetUserResponse> {
        let (context, request) = open(request);
        let user = self.auth.admin().read_user(&context, convert::user_selector(&request)).await.map_err(refused)?;
        Ok(Response::new(pb::AuthAdminGetUserResponse { user: Some(user.into()) }))
    }

    async fn disable_user(&self, request: Request<pb::DisableUserRequest>) -> Answer<pb::DisableUserResponse> {
        let (context, request) = open(request);
        let user_selector = convert::whom_by_name(&request.username);
        let user = self.auth.admin().disable_user(&context, user_selector).await.map_err(refused)?;
        Ok(Response::new(pb::DisableUserResponse { user: Some(user.into()) }))
    }

    async fn enable_user(&self, request: Request<pb::EnableUserRequest>) -> Answer<pb::EnableUserResponse> {
        let (context, request) = open(request);
        let user_selector = convert::whom_by_name(&request.username);
        let user = self.auth.admin().enable_user(&context, user_selector).await.map_err(refused)?;
        Ok(Response::new(pb::EnableUserResponse { user: Some(user.into()) }))
    }

    async fn unlock_user(&self, request: Request<pb::UnlockUserRequest>) -> Answer<pb::UnlockUserResponse> {
        let (context, request) = open(request);
        let user_selector = convert::whom_by_name(&request.username);
        let user = self.auth.admin().unlock_user(&context, user_selector).await.map_err(refused)?;
        Ok(Response::new(pb::UnlockUserResponse { user: Some(user.into()) }))
    }

    async fn create_password_reset_code(
        &self,
        request: Request<pb::CreatePasswordResetCodeRequest>,
    ) -> Answer<pb::CreatePasswordResetCodeResponse> {
        let (context, request) = open(request);
        let user_selector = convert::whom_by_name(&request.username);
        let code = self
            .auth
            .admin()
            .create_reset_code(&context, user_selector, request.require_reset)
            .await
            .map_err(refused)?;
        Ok(Response::new(code.into()))
    }

    async fn get_server_info(&self, request: Request<pb::GetServerInfoRequest>) -> Answer<pb::GetServerInfoResponse> {
        let (context, _) = open(request);
        self.auth.admin().note_server_read(&context);
        let server = &*self.server;
        let (store_up, alarms) = (server.health)();
        Ok(Response::new(pb::GetServerInfoResponse {
            version: server.version.into(),
            start_time: Some(convert::timestamp(server.start_time)),
            store: server.store.into(),
            store_up,
            alarms,
            hash: Some(server.hashing.into()),
            challenges: convert::challenges(self.auth.rules()),
            throttle: self.auth.admin().rate_limit_settings().map(Into::into),
        }))
    }
}
