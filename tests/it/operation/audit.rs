//! The audit log: every action is recorded, in the log or in a separate stream, and writing never delays a call.

use std::{
    fs,
    io::Read,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use serde_json::Value;
use tempfile::TempDir;
use tokio::{io::AsyncReadExt, time::timeout};
use tonic::{Request, metadata::MetadataValue, transport::Endpoint};
use watchword::api::pb::{self, auth_admin_client::AuthAdminClient, auth_client::AuthClient};

use crate::support::{
    Api, App, Node, StoreKind, WAIT_MAX, channel, command,
    fault::{Fault, Faulty},
    http, password, query, raw, run,
};

/// A request with a bearer token.
fn authorized<T>(token: &str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("authorization", MetadataValue::try_from(format!("Bearer {token}")).unwrap());
    request
}

/// The lines of an audit file, each parsed as a JSON object.
fn lines(file: &Path) -> Vec<Value> {
    let text = fs::read_to_string(file).unwrap();
    assert!(text.is_empty() || text.ends_with('\n'), "the last line must be complete");
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("not JSON: {line}"))).collect()
}

fn events(lines: &[Value]) -> Vec<&str> {
    lines.iter().map(|line| line["event"].as_str().unwrap()).collect()
}

/// Polls until the condition holds; fails after the time limit of the tests.
async fn wait_until(condition: &str, mut holds: impl AsyncFnMut() -> bool) {
    let polling = async { while !holds().await {} };
    assert!(timeout(WAIT_MAX, polling).await.is_ok(), "timed out waiting until {condition}");
}

#[tokio::test]
async fn user_agent_keeps_its_text_beside_bytes_that_are_not_ascii() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("audit");
    let app = App::with(StoreKind::Memory).args(&["--audit-log", &file.display().to_string()]).start().await;
    for agent in [&b"Mozilla/5.0 (Zo\xeb) Firefox/140"[..], "Café\u{202e}\u{9b}31m\u{200b}/1".as_bytes(), &[b'a'; 300]]
    {
        let head =
            b"GET /login?username=ada&password=x HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\nuser-agent: ";
        let reply = raw(app.http_socket(), &[&head[..], agent, b"\r\n\r\n"].concat()).await;
        assert!(reply.starts_with(b"HTTP/1.1 200"));
    }
    app.stopped().await;
    let agents: Vec<_> =
        lines(&file).iter().filter_map(|line| line["user_agent"].as_str().map(str::to_owned)).collect();
    assert_eq!(agents, ["Mozilla/5.0 (Zo\u{fffd}) Firefox/140", "Café31m/1", &"a".repeat(256)]);
}

async fn ops_page(app: &App, target: &str) -> String {
    http(app.ops_socket(), "GET", target, &[], "").await.body
}

/// Starts the binary with its audit log in `file`; returns the address of its HTTP listener too.
fn node(folder: &Path, file: &Path) -> (Node, String) {
    let data = folder.join("data").display().to_string();
    let file = file.display().to_string();
    let args = ["--grpc-addr", "127.0.0.1:0", "--http-addr", "127.0.0.1:0", "--ops-addr", "off"];
    let mut node = Node::spawn(command(&[&args[..], &["--data-dir", &data, "--audit-log", &file]].concat())).unwrap();
    let line = node.line("api=\"http\" address=").unwrap();
    (node, line.rsplit("address=").next().unwrap().to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn account_lifecycle_is_recorded_in_order_with_all_fields() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("audit.jsonl");
    let (mut node, http_address) = node(folder.path(), &file);
    let mut client = AuthClient::new(channel(&node.grpc).await);
    let login_request =
        || pb::LoginRequest { username: "ada".into(), password: password("ada"), challenge_solution: String::new() };
    let registration =
        pb::RegisterRequest { username: "ada".into(), password: password("ada"), ..pb::RegisterRequest::default() };
    let user = client.register(registration.clone()).await.unwrap().into_inner().user.unwrap();
    client.register(registration).await.unwrap_err();
    for name in ["ada", "nobody"] {
        let failed_login = pb::LoginRequest {
            username: name.into(),
            password: "a wrong password".into(),
            challenge_solution: String::new(),
        };
        client.login(failed_login).await.unwrap_err();
    }
    let target = format!("/login?{}", query(&[("username", "ada"), ("password", &password("ada"))]));
    let agent = "curl/8 \"\\\u{9}\\n{x}";
    assert_eq!(http(http_address.parse().unwrap(), "GET", &target, &[("user-agent", agent)], "").await.status, 200);
    let first = client.login(login_request()).await.unwrap().into_inner().tokens.unwrap();
    let refresh = || pb::RefreshTokenRequest { refresh_token: first.refresh_token.clone(), ..Default::default() };
    let second = client.refresh_token(refresh()).await.unwrap().into_inner().tokens.unwrap();
    client.refresh_token(refresh()).await.unwrap();
    let third = pb::RefreshTokenRequest { refresh_token: second.refresh_token.clone(), ..Default::default() };
    client.refresh_token(third).await.unwrap();
    client.refresh_token(refresh()).await.unwrap_err();
    client.get_user(authorized(&first.access_token, pb::GetUserRequest::default())).await.unwrap_err();
    let tokens = client.login(login_request()).await.unwrap().into_inner().tokens.unwrap();
    let data = pb::UpdateUserDataRequest { data: "new".into(), ..pb::UpdateUserDataRequest::default() };
    client.update_user_data(authorized(&tokens.access_token, data)).await.unwrap();
    let change = |current: &str| pb::ChangePasswordRequest {
        current_password: current.into(),
        new_password: "a new password of ada".into(),
        ..Default::default()
    };
    client.change_password(authorized(&tokens.access_token, change("a wrong password"))).await.unwrap_err();
    let changed = client.change_password(authorized(&tokens.access_token, change(&password("ada")))).await.unwrap();
    let last = changed.into_inner().tokens.unwrap();
    let all_others = pb::RevokeAllSessionsRequest {
        keep_current: true,
        current_password: "a new password of ada".into(),
        ..Default::default()
    };
    client.revoke_all_sessions(authorized(&last.access_token, all_others)).await.unwrap();
    client.revoke_token(pb::RevokeTokenRequest { token: last.access_token.clone() }).await.unwrap();
    let data = folder.path().join("data").display().to_string();
    assert_eq!(run(&["rotate-signing-key", "--data-dir", &data]).0, 0);
    let tokens = client
        .login(pb::LoginRequest {
            username: "ada".into(),
            password: "a new password of ada".into(),
            challenge_solution: String::new(),
        })
        .await
        .unwrap()
        .into_inner()
        .tokens
        .unwrap();
    let delete = pb::DeleteUserRequest { current_password: "a new password of ada".into(), ..Default::default() };
    client.delete_user(authorized(&tokens.access_token, delete)).await.unwrap();
    node.signal("TERM");
    assert!(node.wait_for_line("ended").is_some());
    assert!(node.wait().0.success());

    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let lines = lines(&file);
    let text_of = |line: &Value, field: &str| line[field].as_str().unwrap_or("-").to_owned();
    let recorded: Vec<_> = lines
        .iter()
        .map(|line| {
            [text_of(line, "event"), text_of(line, "outcome"), text_of(line, "reason"), text_of(line, "api")].join(" ")
        })
        .collect();
    let expected = [
        "user_created success - grpc",
        "user_create_refused failure name_taken grpc",
        "authn_login_fail failure wrong_password grpc",
        "authn_login_fail failure unknown_user grpc",
        "authn_login_success success - legacy",
        "authn_login_success success - grpc",
        "authn_token_created success - grpc",
        "authn_token_created success repeated grpc",
        "authn_token_created success - grpc",
        "authn_token_reuse failure older_token grpc",
        "authn_token_refused failure session_ended grpc",
        "authn_login_success success - grpc",
        "user_updated success - grpc",
        "authn_password_change_fail failure - grpc",
        "authn_password_change success - grpc",
        "authn_token_revoked success all_sessions grpc",
        "authn_token_revoked success - grpc",
        "sys_signing_key_rotated success - admin",
        "authn_login_success success - grpc",
        "user_deleted success - grpc",
    ];
    assert_eq!(recorded, expected);
    let timestamps: Vec<_> = lines.iter().map(|line| text_of(line, "ts")).collect();
    assert!(
        timestamps.is_sorted() && timestamps.iter().all(|ts| ts.len() == 30 && ts.ends_with('Z')),
        "{timestamps:?}"
    );
    let last_time = humantime::parse_rfc3339(timestamps.last().unwrap()).unwrap();
    #[expect(clippy::disallowed_methods, reason = "the timestamp of another process is compared with the system clock")]
    let age = SystemTime::now().duration_since(last_time).unwrap();
    assert!(age < WAIT_MAX, "{age:?}");
    for (line, summary) in lines.iter().zip(&recorded) {
        assert_eq!(line["schema"], 2);
        assert_eq!(text_of(line, "peer"), if summary.ends_with("admin") { "local" } else { "127.0.0.1" }, "{line}");
        let has_subject = !summary.contains("refused")
            && !summary.contains("login_fail")
            && !summary.contains("sys_")
            && !summary.contains("reuse");
        assert_eq!(text_of(line, "subject_id") == user.user_id, has_subject, "{line}");
        let has_target = summary.contains("wrong_password") || summary.contains("reuse");
        assert_eq!(text_of(line, "target_id") == user.user_id, has_target, "{line}");
    }
    let [.., rotated, _, _] = lines.as_slice() else { panic!("too few lines") };
    assert_eq!(rotated["uid"], fs::metadata(&file).map(|file| std::os::unix::fs::MetadataExt::uid(&file)).unwrap());
    assert!(rotated["key_id"].is_string());
    let kept = agent.replace('\t', "");
    assert_eq!(lines[4]["user_agent"], kept, "without its control character, and escaped inside its JSON string");
    assert!(lines[4]["session_id"].is_null(), "the original routes create no session");
    for line in [5, 6, 9] {
        assert_eq!(text_of(&lines[line], "session_id"), first.session_id, "{}", lines[line]);
    }
    assert_eq!(text_of(&lines[16], "session_id"), last.session_id);
    let text = fs::read_to_string(&file).unwrap();
    for secret in ["\"ada", "nobody", "a wrong password", "password of", &first.refresh_token, &first.access_token] {
        assert!(!text.contains(secret), "{secret} in {text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn moved_audit_file_is_reopened_on_sighup_without_losing_lines() {
    let folder = TempDir::new().unwrap();
    let (file, moved) = (folder.path().join("audit.jsonl"), folder.path().join("audit.jsonl.1"));
    let (mut node, _) = node(folder.path(), &file);
    let mut client = AuthClient::new(channel(&node.grpc).await);
    let mut register = async |name: &str| {
        let request =
            pb::RegisterRequest { username: name.into(), password: password(name), ..pb::RegisterRequest::default() };
        client.register(request).await.unwrap().into_inner().user.unwrap().user_id
    };
    let mut users = vec![register("one").await];
    fs::rename(&file, &moved).unwrap();
    users.push(register("two").await);
    node.signal("HUP");
    wait_until("the file exists again", async || {
        tokio::task::yield_now().await;
        file.exists()
    })
    .await;
    users.push(register("three").await);
    node.signal("TERM");
    assert!(node.wait_for_line("ended").is_some());
    assert!(node.wait().0.success());
    let ids = |file: &Path| -> Vec<_> {
        lines(file).iter().map(|line| line["subject_id"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!([ids(&moved), ids(&file)], [users[..2].to_vec(), users[2..].to_vec()]);
}

#[tokio::test]
async fn full_disk_is_shown_on_readyz_refuses_no_call_and_loses_no_line() {
    let folder = TempDir::new().unwrap();
    let (path, real) = (folder.path().join("audit.jsonl"), folder.path().join("real.jsonl"));
    symlink("/dev/full", &path).unwrap();
    let app = App::with(StoreKind::Memory).args(&["--audit-log", path.to_str().unwrap()]).start().await;
    assert!(!ops_page(&app, "/readyz").await.contains("alarm"));
    app.registered("ada").await;
    app.authenticate("ada").await;
    wait_until("readyz shows the alarm", async || {
        ops_page(&app, "/readyz").await.contains("warning: audit lines cannot be written: No space")
    })
    .await;
    assert!(ops_page(&app, "/readyz").await.starts_with("ready\n"), "the node stays ready");
    let metrics = ops_page(&app, "/metrics").await;
    assert!(
        metrics.contains("watchword_audit_up 0") && metrics.contains("watchword_audit_dropped_total 0"),
        "{metrics}"
    );
    app.authenticate("ada").await;
    fs::remove_file(&path).unwrap();
    symlink(&real, &path).unwrap();
    wait_until("readyz no longer shows the alarm", async || !ops_page(&app, "/readyz").await.contains("alarm")).await;
    assert!(ops_page(&app, "/metrics").await.contains("watchword_audit_up 1"));
    app.stopped().await;
    assert_eq!(events(&lines(&real)), ["user_created", "authn_login_success", "authn_login_success"]);
}

/// A named pipe, and its open read end, from which nothing has been read.
fn pipe(folder: &Path) -> (PathBuf, fs::File) {
    let path = folder.join("pipe");
    assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
    let read_end = fs::OpenOptions::new().read(true).write(true).open(&path).unwrap();
    (path, read_end)
}

#[tokio::test(flavor = "multi_thread")]
async fn stalled_reader_drops_and_counts_lines_without_blocking_calls() {
    let folder = TempDir::new().unwrap();
    let (path, reader) = pipe(folder.path());
    let args = ["--audit-log", path.to_str().unwrap(), "--drain-timeout", "1s"];
    let app = App::with(StoreKind::Memory).args(&args).start().await;
    app.registered("ada").await;
    // Refused calls, 2 MiB of lines, as if each were in another second: those of one second are merged.
    let refused_calls = async || {
        let mut client = app.client().await;
        for _ in 0..400 {
            app.clock.advance(Duration::from_secs(1));
            let request = authorized(&"x".repeat(20), pb::GetUserRequest::default());
            client.get_user(request).await.unwrap_err();
        }
    };
    wait_until("lines are dropped", async || {
        futures_util::future::join_all((0..8).map(|_| refused_calls())).await;
        !ops_page(&app, "/metrics").await.contains("watchword_audit_dropped_total 0")
    })
    .await;
    assert!(ops_page(&app, "/readyz").await.contains("warning: audit lines arrive faster than they can be written; "));
    app.authenticate("ada").await;
    Api::Legacy.login(&app, "ada", "a wrong password").await;

    // A reader that continues gets complete lines, with the logins among them.
    let mut reader =
        tokio::net::unix::pipe::OpenOptions::new().open_receiver(&path).map(|new| (new, drop(reader)).0).unwrap();
    let stopping = tokio::spawn(app.stopped());
    let mut text = String::new();
    timeout(WAIT_MAX, reader.read_to_string(&mut text)).await.unwrap().unwrap();
    stopping.await.unwrap();
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let events = events(&lines);
    assert_eq!(events[0], "user_created");
    // The line of the last merged refusals may come after the logins: the shutdown writes it if there is space again.
    let logins: Vec<_> = events.iter().copied().filter(|event| event.starts_with("authn_login")).collect();
    assert_eq!(logins, ["authn_login_success", "authn_login_fail"], "queue capacity is reserved for logins");
}

#[tokio::test(flavor = "multi_thread")]
async fn shutdown_writes_all_queued_audit_lines() {
    const ADMIN_ACTIONS: usize = 400;
    let folder = TempDir::new().unwrap();
    let (path, mut reader) = pipe(folder.path());
    let (mut node, _) = node(folder.path(), &path);
    let mut client = AuthClient::new(channel(&node.grpc).await);
    let socket = format!("unix://{}", folder.path().join("data/admin.sock").display());
    let mut admin = AuthAdminClient::new(Endpoint::from_shared(socket).unwrap().connect().await.unwrap());
    for _ in 0..ADMIN_ACTIONS {
        admin.get_server_info(pb::GetServerInfoRequest {}).await.unwrap();
    }
    drop(admin);
    let last_password = "the last wrong password";
    client
        .login(pb::LoginRequest {
            username: "ada".into(),
            password: last_password.into(),
            challenge_solution: String::new(),
        })
        .await
        .unwrap_err();
    node.signal("TERM");
    // Nothing has been read yet, and a pipe holds 64 KiB: a process that exited now would have lost lines.
    assert!(
        node.wait_for_line("writing the last audit lines").is_some(),
        "the node exited without writing the queued lines"
    );
    let mut text = Vec::new();
    while !String::from_utf8_lossy(&text).contains("authn_login_fail\"") || !text.ends_with(b"\n") {
        let mut chunk = [0; 4_096];
        let length = reader.read(&mut chunk).unwrap();
        text.extend_from_slice(&chunk[..length]);
    }
    assert_eq!(text.iter().filter(|byte| **byte == b'\n').count(), ADMIN_ACTIONS + 1);
    assert!(node.wait().0.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn start_that_is_refused_after_the_store_was_opened_closes_it() {
    let folder = TempDir::new().unwrap();
    let data = folder.path().join("data").display().to_string();
    let missing = folder.path().join("missing/audit.jsonl").display().to_string();
    let addresses = ["--grpc-addr", "127.0.0.1:0", "--http-addr", "off", "--ops-addr", "off"];
    let (code, _, err) = run(&[&addresses[..], &["--data-dir", &data, "--audit-log", &missing]].concat());
    assert!(code == 1 && err.contains(&missing), "{err}");
    let (code, found, err) = run(&["check-config", "--data-dir", &data]);
    assert_eq!(code, 0, "{err}");
    assert!(found.contains("store: ") && !found.contains("not closed"), "{found}");
}

#[tokio::test(flavor = "multi_thread")]
async fn unwritable_audit_file_fails_the_start_and_off_writes_nothing() {
    let folder = TempDir::new().unwrap();
    let missing = folder.path().join("missing/audit.jsonl").display().to_string();
    let (code, _, err) = run(&[
        "--grpc-addr",
        "127.0.0.1:0",
        "--http-addr",
        "off",
        "--ops-addr",
        "off",
        "--store",
        "memory:",
        "--admin-addr",
        "off",
        "--audit-log",
        &missing,
    ]);
    assert!(code == 1 && err.contains(&missing) && err.contains("--audit-log"), "{err}");
    let node = |audit: &str| {
        let mut command =
            command(&["--grpc-addr", "127.0.0.1:0", "--http-addr", "off", "--ops-addr", "off", "--store", "memory:"]);
        command.args(["--admin-addr", "off", "--audit-log", audit]);
        Node::spawn(command).unwrap()
    };
    for (audit, is_logged) in [("log", true), ("off", false)] {
        let node = node(audit);
        let mut client = AuthClient::new(channel(&node.grpc).await);
        let login = pb::LoginRequest {
            username: "ada".into(),
            password: "a wrong password".into(),
            challenge_solution: String::new(),
        };
        client.login(login).await.unwrap_err();
        node.signal("TERM");
        let log = node.wait().1;
        assert_eq!(
            log.contains("event=\"authn_login_fail\" outcome=\"failure\" reason=\"unknown_user\""),
            is_logged,
            "{log}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn stdout_audit_log_contains_only_json_lines() {
    let mut command = std::process::Command::new(crate::support::BINARY);
    command.args(["--grpc-addr", "127.0.0.1:0", "--http-addr", "off", "--ops-addr", "off", "--store", "memory:"]);
    command.args(["--admin-addr", "off", "--audit-log", "stdout"]).stdout(std::process::Stdio::piped());
    let mut child = command.stderr(std::process::Stdio::piped()).spawn().unwrap();
    let mut log = std::io::BufRead::lines(std::io::BufReader::new(child.stderr.take().unwrap()));
    let address = log.find_map(|line| line.unwrap().split_once("api=\"grpc\" address=").map(|(_, to)| to.to_owned()));
    let mut client = AuthClient::new(channel(&address.unwrap()).await);
    let login = pb::LoginRequest {
        username: "ada".into(),
        password: "a wrong password".into(),
        challenge_solution: String::new(),
    };
    client.login(login).await.unwrap_err();
    assert!(std::process::Command::new("kill").arg(child.id().to_string()).status().unwrap().success());
    let mut text = String::new();
    child.stdout.take().unwrap().read_to_string(&mut text).unwrap();
    assert!(child.wait().unwrap().success());
    let line: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(line["event"], "authn_login_fail");
}

#[tokio::test]
async fn call_cancelled_after_the_store_write_is_still_recorded() {
    type Call =
        fn(AuthClient<tonic::transport::Channel>, pb::Tokens) -> std::pin::Pin<Box<dyn Future<Output = ()> + Send>>;
    fn call<F: Future<Output = ()> + Send + 'static>(future: F) -> std::pin::Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(future)
    }
    let calls: [(&str, &str, Call); 8] = [
        ("Register", "registered", |mut client, _| {
            call(async move {
                let eve =
                    pb::RegisterRequest { username: "eve".into(), password: password("eve"), ..Default::default() };
                drop(client.register(eve).await);
            })
        }),
        ("UpdateUserData", "user changed", |mut client, tokens| {
            call(async move {
                let data = pb::UpdateUserDataRequest { data: "new".into(), ..Default::default() };
                drop(client.update_user_data(authorized(&tokens.access_token, data)).await);
            })
        }),
        ("ChangePassword", "password changed", |mut client, tokens| {
            call(async move {
                let change = pb::ChangePasswordRequest {
                    current_password: password("ada"),
                    new_password: password("eve"),
                    ..Default::default()
                };
                drop(client.change_password(authorized(&tokens.access_token, change)).await);
            })
        }),
        ("DeleteUser", "user deleted", |mut client, tokens| {
            call(async move {
                let delete = pb::DeleteUserRequest { current_password: password("ada"), ..Default::default() };
                drop(client.delete_user(authorized(&tokens.access_token, delete)).await);
            })
        }),
        ("RevokeSession", "session ended", |mut client, tokens| {
            call(async move {
                let revoke = pb::RevokeSessionRequest { session_id: tokens.session_id };
                drop(client.revoke_session(authorized(&tokens.access_token, revoke)).await);
            })
        }),
        ("RevokeAllSessions", "all sessions ended", |mut client, tokens| {
            call(async move {
                let revoke = pb::RevokeAllSessionsRequest::default();
                drop(client.revoke_all_sessions(authorized(&tokens.access_token, revoke)).await);
            })
        }),
        ("RevokeToken", "session ended", |mut client, tokens| {
            call(async move {
                drop(client.revoke_token(pb::RevokeTokenRequest { token: tokens.refresh_token }).await);
            })
        }),
        ("RefreshToken", "refreshed", |mut client, tokens| {
            call(async move {
                drop(
                    client
                        .refresh_token(pb::RefreshTokenRequest {
                            refresh_token: tokens.refresh_token,
                            ..Default::default()
                        })
                        .await,
                );
            })
        }),
    ];
    for (method, event, call) in calls {
        let store = Faulty::with(Fault::None);
        let app = App::on(store.clone()).start().await;
        app.registered("ada").await;
        let tokens = app.authenticate("ada").await;
        let before = app.events.count(event);
        cancel_after_write(&app, &store, method, call(app.client().await, tokens)).await;
        wait_until(event, async || {
            tokio::task::yield_now().await;
            app.events.count(event) > before
        })
        .await;
    }
    // A stolen refresh token is used, and its caller cancels.
    let store = Faulty::with(Fault::None);
    let app = App::on(store.clone()).start().await;
    app.registered("ada").await;
    let stolen =
        pb::RefreshTokenRequest { refresh_token: app.authenticate("ada").await.refresh_token, ..Default::default() };
    let mut client = app.client().await;
    let next = client.refresh_token(stolen.clone()).await.unwrap().into_inner().tokens.unwrap();
    client
        .refresh_token(pb::RefreshTokenRequest { refresh_token: next.refresh_token, ..Default::default() })
        .await
        .unwrap();
    cancel_after_write(&app, &store, "RefreshToken", async move { drop(client.refresh_token(stolen).await) }).await;
    wait_until("the reuse is recorded", async || {
        tokio::task::yield_now().await;
        app.events.count("reused") == 1
    })
    .await;
}

/// Cancels a call after the store has written and before the store answers; then lets the store answer.
async fn cancel_after_write(
    app: &App,
    store: &std::sync::Arc<Faulty>,
    method: &str,
    call: impl Future<Output = ()> + Send + 'static,
) {
    store.set(Fault::AnswersLate);
    let entered = store.clone().entered();
    let running = tokio::spawn(call);
    assert!(timeout(WAIT_MAX, entered).await.is_ok(), "{method} did not reach the store");
    running.abort();
    let cancelled = format!("rpc_method=\"watchword.auth.v1.Auth/{method}\",rpc_status_code=\"CANCELLED\"");
    wait_until("the call is counted as cancelled", async || ops_page(app, "/metrics").await.contains(&cancelled)).await;
    store.set(Fault::None);
}
