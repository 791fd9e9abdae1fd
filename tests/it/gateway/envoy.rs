//! A real Envoy with `deploy/envoy/envoy.yaml`, in front of an upstream that reads paths and names as generously as any.

use std::{fs, net::SocketAddr};

use serde_json::Value;
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    process::Command,
    task::JoinSet,
    time::timeout,
};

use super::{Running, deployed, free_port, start};
use crate::support::{
    App, StoreKind, WAIT_MAX, http, http_from, is_full,
    program::{existing, root},
};

/// Targets that some upstream serves as `/x`. Without a token none of them may reach the upstream as anything but `/public/`.
const TRAVERSALS: [&str; 17] = [
    "/public/../x",
    "/public/%2e%2e/x",
    "/public/%2E%2e/x",
    "/public/.%2e/x",
    "/public//..//x",
    "/public//../../x",
    "/public/%2e%2e%2fx",
    "/public/..%2Fx",
    "/public%2f..%2fx",
    "/public/..%5cx",
    "/public/..\\x",
    "/public/..;/x",
    "/public/..;a=b/x",
    "/public/%252e%252e/x",
    "/public/..%252fx",
    "/public/..%3b/x",
    "/api/..;/public/../x",
];

/// What `envoy.yaml` has against them.
const PATH_SETTINGS: [(&str, &str); 4] = [
    ("normalize_path: true", "normalize_path: false"),
    ("merge_slashes: true", "merge_slashes: false"),
    ("path_with_escaped_slashes_action: UNESCAPE_AND_REDIRECT", "path_with_escaped_slashes_action: KEEP_UNCHANGED"),
    (r#"safe_regex: { regex: "/public/[A-Za-z0-9._~/-]*" }"#, "prefix: /public/"),
];

#[tokio::test]
async fn no_spelling_of_a_path_passes_without_a_token() {
    let app = app().await;
    let envoy = envoy(&app, upstream().await, &[]).await;
    assert_eq!(served(&envoy, "/public/a/b-c.html", &[]).await.as_deref(), Some("/public/a/b-c.html"));
    assert_eq!(served(&envoy, "/public/x?next=%2e%2e/..;/", &[]).await.as_deref(), Some("/public/x"));
    for target in TRAVERSALS {
        let path = served(&envoy, target, &[]).await;
        assert!(path.as_ref().is_none_or(|path| path.starts_with("/public/")), "{target}: served as {path:?}");
    }
    let bearer = format!("Bearer {}", app.authenticate("ada").await.access_token);
    let token = [("authorization", bearer.as_str())];
    assert_eq!(served(&envoy, "/public/%2e%2e/x", &token).await.as_deref(), Some("/x"));
    assert_eq!(served(&envoy, "/public/caf%C3%A9", &token).await.as_deref(), Some("/public/café"), "with a token");
}

/// The planted bug: it shows that the test above can fail, setting by setting.
#[tokio::test]
async fn paths_pass_without_a_token_where_the_settings_are_missing() {
    let app = app().await;
    let envoy = envoy(&app, upstream().await, &PATH_SETTINGS).await;
    let mut passed = 0;
    for target in TRAVERSALS {
        passed += usize::from(served(&envoy, target, &[]).await.as_deref() == Some("/x"));
    }
    assert!(passed >= 12, "{passed} of {} pass", TRAVERSALS.len());
}

#[tokio::test]
async fn identity_headers_of_clients_reach_no_upstream_in_any_spelling() {
    const FORGED: [&str; 6] =
        ["X-Auth-Subject", "x_auth_subject", "x-auth_username", "X_AUTH-session_id", "x.auth.subject", "x-auth-scopes"];
    let app = app().await;
    let upstream = upstream().await;
    let bearer = format!("Bearer {}", app.authenticate("ada").await.access_token);
    // The second Envoy lets names with underscores in, so that only the answer of Watchword removes them.
    let lenient = [("headers_with_underscores_action: REJECT_REQUEST", "headers_with_underscores_action: ALLOW")];
    for changes in [&[][..], &lenient] {
        let envoy = envoy(&app, upstream, changes).await;
        for (path, token) in [("/x", true), ("/public/x", true), ("/public/x", false)] {
            for name in FORGED {
                let token = token.then_some(("authorization", bearer.as_str()));
                let headers: Vec<_> = token.into_iter().chain([(name, "root")]).collect();
                let reply = http(address(&envoy), "GET", path, &headers, "").await;
                let is_refused = reply.status == 400 && name.contains('_') && changes.is_empty();
                assert!(is_refused || reply.status == 200, "{name}: {reply:?}");
                assert!(!reply.body.contains("root"), "{name} reached the upstream: {}", reply.body);
            }
        }
    }
}

#[tokio::test]
async fn audit_log_has_the_address_of_the_client_of_the_gateway() {
    let folder = TempDir::new().unwrap();
    let audit = folder.path().join("audit");
    let app = App::with(StoreKind::Memory).args(&["--audit-log", &audit.display().to_string()]).start().await;
    let envoy = envoy(&app, upstream().await, &[]).await;
    let bad = [("authorization", "Bearer x"), ("x-forwarded-for", "198.51.100.1")];
    assert_eq!(http(address(&envoy), "GET", "/x", &bad, "").await.status, 401);
    let reply = http_from([127, 9, 8, 7], address(&envoy), "GET", "/x").await;
    assert!(
        reply.status == 401 && reply.header("www-authenticate") == Some(r#"Bearer realm="watchword""#),
        "{reply:?}"
    );
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind(([127, 9, 8, 7], 0).into()).unwrap();
    let mut stream = socket.connect(address(&envoy)).await.unwrap();
    stream
        .write_all(b"GET /x HTTP/1.1\r\nhost: a\r\nauthorization: Bearer x\r\nconnection: close\r\n\r\n")
        .await
        .unwrap();
    let mut reply = String::new();
    timeout(WAIT_MAX, stream.read_to_string(&mut reply)).await.unwrap().unwrap();
    assert!(reply.contains(r#"Bearer realm="watchword", error="invalid_token""#), "{reply}");
    app.stopped().await;
    let text = fs::read_to_string(&audit).unwrap();
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(lines.iter().any(|line| line["client"] == "127.9.8.7"), "{lines:?}");
    assert!(!text.contains("198.51.100.1"), "a header of the client: {text}");
}

/// More checks at once than Watchword allows on one connection, on a connection that Envoy opens for them.
#[tokio::test(flavor = "multi_thread")]
async fn checks_on_a_fresh_connection_are_all_answered() {
    let requests = if is_full() { 10 } else { 2 };
    assert_eq!(failed_checks(requests, &[]).await, 0);
}

/// The planted bug: Envoy sends all of them at once, and Watchword refuses what it does not allow.
#[tokio::test(flavor = "multi_thread")]
async fn checks_on_a_fresh_connection_fail_without_the_limit_of_streams() {
    if is_full() {
        assert_ne!(failed_checks(10, &[("{ max_concurrent_streams: 100 }", "{}")]).await, 0);
    }
}

/// How many checks of 400 clients fail.
async fn failed_checks(requests: usize, changes: &[(&str, &str)]) -> usize {
    const CLIENTS: usize = 400;
    let app = app().await;
    let bearer = format!("Bearer {}", app.authenticate("ada").await.access_token);
    // A busy machine is slow, which is another fault than a refused stream. Envoy itself answers an allowed request.
    let own = [("timeout: 0.2s", "timeout: 20s"), ("route: { cluster: app }", "direct_response: { status: 200 }")];
    let envoy = envoy(&app, upstream().await, &[&own, changes].concat()).await;
    let mut clients = JoinSet::new();
    for _ in 0..CLIENTS {
        let (to, bearer) = (address(&envoy), bearer.clone());
        clients.spawn(async move {
            let mut statuses = Vec::new();
            for _ in 0..requests {
                statuses.push(http(to, "GET", "/x", &[("authorization", &bearer)], "").await.status);
            }
            statuses
        });
    }
    let statuses = clients.join_all().await.concat();
    assert_eq!(statuses.len(), CLIENTS * requests);
    statuses.iter().filter(|status| **status != 200).count()
}

async fn app() -> App {
    let app = crate::support::app().await;
    app.registered("ada").await;
    app
}

/// Starts Envoy with `deploy/envoy/envoy.yaml` and these changes.
async fn envoy(app: &App, upstream: SocketAddr, changes: &[(&str, &str)]) -> Running {
    let (folder, port) = (TempDir::new().unwrap(), free_port());
    let ports = [
        ("port_value: 8080".to_owned(), format!("port_value: {port}")),
        ("port_value: 50051".to_owned(), format!("port_value: {}", app.grpc_socket().port())),
        ("port_value: 9000".to_owned(), format!("port_value: {}", upstream.port())),
    ];
    let ports = ports.iter().map(|(from, to)| (from.as_str(), to.as_str()));
    let config = deployed("envoy/envoy.yaml", &ports.chain(changes.iter().copied()).collect::<Vec<_>>());
    let file = folder.path().join("envoy.yaml");
    fs::write(&file, config).unwrap();
    let program = existing(root().join("target/tools/venv-deploy/bin/envoy"), "Envoy");
    let mut command = Command::new(program);
    command.arg("-c").arg(file).args(["--disable-hot-restart", "--concurrency", "1", "--log-level", "warning"]);
    start(&mut command, folder, port).await
}

fn address(envoy: &Running) -> SocketAddr {
    ([127, 0, 0, 1], envoy.port).into()
}

/// The path that the upstream serves for a target; `None` if the request does not reach it. Follows redirects, as browsers
/// do.
async fn served(envoy: &Running, target: &str, headers: &[(&str, &str)]) -> Option<String> {
    let mut target = target.to_owned();
    for _ in 0..5 {
        let reply = http(address(envoy), "GET", &target, headers, "").await;
        match reply.status {
            200 => return Some(reply.body.lines().next().unwrap().to_owned()),
            307 => {
                let location = reply.header("location").unwrap();
                let path =
                    location.split_once("://").and_then(|(_, rest)| rest.find('/').map(|at| rest[at..].to_owned()));
                target = path.unwrap_or_else(|| location.to_owned());
            }
            400 | 401 | 404 => return None,
            other => panic!("{target}: {other}: {reply:?}"),
        }
    }
    panic!("{target}: redirected for ever");
}

/// An upstream that prints the path as it resolves it, and the headers.
async fn upstream() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(answer(stream));
        }
    });
    address
}

async fn answer(mut stream: TcpStream) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => return,
        }
    }
    let head = String::from_utf8(head).unwrap();
    let target = head.split(' ').nth(1).unwrap();
    let body = format!("{}\n{head}", resolved(target));
    let reply = format!("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    drop(stream.write_all(reply.as_bytes()).await);
}

/// The path as the most generous upstream reads it: decoded twice, backslashes as slashes, without parameters, without empty
/// segments, and with its dots resolved.
fn resolved(target: &str) -> String {
    let path = target.split('?').next().unwrap();
    let path = decoded(&decoded(path)).replace('\\', "/");
    let mut kept: Vec<&str> = Vec::new();
    for segment in path.split('/').map(|segment| segment.split(';').next().unwrap()) {
        match segment {
            "" | "." => {}
            ".." => drop(kept.pop()),
            segment => kept.push(segment),
        }
    }
    format!("/{}", kept.join("/"))
}

fn decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let hex = after.get(..2).and_then(|hex| std::str::from_utf8(hex).ok());
        match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(value) if byte == b'%' => {
                bytes.push(value);
                rest = &after[2..];
            }
            Some(_) | None => {
                bytes.push(byte);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
