//! `watchword user …`: what operators do with an account, over the admin API of a running node.

use std::{
    io::{self, Write},
    process::ExitCode,
    time::SystemTime,
};

use serde_json::{Map, Value};
use tonic::{Code, Response, Status, transport::Channel};

use super::{admin, output::without_controls, print, runtime};
use crate::{
    api::pb::{self, UserState, auth_admin_client::AuthAdminClient, auth_admin_get_user_request},
    config::{AdminClientArgs, UserCommand},
};

/// Calls the node and prints its answer.
pub(super) fn run(node: &AdminClientArgs, action: UserCommand) -> Result<ExitCode, String> {
    runtime()?.block_on(async { call(admin::connect(node).await?, action).await })
}

async fn call(mut admin: AuthAdminClient<Channel>, action: UserCommand) -> Result<ExitCode, String> {
    match action {
        UserCommand::Show { name, id, json } => {
            use auth_admin_get_user_request::User;
            let user = id.map(User::UserId).or(name.map(User::Username));
            let shown = admin.get_user(pb::AuthAdminGetUserRequest { user }).await;
            show(shown.map_err(said)?.into_inner().user, json)
        }
        UserCommand::Disable { name: username } => {
            let done = admin.disable_user(pb::DisableUserRequest { username }).await;
            show(changed(done)?.user, false)
        }
        UserCommand::Enable { name: username } => {
            let done = admin.enable_user(pb::EnableUserRequest { username }).await;
            show(changed(done)?.user, false)
        }
        UserCommand::Unlock { name: username } => {
            let done = admin.unlock_user(pb::UnlockUserRequest { username }).await;
            show(changed(done)?.user, false)
        }
        UserCommand::Revoke { name: Some(username), all_users: _ } => {
            let done = changed(admin.revoke_user_sessions(pb::RevokeUserSessionsRequest { username }).await)?;
            print(&format!("sessions ended: {}\n", done.revoked_count))
        }
        UserCommand::Revoke { name: None, all_users: _ } => {
            changed(admin.revoke_all_users_sessions(pb::RevokeAllUsersSessionsRequest {}).await)?;
            print("sessions ended: those of all users\n")
        }
        UserCommand::ResetCode { name: username, require_reset } => {
            let request = pb::CreatePasswordResetCodeRequest { username: username.clone(), require_reset };
            let made = changed(admin.create_password_reset_code(request).await)?;
            // Not beside the code, which may be piped to another program.
            drop(writeln!(
                io::stderr(),
                "Good once, until {}. Hand it to {username} over a channel that you know to be the user's; it goes into \
                 watchword.auth.v1.Auth/ResetPassword with the new password.{}",
                time(made.expire_time.as_ref()).unwrap_or_default(),
                if require_reset { " The current password is no longer valid." } else { "" },
            ));
            print(&format!("{}\n", made.reset_code))
        }
    }
}

/// The answer to a change.
fn changed<T>(done: Result<Response<T>, Status>) -> Result<T, String> {
    let done = done.map(Response::into_inner);
    done.map_err(|status| match status.code() {
        Code::NotFound
        | Code::InvalidArgument
        | Code::FailedPrecondition
        | Code::Unavailable
        | Code::Aborted
        | Code::DataLoss => said(status),
        _ => format!("{}; whether it was done is not known, and it is safe to repeat", status.message()),
    })
}

fn said(status: Status) -> String {
    status.message().to_owned()
}

fn show(user: Option<pb::AdminUser>, as_json: bool) -> Result<ExitCode, String> {
    let facts = facts(&user.ok_or("the node answered no user; is it of another version?")?);
    if as_json {
        let object: Map<_, _> = facts.into_iter().map(|(name, value)| (name.replace(' ', "_"), value)).collect();
        return print(&format!("{}\n", Value::Object(object)));
    }
    let width = facts.iter().map(|(name, _)| name.len()).max().unwrap_or_default() + 1;
    let line = |(name, value): &(&str, Value)| {
        let value = value.as_str().map_or_else(|| value.to_string(), without_controls);
        format!("{:width$} {value}\n", format!("{name}:"))
    };
    print(&facts.iter().map(line).collect::<String>())
}

/// What is known of a user, the most asked for first; what is not set is left out.
fn facts(account: &pb::AdminUser) -> Vec<(&'static str, Value)> {
    let user = account.user.clone().unwrap_or_default();
    let state = match account.state() {
        UserState::Unspecified => "unknown",
        UserState::Active => "active",
        UserState::Disabled => "disabled",
        UserState::Locked => "locked",
        UserState::ResetRequired => "reset required",
    };
    let text = |text: &str| (!text.is_empty()).then(|| Value::from(text));
    let facts = [
        ("username", text(&user.username)),
        ("user id", text(&user.user_id)),
        ("state", text(state)),
        ("reason", text(&account.state_reason)),
        ("failures in a row", Some(Value::from(account.failure_count))),
        ("last failure", time(account.last_failure_time.as_ref()).map(Value::from)),
        ("reset code until", time(account.reset_expire_time.as_ref()).map(Value::from)),
        ("registered", time(user.create_time.as_ref()).map(Value::from)),
        ("changed", time(user.update_time.as_ref()).map(Value::from)),
        ("last login", time(user.last_login_time.as_ref()).map(Value::from)),
        ("data", text(user.data())),
    ];
    facts.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
}

fn time(time: Option<&prost_types::Timestamp>) -> Option<String> {
    let time = SystemTime::try_from(*time?).ok()?;
    Some(humantime::format_rfc3339_millis(time).to_string())
}
