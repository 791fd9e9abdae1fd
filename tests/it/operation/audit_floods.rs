//! Floods of events that cost their client no hash: the audit log has a few lines a second, and loses no number.

use std::{collections::BTreeMap, fs, path::Path, time::Duration};

use serde_json::Value;
use tempfile::{NamedTempFile, TempDir};
use watchword::api::pb;

use crate::support::{Api, App, ManualClock, StoreKind, forwarded_for, http, with_bearer};

/// Calls in a flood.
const CALLS: u64 = 60;

/// Event, reason and API of a line.
type What = (String, String, String);

/// For each kind of line: how many there are, and how many events they stand for.
fn counted(file: &Path) -> BTreeMap<What, (u64, u64)> {
    let mut counted = BTreeMap::new();
    // The node may be writing the last line.
    let text = fs::read_to_string(file).unwrap();
    for line in text.rsplit_once('\n').map_or("", |(complete, _)| complete).lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        let text = |field: &str| line[field].as_str().unwrap_or("-").to_owned();
        let entry: &mut (u64, u64) = counted.entry((text("event"), text("reason"), text("api"))).or_default();
        *entry = (entry.0 + 1, entry.1 + line["count"].as_u64().unwrap_or(1));
    }
    counted
}

/// A node whose clock stands still, and its audit file.
async fn start(args: &[&str]) -> (App, TempDir) {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("audit.jsonl");
    let args = [&["--audit-log", file.to_str().unwrap()], args].concat();
    let setup = App::with(StoreKind::Memory).args(&args).with_admin().clock(ManualClock::stopped());
    (setup.start().await, folder)
}

/// Stops the node; asserts that `expected` are in two lines each, with the number of all calls.
async fn assert_merged(app: App, folder: &TempDir, expected: &[(&str, &str, &str)]) {
    app.stopped().await;
    let counted = counted(&folder.path().join("audit.jsonl"));
    for (event, reason, api) in expected {
        let what = ((*event).to_owned(), (*reason).to_owned(), (*api).to_owned());
        assert_eq!(counted.get(&what), Some(&(2, CALLS)), "{what:?} in {counted:#?}");
    }
}

#[tokio::test]
async fn floods_of_refused_calls_are_two_lines_a_second_each() {
    let clients = NamedTempFile::new().unwrap();
    fs::write(clients.path(), "kong:a-secret-of-kong-for-tests\n").unwrap();
    let (app, folder) = start(&["--oauth-clients-file", clients.path().to_str().unwrap()]).await;
    app.registered("ada").await;
    app.registered("bob").await;
    let expired = app.authenticate("ada").await.access_token;
    let code = pb::CreatePasswordResetCodeRequest { username: "bob".into(), require_reset: false };
    let code = app.admin().await.create_password_reset_code(code).await.unwrap().into_inner().reset_code;
    app.clock.advance(Duration::from_secs(3_600));
    let mut client = app.client().await;
    let reset = |username: &str, code: &str| pb::ResetPasswordRequest {
        username: username.into(),
        reset_code: code.into(),
        new_password: "a new password of theirs".into(),
    };
    let wrong = format!("{}x", &code[..code.len() - 1]);
    let form = ("content-type", "application/x-www-form-urlencoded");
    for _ in 0..CALLS {
        assert!(Api::Grpc.register(&app, "ada", "another password", "").await.is_taken());
        client.get_user(with_bearer("not.a.token", pb::GetUserRequest {})).await.unwrap_err();
        client.get_user(with_bearer("two words", pb::GetUserRequest {})).await.unwrap_err();
        client.get_user(with_bearer(&expired, pb::GetUserRequest {})).await.unwrap_err();
        for (username, code) in [("eve", &code), ("ada", &code), ("bob", &wrong), ("bob", &code)] {
            client.reset_password(reset(username, code)).await.unwrap_err();
        }
        http(app.http_socket(), "POST", "/oauth2/introspect", &[form], "token=x").await;
    }
    let expected = [
        ("user_create_refused", "name_taken", "grpc"),
        ("authn_token_refused", "not_ours", "grpc"),
        ("authn_token_refused", "malformed", "grpc"),
        ("authn_token_refused", "expired", "grpc"),
        ("authn_password_reset_fail", "unknown_user", "grpc"),
        ("authn_password_reset_fail", "no_code", "grpc"),
        ("authn_password_reset_fail", "wrong_code", "grpc"),
        ("authn_password_reset_fail", "expired", "grpc"),
        ("authn_client_fail", "-", "oauth"),
    ];
    assert_merged(app, &folder, &expected).await;
}

#[tokio::test]
async fn floods_of_one_session_are_two_lines_a_second_each() {
    let (app, folder) = start(&["--trusted-proxy", "127.0.0.1"]).await;
    app.registered("ada").await;
    let (repeated, elsewhere) = (app.authenticate("ada").await, app.authenticate("ada").await);
    let mut rotated = app.authenticate("ada").await;
    let mut client = app.client().await;
    let refresh = |token: &str| pb::RefreshTokenRequest { refresh_token: token.into(), ..Default::default() };
    client.refresh_token(refresh(&repeated.refresh_token)).await.unwrap();
    client.refresh_token(refresh(&elsewhere.refresh_token)).await.unwrap();
    for _ in 0..CALLS {
        client.refresh_token(refresh(&repeated.refresh_token)).await.unwrap();
        client.refresh_token(forwarded_for("192.0.2.9", refresh(&elsewhere.refresh_token))).await.unwrap_err();
        let data = pb::UpdateUserDataRequest { data: "new".into(), ..Default::default() };
        client.update_user_data(with_bearer(&rotated.access_token, data)).await.unwrap();
    }
    for _ in 0..CALLS {
        let answer = client.refresh_token(refresh(&rotated.refresh_token)).await.unwrap();
        rotated = answer.into_inner().tokens.unwrap();
    }
    let file = folder.path().join("audit.jsonl");
    let expected = [
        ("authn_token_created", "repeated", "grpc"),
        ("authn_token_refused", "repeated_elsewhere", "grpc"),
        ("user_updated", "-", "grpc"),
    ];
    assert_merged(app, &folder, &expected).await;
    let created = counted(&file)[&("authn_token_created".into(), "-".into(), "grpc".into())];
    assert_eq!(created, (CALLS + 2, CALLS + 2), "each exchange has a line, and a rate limit");
    let text = fs::read_to_string(&file).unwrap();
    let merged = text.lines().find(|line| line.contains("repeated\"") && line.contains("count")).unwrap();
    assert!(merged.contains(&repeated.session_id) && merged.contains("subject_id"), "{merged}");
}

#[tokio::test]
async fn floods_beyond_rate_limits_and_without_proof_of_work_are_two_lines_a_second_each() {
    let (app, folder) = start(&["--throttle", "on", "--throttle-per-session", "1/1h"]).await;
    app.registered("ada").await;
    let tokens = app.authenticate("ada").await;
    let mut client = app.client().await;
    let refresh = || pb::RefreshTokenRequest { refresh_token: tokens.refresh_token.clone(), ..Default::default() };
    client.refresh_token(refresh()).await.unwrap();
    for _ in 0..CALLS {
        client.refresh_token(refresh()).await.unwrap_err();
    }
    assert_merged(app, &folder, &[("excess_rate_limit_exceeded", "session", "grpc")]).await;

    let (app, folder) = start(&["--challenge", "both"]).await;
    for _ in 0..CALLS {
        Api::Grpc.login(&app, "ada", "a wrong password").await;
        Api::Grpc.login_with(&app, "ada", "a wrong password", "eA==").await;
    }
    let expected = [("challenge_missing", "-", "grpc"), ("challenge_fail", "malformed", "grpc")];
    assert_merged(app, &folder, &expected).await;
}

/// Whatever a flood varies: the user agent, addresses of one network, or all it has.
#[tokio::test]
async fn flood_from_many_addresses_has_a_limit_and_keeps_its_number() {
    let (app, folder) = start(&["--trusted-proxy", "127.0.0.1"]).await;
    let mut client = app.client().await;
    let refused = |address: String| {
        forwarded_for(&address, pb::RefreshTokenRequest { refresh_token: "wwr_".into(), ..Default::default() })
    };
    for host in 1..=CALLS {
        client.refresh_token(refused(format!("2001:db8::{host:x}"))).await.unwrap_err();
    }
    for network in 1..=4 * CALLS {
        client.refresh_token(refused(format!("2001:db8:1:{network:x}::1"))).await.unwrap_err();
    }
    app.stopped().await;
    let file = folder.path().join("audit.jsonl");
    let (lines, events) = counted(&file)[&("authn_token_refused".into(), "not_ours".into(), "grpc".into())];
    assert_eq!(events, 5 * CALLS, "no event is lost");
    assert_eq!(lines, 100 + 2, "a hundred sources, further calls of the first, and all others");
    let text = fs::read_to_string(&file).unwrap();
    let others: Vec<_> = text.lines().filter(|line| line.contains("count") && !line.contains("peer")).collect();
    assert_eq!(others.len(), 1, "{others:?}");
}

#[tokio::test]
async fn merged_line_is_written_a_second_later_without_another_event() {
    let (app, folder) = start(&[]).await;
    let mut client = app.client().await;
    for _ in 0..CALLS {
        client.get_user(with_bearer("not.a.token", pb::GetUserRequest {})).await.unwrap_err();
    }
    app.clock.advance(Duration::from_secs(1));
    let file = folder.path().join("audit.jsonl");
    let what = ("authn_token_refused".to_owned(), "not_ours".to_owned(), "grpc".to_owned());
    let written = async {
        while counted(&file).get(&what) != Some(&(2, CALLS)) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(crate::support::WAIT_MAX, written).await.expect("the node writes it");
    client.get_user(with_bearer("not.a.token", pb::GetUserRequest {})).await.unwrap_err();
    app.stopped().await;
    assert_eq!(counted(&file)[&what], (3, CALLS + 1), "the next second begins with a line of its own");
}
