//! Shutdown: the first signal drains running calls, the second ends the node immediately.

use std::process::{Command, Stdio};

use tempfile::TempDir;
use tonic::{Code, Streaming};
use watchword::{
    api::{
        health::{
            HealthCheckRequest, HealthCheckResponse, health_check_response::ServingStatus, health_client::HealthClient,
        },
        pb,
    },
    app::StopReason,
};

use crate::support::{
    App, BINARY, Node, StoreKind, channel, command, command_by,
    fault::{Fault, Faulty},
    password, reason,
};

#[tokio::test(flavor = "multi_thread")]
async fn running_logins_are_answered_during_the_drain() {
    let mut app = App::with(StoreKind::Embedded).start().await;
    app.registered("ada").await;
    let channel = app.channel().await;
    let calls: Vec<_> = (0..10)
        .map(|_| {
            let mut client = pb::auth_client::AuthClient::new(channel.clone());
            let request = pb::LoginRequest { username: "ada".into(), password: password("ada"), ..Default::default() };
            tokio::spawn(async move { client.login(request).await })
        })
        .collect();
    app.stop();
    for call in calls {
        match call.await.unwrap() {
            Ok(_) => {}
            // The listener was already closed: the client never sent the call.
            Err(status)
                if status.code() == Code::Cancelled && status.message().starts_with("operation was canceled") => {}
            // Refused without execution, or the connection closed before the call was read.
            Err(status) => {
                assert_eq!(status.code(), Code::Unavailable, "{status:?}");
                assert!(status.details().is_empty() || reason(&status) == "DRAINING");
            }
        }
    }
    assert_eq!(app.ended().await, StopReason::Requested);
}

#[tokio::test]
async fn hanging_call_is_aborted_after_the_drain_timeout() {
    let store = Faulty::with(Fault::Hangs);
    let entered = store.clone().entered();
    let mut app = App::on(store).args(&["--drain-timeout", "100ms"]).start().await;
    let mut client = app.client().await;
    let mut request = tonic::Request::new(pb::LoginRequest {
        username: "ada".into(),
        password: password("ada"),
        ..Default::default()
    });
    request.metadata_mut().insert("grpc-timeout", "30S".parse().unwrap());
    let call = tokio::spawn(async move { client.login(request).await });
    entered.await;
    app.stop();
    assert_eq!(app.ended().await, StopReason::Requested);
    assert!(call.await.unwrap().is_err());
}

#[tokio::test]
async fn readyz_is_draining_and_calls_succeed_during_the_drain_delay() {
    let mut app = App::with(StoreKind::Memory).args(&["--drain-delay", "1h"]).start().await;
    app.stop();
    loop {
        let reply = crate::support::http(app.ops_socket(), "GET", "/readyz", &[], "").await;
        if reply.status == 503 {
            assert_eq!(reply.body, "not ready: draining\n");
            break;
        }
    }
    app.registered("ada").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_drains_and_exits_with_code_zero() {
    let folder = TempDir::new().unwrap();
    let node = Node::start(folder.path(), &[]);
    let _open = channel(&node.grpc).await;
    node.signal("TERM");
    let (status, log) = node.wait();
    assert!(status.success(), "{status}\n{log}");
    assert!(log.contains("draining") && log.contains("ended"), "{log}");
}

#[tokio::test]
async fn second_signal_ends_the_node_immediately() {
    let folder = TempDir::new().unwrap();
    let mut node = Node::start(folder.path(), &["--drain-delay", "1h"]);
    node.signal("TERM");
    node.wait_for_line("draining").unwrap();
    node.signal("INT");
    let (status, log) = node.wait();
    assert_eq!(status.code(), Some(1), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn health_watch_stays_open_during_the_drain_delay() {
    let mut app = App::with(StoreKind::Memory).args(&["--drain-delay", "1h"]).start().await;
    let mut watch = health_watch(&app).await;
    app.stop();
    assert_eq!(watch.message().await.unwrap().unwrap().status(), ServingStatus::NotServing);
    // A call during the delay succeeds, which says that connections are not being closed, and the stream is still open.
    let next = watch.message();
    tokio::pin!(next);
    assert!(futures_util::poll!(&mut next).is_pending(), "the stream ended with the first answer");
    app.registered("ada").await;
    assert!(futures_util::poll!(&mut next).is_pending(), "the stream ended during the drain delay");
}

#[tokio::test(flavor = "multi_thread")]
async fn health_watch_ends_when_connections_close_after_the_drain_delay() {
    let mut app = App::with(StoreKind::Memory).args(&["--drain-delay", "100ms"]).start().await;
    let mut watch = health_watch(&app).await;
    app.stop();
    assert_eq!(watch.message().await.unwrap().unwrap().status(), ServingStatus::NotServing);
    assert!(watch.message().await.unwrap().is_none());
    assert_eq!(app.ended().await, StopReason::Requested);
}

/// A watch that has said that the server serves.
async fn health_watch(app: &App) -> Streaming<HealthCheckResponse> {
    let mut health = HealthClient::new(app.channel().await);
    let mut watch = health.watch(HealthCheckRequest::default()).await.unwrap().into_inner();
    assert_eq!(watch.message().await.unwrap().unwrap().status(), ServingStatus::Serving);
    watch
}

#[test]
fn sigterm_during_the_start_ends_the_node_with_code_zero() {
    let folder = TempDir::new().unwrap();
    // A Redis that accepts the connection and never answers.
    let hanging = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let store = format!("redis://{}", hanging.local_addr().unwrap());
    let mut child = command(&["--grpc-addr", "127.0.0.1:0", "--http-addr", "off", "--ops-addr", "off"])
        .args(["--store", &store, "--data-dir"])
        .arg(folder.path())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let _connection = hanging.accept().unwrap();
    assert!(Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap().success());
    let status = child.wait().unwrap();
    let log = std::io::read_to_string(child.stderr.take().unwrap()).unwrap();
    assert!(status.success(), "{status}\n{log}");
    assert!(log.contains("signal during the start"), "{log}");
}

#[test]
fn sigterm_while_a_file_of_the_settings_cannot_be_read_ends_the_node() {
    let folder = TempDir::new().unwrap();
    let hanging = folder.path().join("pipe");
    assert!(Command::new("mkfifo").arg(&hanging).status().unwrap().success());
    // One core: the start must not occupy the only thread of the runtime.
    let mut one_core = Command::new("taskset");
    one_core.args(["-c", "0", BINARY]);
    let mut child = command_by(one_core, &["--grpc-addr", "127.0.0.1:0", "--http-addr", "off", "--ops-addr", "off"])
        .args(["--store", "memory:", "--admin-addr", "off", "--password-blocklist-file"])
        .arg(&hanging)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // The log has no line yet. Without a handler SIGTERM would end the process with another status.
    let has_handler = || {
        let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
        let handled = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap();
        u64::from_str_radix(handled.trim(), 16).unwrap() & (1 << 14) != 0
    };
    while !has_handler() {}
    assert!(Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap().success());
    assert!(child.wait().unwrap().success());
}

#[test]
fn sighup_without_an_audit_file_changes_nothing() {
    let folder = TempDir::new().unwrap();
    let node = Node::start(folder.path(), &[]);
    node.signal("HUP");
    node.signal("TERM");
    let (status, log) = node.wait();
    assert!(status.success(), "{status}\n{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn open_health_watch_does_not_delay_the_shutdown() {
    let folder = TempDir::new().unwrap();
    let node = Node::start(folder.path(), &["--drain-timeout", "1h"]);
    let mut health = HealthClient::new(channel(&node.grpc).await);
    let mut watch = health.watch(HealthCheckRequest::default()).await.unwrap().into_inner();
    watch.message().await.unwrap();
    node.signal("TERM");
    assert_eq!(watch.message().await.unwrap().unwrap().status(), ServingStatus::NotServing);
    assert!(watch.message().await.unwrap().is_none(), "the stream did not end");
    let (status, log) = node.wait();
    assert!(status.success(), "{log}");
}
