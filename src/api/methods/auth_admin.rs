//! The rows of `watchword.auth.v1.AuthAdmin`, in the order of the proto.
//!
//! A username that cannot be read is passed on to the domain, which writes it to the audit log with the admin action.

use super::{Services, method_table};
use crate::{
    api::{convert, pb},
    domain::{CallContext, Error},
};

method_table! {
    "watchword.auth.v1.AuthAdmin";
    reads GetUser(pb::AuthAdminGetUserRequest) -> pb::AuthAdminGetUserResponse = get_user;
    changes DisableUser(pb::DisableUserRequest) -> pb::DisableUserResponse = disable_user;
    changes EnableUser(pb::EnableUserRequest) -> pb::EnableUserResponse = enable_user;
    changes UnlockUser(pb::UnlockUserRequest) -> pb::UnlockUserResponse = unlock_user;
    changes RevokeUserSessions(pb::RevokeUserSessionsRequest) -> pb::RevokeUserSessionsResponse = revoke_user_sessions;
    changes RevokeAllUsersSessions(pb::RevokeAllUsersSessionsRequest) -> pb::RevokeAllUsersSessionsResponse
        = revoke_all_users_sessions;
    changes CreatePasswordResetCode(pb::CreatePasswordResetCodeRequest) -> pb::CreatePasswordResetCodeResponse
        = create_password_reset_code;
    reads GetServerInfo(pb::GetServerInfoRequest) -> pb::GetServerInfoResponse = get_server_info;
    changes RotateSigningKey(pb::RotateSigningKeyRequest) -> pb::RotateSigningKeyResponse = rotate_signing_key;
}

async fn get_user(
    services: &Services,
    context: &CallContext,
    request: pb::AuthAdminGetUserRequest,
) -> Result<pb::AuthAdminGetUserResponse, Error> {
    let user = services.auth.admin().read_user(context, convert::user_selector(&request)).await?;
    Ok(pb::AuthAdminGetUserResponse { user: Some(user.into()) })
}

async fn disable_user(
    services: &Services,
    context: &CallContext,
    request: pb::DisableUserRequest,
) -> Result<pb::DisableUserResponse, Error> {
    let user = services.auth.admin().disable_user(context, convert::selector_by_name(&request.username)).await?;
    Ok(pb::DisableUserResponse { user: Some(user.into()) })
}

async fn enable_user(
    services: &Services,
    context: &CallContext,
    request: pb::EnableUserRequest,
) -> Result<pb::EnableUserResponse, Error> {
    let user = services.auth.admin().enable_user(context, convert::selector_by_name(&request.username)).await?;
    Ok(pb::EnableUserResponse { user: Some(user.into()) })
}

async fn unlock_user(
    services: &Services,
    context: &CallContext,
    request: pb::UnlockUserRequest,
) -> Result<pb::UnlockUserResponse, Error> {
    let user = services.auth.admin().unlock_user(context, convert::selector_by_name(&request.username)).await?;
    Ok(pb::UnlockUserResponse { user: Some(user.into()) })
}

async fn revoke_user_sessions(
    services: &Services,
    context: &CallContext,
    request: pb::RevokeUserSessionsRequest,
) -> Result<pb::RevokeUserSessionsResponse, Error> {
    let selector = convert::selector_by_name(&request.username);
    let (user, revoked) = services.auth.admin().revoke_user_sessions(context, selector).await?;
    Ok(pb::RevokeUserSessionsResponse { user: Some(user.into()), revoked_count: convert::count(revoked) })
}

async fn revoke_all_users_sessions(
    services: &Services,
    context: &CallContext,
    _: pb::RevokeAllUsersSessionsRequest,
) -> Result<pb::RevokeAllUsersSessionsResponse, Error> {
    services.auth.admin().revoke_all_users_sessions(context).await?;
    Ok(pb::RevokeAllUsersSessionsResponse {})
}

async fn create_password_reset_code(
    services: &Services,
    context: &CallContext,
    request: pb::CreatePasswordResetCodeRequest,
) -> Result<pb::CreatePasswordResetCodeResponse, Error> {
    let selector = convert::selector_by_name(&request.username);
    let code = services.auth.admin().create_reset_code(context, selector, request.require_reset).await?;
    Ok(code.into())
}

async fn get_server_info(
    services: &Services,
    context: &CallContext,
    _: pb::GetServerInfoRequest,
) -> Result<pb::GetServerInfoResponse, Error> {
    services.auth.admin().note_server_read(context);
    let server = &*services.server;
    let (store_up, warnings) = (server.health)();
    Ok(pb::GetServerInfoResponse {
        version: server.version.into(),
        start_time: Some(convert::timestamp(server.start_time)),
        store: server.store.into(),
        store_up,
        alarms: warnings,
        hash: Some(server.hashing.into()),
        challenges: convert::challenges(services.auth.rules()),
        throttle: services.auth.admin().rate_limit_settings().map(Into::into),
    })
}

async fn rotate_signing_key(
    services: &Services,
    context: &CallContext,
    request: pb::RotateSigningKeyRequest,
) -> Result<pb::RotateSigningKeyResponse, Error> {
    let (public, key) = services.auth.admin().rotate_signing_key(context, request.drop_old_keys).await?;
    Ok(pb::RotateSigningKeyResponse { key_id: public.key_id, use_time: Some(convert::timestamp(key.use_time)) })
}
