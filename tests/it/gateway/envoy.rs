//! A real Envoy with the files of `deploy/envoy`, in front of an upstream that reads paths and names as generously as any.

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

use super::{Running, deployed, free_port, replaced, start};
use crate::support::{
    App, StoreKind, WAIT_MAX, http, http_from, is_full,
    program::{existing, root},
};

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

pub async fn app() -> App {
    let app = crate::support::app().await;
    app.registered("ada").await;
    app
}

/// Starts Envoy with `deploy/envoy/envoy.yaml` and these changes.
async fn envoy(app: &App, upstream: SocketAddr, changes: &[(&str, &str)]) -> Running {
    envoy_with(Filter::ExtAuthz, app, upstream, changes).await
}

/// The filter that checks requests: one that asks Watchword, or one that verifies tokens offline.
#[derive(Debug, Clone, Copy)]
pub enum Filter {
    ExtAuthz,
    JwtAuthn,
}

/// Starts Envoy with `deploy/envoy/envoy.yaml`, this filter and these changes.
pub async fn envoy_with(filter: Filter, app: &App, upstream: SocketAddr, changes: &[(&str, &str)]) -> Running {
    let (folder, port) = (TempDir::new().unwrap(), free_port());
    let ports = [
        ("port_value: 8080", &*format!("port_value: {port}")),
        ("port_value: 50051", &format!("port_value: {}", app.grpc_socket().port())),
        ("port_value: 9000", &format!("port_value: {}", upstream.port())),
    ];
    let config = deployed("envoy/envoy.yaml", &ports);
    let config = match filter {
        Filter::ExtAuthz => config,
        Filter::JwtAuthn => with_jwt_authn(&config, app.http_socket()),
    };
    let file = folder.path().join("envoy.yaml");
    fs::write(&file, replaced("envoy.yaml", config, changes)).unwrap();
    let program = existing(root().join("target/tools/venv-deploy/bin/envoy"), "Envoy");
    let mut command = Command::new(program);
    command.arg("-c").arg(file).args(["--disable-hot-restart", "--concurrency", "1", "--log-level", "warning"]);
    start(&mut command, folder, port).await
}

/// `envoy.yaml` with the filter and the cluster of `jwt_authn.yaml` in place of `ext_authz` and its settings.
fn with_jwt_authn(config: &str, keys: SocketAddr) -> String {
    const ROUTER: &str = "                  - name: envoy.filters.http.router\n";
    const CLUSTERS: &str = "  clusters:\n";
    let changes = [
        ("http://127.0.0.1:5000", &*format!("http://{keys}")),
        ("port_value: 5000", &format!("port_value: {}", keys.port())),
    ];
    let parts = deployed("envoy/jwt_authn.yaml", &changes);
    let (filter, cluster) = parts.split_once("---\n").unwrap();
    let config = without_blocks(config, "- name: envoy.filters.http.ext_authz");
    let config = without_blocks(&config, "typed_per_filter_config:");
    let (filter, cluster) = (indented(filter, 18) + ROUTER, CLUSTERS.to_owned() + &indented(cluster, 4));
    replaced("envoy.yaml", config, &[(ROUTER, &filter), (CLUSTERS, &cluster)])
}

/// Removes each line with this text, and the lines below it that are indented more.
fn without_blocks(yaml: &str, first: &str) -> String {
    let mut block = None;
    let mut kept = String::new();
    for line in yaml.lines() {
        let indent = line.len() - line.trim_start().len();
        if line.trim() == first {
            block = Some(indent);
        } else if block.is_none_or(|block| indent <= block) {
            block = None;
            kept.push_str(&format!("{line}\n"));
        }
    }
    assert_ne!(kept, yaml, "no {first:?}");
    kept
}

fn indented(yaml: &str, by: usize) -> String {
    yaml.lines().map(|line| format!("{:by$}{line}\n", "")).collect()
}

pub fn address(envoy: &Running) -> SocketAddr {
    ([127, 0, 0, 1], envoy.port).into()
}

/// An upstream that prints the path as it resolves it, and the headers.
pub async fn upstream() -> SocketAddr {
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
