//! `watchword.auth.v1.Auth`: one thin method for each RPC.

use std::sync::Arc;

use tonic::{Request, Response, Status};

use crate::{
    api::{convert, error::status, pb},
    domain::{Auth, CallContext, Error},
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

pub(super) type Answer<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl pb::auth_server::Auth for AuthService {
    async fn register(&self, request: Request<pb::RegisterRequest>) -> Answer<pb::RegisterResponse> {
        let (context, request) = open(request);
        let wanted = convert::registration(self.auth.rules(), request).map_err(refused)?;
        let user = self.auth.register(&context, wanted).await.map_err(refused)?;
        Ok(Response::new(pb::RegisterResponse { user: Some(user.into()) }))
    }

    async fn login(&self, request: Request<pb::LoginRequest>) -> Answer<pb::LoginResponse> {
        let (context, request) = open(request);
        let attempt = convert::attempt(request).map_err(refused)?;
        let (user, tokens) = self.auth.login(&context, attempt).await.map_err(refused)?;
        Ok(Response::new(pb::LoginResponse { user: Some(user.into()), tokens: Some(tokens.into()) }))
    }

    async fn create_challenge(
        &self,
        request: Request<pb::CreateChallengeRequest>,
    ) -> Answer<pb::CreateChallengeResponse> {
        let (context, request) = open(request);
        let purpose = convert::challenge_purpose(&request).map_err(refused)?;
        let challenge = self.auth.create_challenge(&context, purpose).await.map_err(refused)?;
        Ok(Response::new(challenge.into()))
    }

    async fn refresh_token(&self, request: Request<pb::RefreshTokenRequest>) -> Answer<pb::RefreshTokenResponse> {
        let (context, request) = open(request);
        let token = convert::token("refresh_token", request.refresh_token).map_err(refused)?;
        let tokens = self.auth.refresh_token(&context, &token).await.map_err(refused)?;
        Ok(Response::new(pb::RefreshTokenResponse { tokens: Some(tokens.into()) }))
    }

    async fn introspect_token(
        &self,
        request: Request<pb::IntrospectTokenRequest>,
    ) -> Answer<pb::IntrospectTokenResponse> {
        let token = convert::token("token", request.into_inner().token).map_err(refused)?;
        let found = self.auth.introspect_token(&token).await.map_err(refused)?;
        Ok(Response::new(found.into()))
    }

    async fn revoke_token(&self, request: Request<pb::RevokeTokenRequest>) -> Answer<pb::RevokeTokenResponse> {
        let (context, request) = open(request);
        let token = convert::token("token", request.token).map_err(refused)?;
        self.auth.revoke_token(&context, &token).await.map_err(refused)?;
        Ok(Response::new(pb::RevokeTokenResponse {}))
    }

    async fn get_user(&self, request: Request<pb::GetUserRequest>) -> Answer<pb::GetUserResponse> {
        let (context, _) = open(request);
        let user = self.auth.get_user(&context).await.map_err(refused)?;
        Ok(Response::new(pb::GetUserResponse { user: Some(user.into()) }))
    }

    async fn update_user_data(
        &self,
        request: Request<pb::UpdateUserDataRequest>,
    ) -> Answer<pb::UpdateUserDataResponse> {
        let (context, request) = open(request);
        let change = convert::data_change(self.auth.rules(), request).map_err(refused)?;
        let user = self.auth.update_user_data(&context, change).await.map_err(refused)?;
        Ok(Response::new(pb::UpdateUserDataResponse { user: Some(user.into()) }))
    }

    async fn change_password(&self, request: Request<pb::ChangePasswordRequest>) -> Answer<pb::ChangePasswordResponse> {
        let (context, request) = open(request);
        let change = convert::password_change(self.auth.rules(), request).map_err(refused)?;
        let tokens = self.auth.change_password(&context, change).await.map_err(refused)?;
        Ok(Response::new(pb::ChangePasswordResponse { tokens: Some(tokens.into()) }))
    }

    async fn reset_password(&self, request: Request<pb::ResetPasswordRequest>) -> Answer<pb::ResetPasswordResponse> {
        let (context, request) = open(request);
        let wanted = convert::password_reset(self.auth.rules(), request).map_err(refused)?;
        self.auth.reset_password(&context, wanted).await.map_err(refused)?;
        Ok(Response::new(pb::ResetPasswordResponse {}))
    }

    async fn delete_user(&self, request: Request<pb::DeleteUserRequest>) -> Answer<pb::DeleteUserResponse> {
        let (context, request) = open(request);
        let current = convert::current_password(request.current_password).map_err(refused)?;
        self.auth.delete_user(&context, current).await.map_err(refused)?;
        Ok(Response::new(pb::DeleteUserResponse {}))
    }

    async fn list_sessions(&self, request: Request<pb::ListSessionsRequest>) -> Answer<pb::ListSessionsResponse> {
        let (context, request) = open(request);
        let (after, size) = convert::page(&request).map_err(refused)?;
        let page = self.auth.list_sessions(&context, after, size).await.map_err(refused)?;
        Ok(Response::new(convert::session_page(&self.auth.token_settings().lifetimes, page)))
    }

    async fn revoke_session(&self, request: Request<pb::RevokeSessionRequest>) -> Answer<pb::RevokeSessionResponse> {
        let (context, request) = open(request);
        let id = convert::session_id(&request.session_id).map_err(refused)?;
        self.auth.revoke_session(&context, id).await.map_err(refused)?;
        Ok(Response::new(pb::RevokeSessionResponse {}))
    }

    async fn revoke_all_sessions(
        &self,
        request: Request<pb::RevokeAllSessionsRequest>,
    ) -> Answer<pb::RevokeAllSessionsResponse> {
        let (context, request) = open(request);
        let revoked = self.auth.revoke_all_sessions(&context, request.keep_current).await.map_err(refused)?;
        let revoked_count = i32::try_from(revoked).unwrap_or(i32::MAX);
        Ok(Response::new(pb::RevokeAllSessionsResponse { revoked_count }))
    }
}

/// The message of a call, and who calls.
pub(super) fn open<T>(request: Request<T>) -> (CallContext, T) {
    let (_, mut extensions, message) = request.into_parts();
    (extensions.remove::<CallContext>().expect("the door says who calls before it routes"), message)
}

pub(super) fn refused(error: Error) -> Status {
    status(&error)
}
