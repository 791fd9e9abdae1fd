//! Start and log of a node: address conflicts, warnings, log formats, and the absence of secrets.

use std::{fs, net::TcpListener, process::Command};

use tempfile::TempDir;

use super::FREE_PORTS;
use crate::support::{BINARY, Node, command, command_by, run};

#[test]
fn address_in_use_fails_the_start_and_names_the_flag() {
    let occupied = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = occupied.local_addr().unwrap().to_string();
    let folder = TempDir::new().unwrap();
    let data = folder.path().join("data");
    for flag in ["--grpc-addr", "--http-addr", "--ops-addr"] {
        let mut args = FREE_PORTS.to_vec();
        let at = args.iter().position(|arg| *arg == flag).unwrap() + 1;
        args[at] = &address;
        let path = data.display().to_string();
        args.extend(["--data-dir", &path]);
        let (code, _, err) = run(&args);
        assert_eq!(code, 1, "{err}");
        assert!(err.contains(flag) && err.contains(&address) && err.contains("in use"), "{err}");
    }
    assert!(!data.exists(), "the store is opened only after all addresses are bound");
}

#[test]
fn mistyped_variable_is_warned_about_and_kubernetes_service_variables_are_not() {
    let folder = TempDir::new().unwrap();
    let mut serve = command(&FREE_PORTS);
    serve.args(["--store", "memory:"]).current_dir(folder.path());
    serve.env("WATCHWORD_GRPC_ADRR", "x").env("WATCHWORD_PORT_50051_TCP", "x").env("WATCHWORD_SERVICE_HOST", "x");
    let node = Node::spawn(serve).unwrap_or_else(|log| panic!("{log}"));
    node.signal("TERM");
    let (_, log) = node.wait();
    assert!(log.contains("WATCHWORD_GRPC_ADRR") && log.contains("mistyped"), "{log}");
    assert!(!log.contains("WATCHWORD_PORT") && !log.contains("WATCHWORD_SERVICE"), "{log}");
}

#[test]
fn json_log_names_the_listeners_and_the_data_file() {
    let folder = TempDir::new().unwrap();
    let mut serve = command(&FREE_PORTS);
    serve.args(["--log-format", "json", "--data-dir", "data"]).current_dir(folder.path());
    let mut child = serve.stderr(std::process::Stdio::piped()).spawn().unwrap();
    let stderr = std::io::BufReader::new(child.stderr.take().unwrap());
    let mut lines = std::io::BufRead::lines(stderr);
    let mut seen = Vec::new();
    while !seen.last().is_some_and(|line: &serde_json::Value| line["api"] == "ops") {
        seen.push(serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap());
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let store = &seen[0];
    assert_eq!(store["new"], true);
    let file = fs::canonicalize(folder.path()).unwrap().join("data/watchword.redb");
    assert_eq!(store["file"].as_str().unwrap(), file.display().to_string(), "the path must be absolute");
    let listeners: Vec<_> = seen.iter().filter_map(|line| line["api"].as_str()).collect();
    assert_eq!(listeners, ["grpc", "http", "ops"]);
}

#[test]
fn memory_store_warns_that_nothing_is_kept() {
    let mut serve = command(&FREE_PORTS);
    serve.args(["--store", "memory:"]);
    let node = Node::spawn(serve).unwrap_or_else(|log| panic!("{log}"));
    node.signal("TERM");
    let (_, log) = node.wait();
    assert!(log.contains("WARN") && log.contains("nothing is kept"), "{log}");
}

#[test]
fn start_on_a_terminal_prints_commands_to_copy() {
    // `script` runs the child on a terminal.
    let folder = TempDir::new().unwrap();
    let mut serve = Command::new("timeout");
    serve.args(["-s", "TERM", "2", "script", "-qec"]);
    serve.arg(format!("{BINARY} {} --data-dir {}", FREE_PORTS.join(" "), folder.path().join("data").display()));
    let mut serve = command_by(serve, &["/dev/null"]);
    let output = serve.output().unwrap();
    let shown = String::from_utf8_lossy(&output.stdout);
    assert!(shown.contains("Watchword") && shown.contains("is ready"), "{shown}");
    for part in
        ["grpcurl -plaintext 127.0.0.1:", "watchword.auth.v1.Auth/Register", "watchword.auth.v1.Auth/Login", "curl "]
    {
        assert!(shown.contains(part), "{part} is missing: {shown}");
    }
}

#[test]
fn trace_log_contains_no_password_username_or_user_data() {
    let folder = TempDir::new().unwrap();
    let mut serve = command(&FREE_PORTS);
    serve.args(["--log-level", "trace", "--data-dir"]).arg(folder.path());
    let mut node = Node::spawn(serve).unwrap_or_else(|log| panic!("{log}"));
    let line = node.wait_for_line("api=\"http\" address=").unwrap();
    let http: std::net::SocketAddr = line.rsplit("address=").next().unwrap().parse().unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        use watchword::api::pb;
        let mut client = pb::auth_client::AuthClient::new(crate::support::channel(&node.grpc).await);
        let canary = pb::RegisterRequest {
            username: "canary-name".into(),
            password: "canary-password".into(),
            data: Some("canary-data".into()),
            ..Default::default()
        };
        client.register(canary.clone()).await.unwrap();
        client.register(canary).await.unwrap_err();
        for password in ["canary-password", "canary-wrong"] {
            let login =
                pb::LoginRequest { username: "canary-name".into(), password: password.into(), ..Default::default() };
            drop(client.login(login).await);
        }
        // Passwords in the path of the original routes: well-formed, malformed, and over HTTP/2 with a raw space.
        for target in ["/login?username=canary-name&password=canary-password", "/login?password=canary%FF"] {
            crate::support::http(http, "GET", target, &[], "").await;
        }
        crate::support::raw(http, b"GET /login?username=a&password=canary secret HTTP/1.1\r\nhost: localhost\r\n\r\n")
            .await;
        // A HEADERS frame whose literal `:path` contains a space: h2 logs the whole path at debug level.
        let path = b"/login?password=canary secret";
        let block =
            [&[0x82, 0x86, 0x41, 0x09][..], b"localhost", &[0x44, u8::try_from(path.len()).unwrap()], path].concat();
        let head = [&[0, 0, u8::try_from(block.len()).unwrap(), 1, 5, 0, 0, 0, 1][..], &block].concat();
        let frames = [&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..], &[0, 0, 0, 4, 0, 0, 0, 0, 0], &head].concat();
        let mut stream = tokio::net::TcpStream::connect(http).await.unwrap();
        tokio::io::AsyncWriteExt::write_all(&mut stream, &frames).await.unwrap();
        // SETTINGS, its acknowledgement and RST_STREAM: the server has read the HEADERS frame.
        tokio::io::AsyncReadExt::read_exact(&mut stream, &mut [0; 9 * 3]).await.unwrap();
    });
    node.signal("TERM");
    let (_, log) = node.wait();
    assert!(log.contains("authn_login_success"), "{log}");
    assert!(!log.contains("canary"), "{log}");
    assert!(!log.contains("$argon2id"), "{log}");
}
