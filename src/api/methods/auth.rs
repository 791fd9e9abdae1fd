//! The rows of `watchword.auth.v1.Auth`, in the order of the proto.

use super::{Services, method_table};
use crate::{
    api::{convert, pb},
    domain::{CallContext, Error, TokenTypeHint},
};

method_table! {
    "watchword.auth.v1.Auth";
    changes Register(pb::RegisterRequest) -> pb::RegisterResponse = register;
    changes Login(pb::LoginRequest) -> pb::LoginResponse = login;
    changes RefreshToken(pb::RefreshTokenRequest) -> pb::RefreshTokenResponse = refresh_token;
    reads IntrospectToken(pb::IntrospectTokenRequest) -> pb::IntrospectTokenResponse = introspect_token;
    changes RevokeToken(pb::RevokeTokenRequest) -> pb::RevokeTokenResponse = revoke_token;
    reads GetUser(pb::GetUserRequest) -> pb::GetUserResponse = get_user;
    changes UpdateUserData(pb::UpdateUserDataRequest) -> pb::UpdateUserDataResponse = update_user_data;
    changes ChangePassword(pb::ChangePasswordRequest) -> pb::ChangePasswordResponse = change_password;
    changes DeleteUser(pb::DeleteUserRequest) -> pb::DeleteUserResponse = delete_user;
    reads ListSessions(pb::ListSessionsRequest) -> pb::ListSessionsResponse = list_sessions;
    changes RevokeSession(pb::RevokeSessionRequest) -> pb::RevokeSessionResponse = revoke_session;
    changes RevokeAllSessions(pb::RevokeAllSessionsRequest) -> pb::RevokeAllSessionsResponse = revoke_all_sessions;
    changes ResetPassword(pb::ResetPasswordRequest) -> pb::ResetPasswordResponse = reset_password;
    changes CreateChallenge(pb::CreateChallengeRequest) -> pb::CreateChallengeResponse = create_challenge;
}

async fn register(
    services: &Services,
    context: &CallContext,
    request: pb::RegisterRequest,
) -> Result<pb::RegisterResponse, Error> {
    let registration = convert::registration(services.auth.rules(), request)?;
    let user = services.auth.register(context, registration).await?;
    Ok(pb::RegisterResponse { user: Some(user.into()) })
}

async fn login(
    services: &Services,
    context: &CallContext,
    request: pb::LoginRequest,
) -> Result<pb::LoginResponse, Error> {
    let credentials = convert::credentials(request)?;
    let (user, tokens) = services.auth.login(context, credentials).await?;
    Ok(pb::LoginResponse { user: Some(user.into()), tokens: Some(tokens.into()) })
}

async fn refresh_token(
    services: &Services,
    context: &CallContext,
    request: pb::RefreshTokenRequest,
) -> Result<pb::RefreshTokenResponse, Error> {
    let (token, request_id) = convert::refresh(request)?;
    let tokens = services.auth.refresh_token(context, &token, request_id).await?;
    Ok(pb::RefreshTokenResponse { tokens: Some(tokens.into()) })
}

async fn introspect_token(
    services: &Services,
    context: &CallContext,
    request: pb::IntrospectTokenRequest,
) -> Result<pb::IntrospectTokenResponse, Error> {
    let token = convert::token("token", request.token)?;
    let hint = TokenTypeHint::parse(&request.token_type_hint);
    let introspection = services.auth.introspect_token(context, &token, hint).await?;
    Ok(introspection.into())
}

async fn revoke_token(
    services: &Services,
    context: &CallContext,
    request: pb::RevokeTokenRequest,
) -> Result<pb::RevokeTokenResponse, Error> {
    let token = convert::token("token", request.token)?;
    services.auth.revoke_token(context, None, &token).await?;
    Ok(pb::RevokeTokenResponse {})
}

async fn get_user(
    services: &Services,
    context: &CallContext,
    _: pb::GetUserRequest,
) -> Result<pb::GetUserResponse, Error> {
    let user = services.auth.get_user(context).await?;
    Ok(pb::GetUserResponse { user: Some(user.into()) })
}

async fn update_user_data(
    services: &Services,
    context: &CallContext,
    request: pb::UpdateUserDataRequest,
) -> Result<pb::UpdateUserDataResponse, Error> {
    let change = convert::data_change(services.auth.rules(), request)?;
    let user = services.auth.update_user_data(context, change).await?;
    Ok(pb::UpdateUserDataResponse { user: Some(user.into()) })
}

async fn change_password(
    services: &Services,
    context: &CallContext,
    request: pb::ChangePasswordRequest,
) -> Result<pb::ChangePasswordResponse, Error> {
    let change = convert::password_change(services.auth.rules(), request)?;
    let tokens = services.auth.change_password(context, change).await?;
    Ok(pb::ChangePasswordResponse { tokens: Some(tokens.into()) })
}

async fn delete_user(
    services: &Services,
    context: &CallContext,
    request: pb::DeleteUserRequest,
) -> Result<pb::DeleteUserResponse, Error> {
    let current = convert::deletion(request)?;
    services.auth.delete_user(context, current).await?;
    Ok(pb::DeleteUserResponse {})
}

async fn list_sessions(
    services: &Services,
    context: &CallContext,
    request: pb::ListSessionsRequest,
) -> Result<pb::ListSessionsResponse, Error> {
    let (after, size) = convert::page(&request)?;
    let page = services.auth.list_sessions(context, after, size).await?;
    Ok(convert::session_page(&services.auth.token_settings().lifetimes, page))
}

async fn revoke_session(
    services: &Services,
    context: &CallContext,
    request: pb::RevokeSessionRequest,
) -> Result<pb::RevokeSessionResponse, Error> {
    let id = convert::session_id(&request.session_id)?;
    services.auth.revoke_session(context, id).await?;
    Ok(pb::RevokeSessionResponse {})
}

async fn revoke_all_sessions(
    services: &Services,
    context: &CallContext,
    request: pb::RevokeAllSessionsRequest,
) -> Result<pb::RevokeAllSessionsResponse, Error> {
    let which = convert::sessions_to_end(request)?;
    let revoked = services.auth.revoke_all_sessions(context, which).await?;
    Ok(pb::RevokeAllSessionsResponse { revoked_count: convert::count(revoked) })
}

async fn reset_password(
    services: &Services,
    context: &CallContext,
    request: pb::ResetPasswordRequest,
) -> Result<pb::ResetPasswordResponse, Error> {
    let reset = convert::password_reset(services.auth.rules(), request)?;
    services.auth.reset_password(context, reset).await?;
    Ok(pb::ResetPasswordResponse {})
}

async fn create_challenge(
    services: &Services,
    context: &CallContext,
    request: pb::CreateChallengeRequest,
) -> Result<pb::CreateChallengeResponse, Error> {
    let wanted = convert::wanted_challenge(&request)?;
    let challenge = services.auth.create_challenge(context, &wanted).await?;
    Ok(challenge.into())
}
