//! Admin actions on an account, through the admin API and by command. Each action is one line of the audit log.

use std::{fs, os::unix::fs::MetadataExt, path::Path};

use serde_json::Value;
use tempfile::TempDir;
use tonic::{Code, Request, Status};
use watchword::api::pb::{self, UserState, auth_admin_get_user_request, auth_client::AuthClient};

use crate::support::{Api, App, Node, StoreKind, TestStore, channel, password, reason, run};

fn by_username(username: &str) -> pb::AuthAdminGetUserRequest {
    pb::AuthAdminGetUserRequest { user: Some(auth_admin_get_user_request::User::Username(username.into())) }
}

fn by_id(id: &str) -> pb::AuthAdminGetUserRequest {
    pb::AuthAdminGetUserRequest { user: Some(auth_admin_get_user_request::User::UserId(id.into())) }
}

async fn get_user(app: &App, user_selector: pb::AuthAdminGetUserRequest) -> Result<pb::AdminUser, Status> {
    app.admin().await.get_user(user_selector).await.map(|answer| answer.into_inner().user.unwrap())
}

async fn unlock(app: &App, username: &str) -> pb::AdminUser {
    let request = pb::UnlockUserRequest { username: username.into() };
    app.admin().await.unlock_user(request).await.unwrap().into_inner().user.unwrap()
}

async fn login(app: &App, username: &str, password: &str) -> String {
    Api::Grpc.login(app, username, password).await.outcome()
}

#[tokio::test]
async fn admin_api_shows_each_account_state_with_its_reason() {
    for kind in StoreKind::ALL {
        let limits = ["--throttle", "on", "--failure-cap", "10", "--throttle-per-account", "1000000/1s"];
        let app = App::with(kind).args(&limits).with_admin().start().await;
        app.registered("ada").await;
        let active = get_user(&app, by_username("ADA")).await.unwrap();
        let user = active.user.clone().unwrap();
        assert_eq!(
            (active.state(), active.state_reason.as_str(), user.username.as_str()),
            (UserState::Active, "", "ada")
        );
        assert_eq!((active.failure_count, active.last_failure_time, active.reset_expire_time), (0, None, None));
        assert_eq!(get_user(&app, by_id(&user.user_id)).await.unwrap(), active, "{kind:?}: by id");

        for attempt in 0..10 {
            login(&app, "ada", &format!("wrong password {attempt}")).await;
        }
        let locked = get_user(&app, by_username("ada")).await.unwrap();
        assert_eq!((locked.state(), locked.failure_count), (UserState::Locked, 10), "{kind:?}");
        assert!(locked.state_reason.contains("unlock") && locked.last_failure_time.is_some());

        let create = pb::CreatePasswordResetCodeRequest { username: "ada".into(), require_reset: true };
        let code = app.admin().await.create_password_reset_code(create).await.unwrap().into_inner();
        let required = get_user(&app, by_username("ada")).await.unwrap();
        assert_eq!(required.state(), UserState::ResetRequired, "{kind:?}");
        assert_eq!(required.reset_expire_time, code.expire_time, "{kind:?}");

        app.set_disabled("ada", true).await;
        let disabled = get_user(&app, by_username("ada")).await.unwrap();
        assert_eq!((disabled.state(), disabled.reset_expire_time), (UserState::Disabled, None), "{kind:?}");
        app.set_disabled("ada", false).await;
        assert_eq!(
            unlock(&app, "ada").await.state(),
            UserState::ResetRequired,
            "{kind:?}: unlocking ends only the lockout"
        );
    }
}

#[tokio::test]
async fn unknown_user_is_not_found_and_invalid_selector_is_an_invalid_field() {
    let app = App::with(StoreKind::Memory).with_admin().start().await;
    app.registered("ada").await;
    let id = get_user(&app, by_username("ada")).await.unwrap().user.unwrap().user_id;
    let tokens = app.authenticate("ada").await;
    let delete = pb::DeleteUserRequest { current_password: password("ada"), ..Default::default() };
    app.client().await.delete_user(crate::support::with_bearer(&tokens.access_token, delete)).await.unwrap();
    app.registered("ada").await;
    for user_selector in [by_username("unknown"), by_id(&id), by_id("01a20bc1-9a26-7fd7-8244-47753f447d05")] {
        let error = get_user(&app, user_selector).await.unwrap_err();
        assert_eq!((error.code(), reason(&error).as_str()), (Code::NotFound, "USER_NOT_FOUND"));
    }
    for user_selector in [by_username(""), by_username("a b"), by_id("x"), pb::AuthAdminGetUserRequest { user: None }] {
        assert_eq!(reason(&get_user(&app, user_selector).await.unwrap_err()), "INVALID_FIELD");
    }
    let mut admin = app.admin().await;
    let username = "unknown".to_owned();
    let errors = [
        admin.disable_user(pb::DisableUserRequest { username: username.clone() }).await.unwrap_err(),
        admin.enable_user(pb::EnableUserRequest { username: username.clone() }).await.unwrap_err(),
        admin.unlock_user(pb::UnlockUserRequest { username: username.clone() }).await.unwrap_err(),
        admin.revoke_user_sessions(pb::RevokeUserSessionsRequest { username: username.clone() }).await.unwrap_err(),
        admin
            .create_password_reset_code(pb::CreatePasswordResetCodeRequest { username, require_reset: true })
            .await
            .unwrap_err(),
    ];
    assert!(errors.iter().all(|error| reason(error) == "USER_NOT_FOUND"));
    assert_eq!(app.events.count("operated"), 13, "each action is an event, failed ones too");
}

#[tokio::test]
async fn revoked_sessions_of_a_user_are_refused_and_those_of_others_continue() {
    for kind in StoreKind::ALL {
        let app = App::with(kind).with_admin().start().await;
        app.registered("ada").await;
        app.registered("bob").await;
        let (phone, laptop, other) =
            (app.authenticate("ada").await, app.authenticate("ada").await, app.authenticate("bob").await);
        for revoked_count in [2, 0] {
            let request = pb::RevokeUserSessionsRequest { username: "ADA".into() };
            let answer = app.admin().await.revoke_user_sessions(request).await.unwrap().into_inner();
            assert_eq!(answer.revoked_count, revoked_count, "{kind:?}");
            assert_eq!(answer.user.unwrap().user.unwrap().username, "ada");
        }
        for tokens in [&phone, &laptop] {
            assert!(!app.introspect(&tokens.access_token).await.active, "{kind:?}");
            let request = pb::RefreshTokenRequest { refresh_token: tokens.refresh_token.clone(), ..Default::default() };
            let refused = app.client().await.refresh_token(request).await.unwrap_err();
            assert_eq!(reason(&refused), "TOKEN_REVOKED", "{kind:?}");
        }
        assert!(app.introspect(&other.access_token).await.active, "{kind:?}");
        assert!(app.introspect(&app.authenticate("ada").await.access_token).await.active, "{kind:?}: a new login");
    }
}

/// Unlocking takes effect on this node at once, is durable when the call returns, and reaches the other nodes within a
/// second, whatever attempt state they hold.
#[tokio::test(flavor = "multi_thread")]
async fn unlocked_user_can_log_in_on_every_node_and_after_kill_9() {
    for limits in [
        ["--failure-cap", "10", "--throttle-per-account", "1000000/1s"],
        ["--failure-cap", "100", "--throttle-per-account", "10/24h"],
    ] {
        let place = TestStore::new(StoreKind::Redis);
        let node = || {
            App::with(StoreKind::Redis)
                .args(&["--throttle", "on", "--token-issuer", "https://auth.example"])
                .args(&limits)
                .with_admin()
        };
        let (one, other) = (node().start_in(place.clone()).await, node().start_in(place.clone()).await);
        one.registered("ada").await;
        // Registration resets the failure counter. Only failures after this write count.
        one.rules.store_failed_attempts().await;
        for attempt in 0..10 {
            assert_eq!(login(&other, "ada", &format!("wrong password {attempt}")).await, "INVALID_CREDENTIALS");
        }
        other.rules.store_failed_attempts().await;
        for node in [&one, &other] {
            assert_ne!(login(node, "ada", &password("ada")).await, "ok", "{limits:?}");
        }
        assert_eq!(unlock(&one, "ada").await.failure_count, 0);
        // A new node has only the stored state.
        let fresh = node().start_in(place).await;
        // Each node does this every second.
        other.rules.store_failed_attempts().await;
        for node in [&one, &fresh, &other] {
            assert_eq!(login(node, "ada", &password("ada")).await, "ok", "{limits:?}");
        }
    }
}

#[tokio::test]
async fn disabling_twice_changes_nothing_and_enabling_ends_no_session() {
    let app = App::with(StoreKind::Memory).with_admin().start().await;
    app.registered("ada").await;
    let tokens = app.authenticate("ada").await;
    app.set_disabled("ada", false).await;
    assert!(app.introspect(&tokens.access_token).await.active, "enabling an active user changes nothing");
    for _ in 0..2 {
        app.set_disabled("ada", true).await;
        assert!(!app.introspect(&tokens.access_token).await.active);
        assert_eq!(login(&app, "ada", &password("ada")).await, "INVALID_CREDENTIALS");
    }
    app.set_disabled("ada", false).await;
    assert_eq!(login(&app, "ada", &password("ada")).await, "ok");
    assert!(!app.introspect(&tokens.access_token).await.active, "ended sessions stay ended");
}

/// An attacker with a stolen session must not be able to delay the action that ends it.
#[tokio::test(flavor = "multi_thread")]
async fn disabling_a_user_succeeds_despite_concurrent_updates_from_their_sessions() {
    for kind in StoreKind::ALL {
        let app = App::with(kind).with_admin().start().await;
        app.registered("ada").await;
        for _ in 0..3 {
            let token = app.authenticate("ada").await.access_token;
            let channel = app.channel().await;
            let writers: Vec<_> = (0..100)
                .map(|writer| {
                    let (mut client, token) = (AuthClient::new(channel.clone()), token.clone());
                    tokio::spawn(async move {
                        loop {
                            let data = format!("data of writer {writer}");
                            let mut change = Request::new(pb::UpdateUserDataRequest { data, etag: String::new() });
                            change.metadata_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
                            if client.update_user_data(change).await.is_err() {
                                return;
                            }
                        }
                    })
                })
                .collect();
            app.set_disabled("ada", true).await;
            for writer in writers {
                writer.await.unwrap();
            }
            app.set_disabled("ada", false).await;
        }
    }
}

#[tokio::test]
async fn server_info_reports_version_store_and_settings() {
    let app = App::with(StoreKind::Embedded)
        .args(&["--throttle", "on", "--challenge", "login", "--throttle-per-account", "7/9m"])
        .with_admin()
        .start()
        .await;
    let info = app.admin().await.get_server_info(pb::GetServerInfoRequest {}).await.unwrap().into_inner();
    assert_eq!((info.version.as_str(), info.store.as_str()), (env!("CARGO_PKG_VERSION"), "embedded"));
    assert!(info.store_up && info.alarms.is_empty() && info.start_time.is_some());
    assert!(info.hash.unwrap().workers >= 1 && info.hash.unwrap().memory_kib == 64);
    assert_eq!(info.challenges, [i32::from(pb::ChallengePurpose::Login)]);
    let throttle = info.throttle.unwrap();
    let rate = throttle.per_account.unwrap();
    assert_eq!((rate.count, rate.period.unwrap().seconds, throttle.failure_cap), (7, 540, 100));
}

fn command(data: &str, args: &[&str]) -> (i32, String, String) {
    run(&[&["user"], args, &["--data-dir", data]].concat())
}

/// The commands against the binary, and the audit log of these actions.
#[tokio::test(flavor = "multi_thread")]
async fn user_commands_work_and_the_audit_log_names_the_operator() {
    let folder = TempDir::new().unwrap();
    let (data, file) = (folder.path().join("data"), folder.path().join("audit.jsonl"));
    let path = data.display().to_string();
    let run_user = |args: &[&str]| command(&path, args);
    assert_eq!(run_user(&["show", "ada"]).0, 1, "no node is running");
    let limits = ["--failure-cap", "10", "--throttle-per-account", "1000000/1s"];
    let audit = ["--audit-log", file.to_str().unwrap()];
    let mut node = Node::start(Path::new(&data), &[&limits[..], &audit].concat());
    let mut client = AuthClient::new(channel(&node.grpc).await);
    let registration = pb::RegisterRequest {
        username: "ada".into(),
        password: password("ada"),
        data: Some("\u{1b}[31mred".into()),
        ..pb::RegisterRequest::default()
    };
    let user = client.register(registration).await.unwrap().into_inner().user.unwrap();
    let mut login = async |password: &str| {
        let request =
            pb::LoginRequest { username: "ada".into(), password: password.into(), challenge_solution: String::new() };
        client.login(request).await.map_or_else(|status| reason(&status), |_| "ok".into())
    };

    let (code, user_page, stderr) = run_user(&["show", "ADA"]);
    assert!(
        code == 0 && user_page.contains("username:          ada\n") && user_page.contains("active\n"),
        "{user_page}{stderr}"
    );
    assert!(!user_page.contains('\u{1b}') && user_page.contains("\\u{1b}[31mred"), "{user_page}");
    let (code, json, _) = run_user(&["show", "--id", &user.user_id, "--json"]);
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!((code, &json["state"], &json["data"]), (0, &"active".into(), &"\u{1b}[31mred".into()));
    let (code, _, stderr) = run_user(&["show", "unknown"]);
    assert_eq!((code, stderr.trim()), (1, "watchword: there is no such user"));
    assert_eq!(run_user(&["show"]).0, 2);
    assert_eq!(run_user(&["show", "ada", "--id", &user.user_id]).0, 2);

    assert!(run_user(&["disable", "ada"]).1.contains("disabled\n"));
    assert_eq!(login(&password("ada")).await, "INVALID_CREDENTIALS");
    assert!(run_user(&["enable", "ada"]).1.contains("active\n"));
    for attempt in 0..10 {
        login(&format!("wrong password {attempt}")).await;
    }
    assert_eq!(login(&password("ada")).await, "CHALLENGE_REQUIRED");
    assert!(run_user(&["show", "ada"]).1.contains("locked\n"));
    assert!(run_user(&["unlock", "ada"]).1.contains("active\n"));
    assert_eq!(run_user(&["revoke", "ada"]).1, "sessions ended: 0\n");
    assert_eq!(run_user(&["revoke", "--all-users"]).1, "sessions ended: those of all users\n");
    assert_eq!((run_user(&["revoke"]).0, run_user(&["revoke", "ada", "--all-users"]).0), (2, 2));
    assert_eq!(login(&password("ada")).await, "ok");
    let (code, reset_code, instructions) = run_user(&["reset-code", "ada", "--require-reset"]);
    assert!(code == 0 && reset_code.starts_with("wwc_") && reset_code.len() == 27, "stdout is only the code");
    assert!(
        instructions.contains("Good once, until 20") && !instructions.contains(reset_code.trim()),
        "{instructions}"
    );
    assert_eq!(login(&password("ada")).await, "INVALID_CREDENTIALS");
    let mut client = AuthClient::new(channel(&node.grpc).await);
    let reset = pb::ResetPasswordRequest {
        username: "ada".into(),
        reset_code: reset_code.trim().into(),
        new_password: "another long one".into(),
    };
    client.reset_password(reset.clone()).await.unwrap();
    client.reset_password(reset).await.unwrap_err();

    node.signal("TERM");
    assert!(node.wait_for_line("ended").is_some());
    assert!(node.wait().0.success());
    let text = fs::read_to_string(&file).unwrap();
    assert!(!text.contains(reset_code.trim()) && !text.contains("\"ada"), "{text}");
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let uid = fs::metadata(&file).unwrap().uid();
    let actions: Vec<_> = lines
        .iter()
        .filter(|line| line["api"] == "admin")
        .map(|line| {
            assert_eq!(line["uid"], uid, "{line}");
            let is_known = line["reason"] != "unknown_user" && line["event"] != "all_sessions_revoked";
            assert_eq!(line["subject_id"] == user.user_id.as_str(), is_known, "{line}");
            let text = |field: &str| line[field].as_str().unwrap_or("-").to_owned();
            [text("event"), text("outcome"), text("reason")].join(" ")
        })
        .collect();
    let expected = [
        "admin_user_read success -",
        "admin_user_read success -",
        "admin_user_read failure unknown_user",
        "user_disabled success -",
        "user_enabled success -",
        "admin_user_read success -",
        "user_unlocked success -",
        "user_sessions_revoked success -",
        "all_sessions_revoked success -",
        "authn_reset_code_created success reset_required",
    ];
    assert_eq!(actions, expected);
    // The merged lines follow.
    let first = lines.iter().filter(|line| line["count"].is_null());
    let events: Vec<_> = first.map(|line| line["event"].as_str().unwrap()).collect();
    assert_eq!(events[events.len() - 2..], ["authn_password_reset", "authn_password_reset_fail"]);
}
