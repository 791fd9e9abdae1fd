//! `watchword user …`: what operators do with an account, over the admin door of the node that runs.

use std::{
    io::{self, Write},
    process::ExitCode,
    time::SystemTime,
};

use serde_json::{Map, Value};
use tonic::{Code, Response, Status, transport::Channel};

use super::{admin, print, runtime};
use crate::{
    api::pb::{self, UserState, auth_admin_client::AuthAdminClient, auth_admin_get_user_request},
    config::{Settings, UserCommand},
};

/// Asks the node, and prints what it says.
pub(super) fn run(settings: &Settings, what: UserCommand) -> Result<ExitCode, String> {
    runtime()?.block_on(async { ask(admin(settings).await?, what).await })
}

async fn ask(mut admin: AuthAdminClient<Channel>, what: UserCommand) -> Result<ExitCode, String> {
    match what {
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
        UserCommand::ResetCode { name: username, require_reset } => {
            let request = pb::CreatePasswordResetCodeRequest { username: username.clone(), require_reset };
            let made = changed(admin.create_password_reset_code(request).await)?;
            // Apart from the code, which may be on its way to another program.
            drop(writeln!(
                io::stderr(),
                "Good once, until {}. Hand it to {username} over a channel that you know to be the user's; it goes into \
                 watchword.auth.v1.Auth/ResetPassword with the new password.{}",
                time(made.expire_time.as_ref()).unwrap_or_default(),
                if require_reset { " The present password no longer counts." } else { "" },
            ));
            print(&format!("{}\n", made.reset_code))
        }
    }
}

/// The answer to a change.
fn changed<T>(done: Result<Response<T>, Status>) -> Result<T, String> {
    let done = done.map(Response::into_inner);
    done.map_err(|status| match status.code() {
        Code::NotFound | Code::InvalidArgument | Code::Unavailable | Code::Aborted | Code::DataLoss => said(status),
        _ => format!("{}; whether it was done is not known, and it is safe to ask again", status.message()),
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

/// What is known of a user, in the order in which people ask; what is not set is left out.
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

/// A user's data may hold what a terminal obeys.
fn without_controls(text: &str) -> String {
    let shown = text.chars().map(|c| if c.is_control() { c.escape_default().to_string() } else { c.to_string() });
    shown.collect()
}

fn time(time: Option<&prost_types::Timestamp>) -> Option<String> {
    let time = SystemTime::try_from(*time?).ok()?;
    Some(humantime::format_rfc3339_millis(time).to_string())
}
