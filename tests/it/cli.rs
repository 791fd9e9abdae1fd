//! The binary as an operator meets it: settings, start-up errors, logs, and the small commands.

use std::{fs, net::TcpListener, process::Command};

use tempfile::TempDir;
use watchword::{config, config::Config};

use crate::support::{BINARY, Node, command, command_by, run, run_command};

const FREE: [&str; 6] = ["--grpc-addr", "127.0.0.1:0", "--http-addr", "127.0.0.1:0", "--ops-addr", "127.0.0.1:0"];

/// A file that is none of those that settings name.
const MANIFEST: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");

#[test]
fn wrong_settings_are_refused_by_name_value_and_what_is_allowed() {
    for (args, expected) in [
        (vec!["--grpc-adr", "x"], vec!["--grpc-adr", "--grpc-addr"]),
        (vec!["--grpc-addr", "nonsense"], vec!["nonsense", "--grpc-addr", "IP:PORT"]),
        (vec!["--http-addr", "127.0.0.1:99999"], vec!["127.0.0.1:99999", "--http-addr", "off"]),
        (vec!["--store", "postgres://host"], vec!["--store", "embedded:", "memory:", "redis://"]),
        (vec!["--store", "redis://user:hunter2@host"], vec!["--store", "--store-password-file"]),
        (vec!["--store", "redis://host/x"], vec!["--store", "database"]),
        (vec!["--store-password-file", "x"], vec!["--store-password-file", "redis://"]),
        (vec!["--store", "redis://h", "--store-ca-file", "x"], vec!["--store-ca-file", "rediss://"]),
        (vec!["--redis-prefix", "a*"], vec!["a*", "--redis-prefix"]),
        (vec!["--token-issuer", "a b"], vec!["a b", "--token-issuer", "printable"]),
        (
            vec!["--oauth-clients-file", "/nowhere/clients"],
            vec!["--oauth-clients-file", "/nowhere/clients", "No such file"],
        ),
        (vec!["--oauth-clients-file", MANIFEST, "--http-addr", "off"], vec!["--oauth-clients-file", "--http-addr"]),
        (vec!["--oauth-clients-file", MANIFEST], vec!["--oauth-clients-file", "line 1", "NAME:SECRET"]),
        (vec!["--admin-addr", "127.0.0.1:1"], vec!["127.0.0.1:1", "--admin-addr", "unix:/path"]),
        (vec!["--seal-key-file", MANIFEST], vec!["--seal-key-file", "line 1", "64 hexadecimal digits"]),
        (vec!["--access-token-lifetime", "1s"], vec!["1s", "--access-token-lifetime", "10s"]),
        (vec!["--session-lifetime", "91d"], vec!["91d", "--session-lifetime", "2months 29days"]),
        (vec!["--redis-durability", "none"], vec!["none", "--redis-durability", "strict", "relaxed"]),
        (vec!["--password-min-length", "7"], vec!["7", "--password-min-length", "8..=64"]),
        (vec!["--data-max-bytes", "99999"], vec!["--data-max-bytes", "12288"]),
        (vec!["--hash-workers", "0"], vec!["--hash-workers", "auto", "1024"]),
        (vec!["--drain-timeout", "soon"], vec!["soon", "--drain-timeout"]),
        (vec!["--log-format", "xml"], vec!["xml", "text", "json"]),
        (vec!["--reflection", "maybe"], vec!["maybe", "auto", "on", "off"]),
        (vec!["frobnicate"], vec!["frobnicate"]),
    ] {
        let (code, _, err) = run(&args);
        assert_eq!(code, 2, "{args:?}: {err}");
        for part in expected {
            assert!(err.contains(part), "{args:?} lacks {part}: {err}");
        }
        assert!(!err.contains("hunter2"), "a refused URL is not repeated: {err}");
    }
}

#[test]
fn beyond_loopback_plain_text_needs_a_word() {
    let (code, _, err) = run(&["--grpc-addr", "0.0.0.0:0", "--http-addr", "[::]:0", "--store", "memory:"]);
    assert_eq!(code, 2, "{err}");
    for part in ["--grpc-addr 0.0.0.0:0", "--http-addr [::]:0", "--insecure-plaintext"] {
        assert!(err.contains(part), "both faults at once: {err}");
    }
    for part in ["--token-issuer must be set", "--token-audience must be set"] {
        assert!(err.contains(part), "and who makes tokens, and for whom: {err}");
    }
    let open = |api: &str, more: &[&str]| {
        let known = ["--insecure-plaintext", "--token-issuer", "https://auth.example", "--token-audience", "shop"];
        Config::from_args([&["watchword", api, "0.0.0.0:0"], &known[..], more].concat()).unwrap()
    };
    let grpc = open("--grpc-addr", &[]);
    assert!(!grpc.reflection, "reflection is closed where strangers can reach it");
    assert!(grpc.legacy_routes, "the HTTP door is still on loopback");
    let http = open("--http-addr", &[]);
    assert!(!http.legacy_routes && http.reflection);
    assert!(open("--http-addr", &["--legacy-routes", "on"]).legacy_routes);
}

#[test]
fn an_address_in_use_names_the_flag_that_changes_it() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let folder = TempDir::new().unwrap();
    let data = folder.path().join("data");
    for flag in ["--grpc-addr", "--http-addr", "--ops-addr"] {
        let mut args = FREE.to_vec();
        let at = args.iter().position(|arg| *arg == flag).unwrap() + 1;
        args[at] = &address;
        let path = data.display().to_string();
        args.extend(["--data-dir", &path]);
        let (code, _, err) = run(&args);
        assert_eq!(code, 1, "{err}");
        assert!(err.contains(flag) && err.contains(&address) && err.contains("in use"), "{err}");
    }
    assert!(!data.exists(), "nothing is touched before the addresses are had");
}

#[test]
fn variables_set_flags_and_flags_win() {
    let folder = TempDir::new().unwrap();
    let mut check = command(&["check-config", "--data-max-bytes", "77", "--store", "memory:"]);
    check.env("WATCHWORD_DATA_MAX_BYTES", "88").env("WATCHWORD_PASSWORD_MIN_LENGTH", "9").current_dir(folder.path());
    let (code, out, err) = run_command(check);
    assert_eq!(code, 0, "{err}");
    assert!(out.contains("--data-max-bytes 77 (flag)"), "{out}");
    assert!(out.contains("--password-min-length 9 (WATCHWORD_PASSWORD_MIN_LENGTH)"), "{out}");
    assert!(out.contains("--drain-timeout 10s (default)"), "{out}");
    let mut check = command(&["check-config"]);
    check.env("WATCHWORD_DATA_MAX_BYTES", "many").current_dir(folder.path());
    let (code, _, err) = run_command(check);
    assert_eq!(code, 2);
    assert!(err.contains("many") && err.contains("--data-max-bytes"), "{err}");
}

#[test]
fn check_config_asks_the_store_and_changes_nothing() {
    let folder = TempDir::new().unwrap();
    let data = folder.path().join("data");
    let path = data.display().to_string();
    let check = || run(&["check-config", "--data-dir", &path]);
    let (code, out, _) = check();
    assert_eq!(code, 0);
    assert!(out.contains("will be created"), "{out}");
    assert!(!data.exists(), "a check made the folder");
    let node = Node::start(&data, &[]);
    let (code, out, _) = check();
    assert_eq!(code, 0);
    assert!(out.contains("in use by a running node"), "{out}");
    node.kill();
    let file = data.join("watchword.redb");
    let before = fs::read(&file).unwrap();
    let (code, out, err) = check();
    assert_eq!(code, 0, "{err}");
    assert!(out.contains("is whole") || out.contains("the next start recovers it"), "{out}");
    assert!(fs::read(&file).unwrap() == before, "a check changed the file");
    fs::remove_file(data.join("lock")).unwrap();
    assert!(!check().1.contains("will be created"), "a restored backup has no lock");
    fs::write(data.join("watchword.redb"), b"").unwrap();
    let (code, _, err) = check();
    assert_eq!(code, 1);
    assert!(err.contains("is damaged"), "{err}");
    let (code, _, err) = run(&["check-config", "--data-dir", "/dev/null/data"]);
    assert_eq!(code, 1);
    assert!(err.contains("/dev/null"), "{err}");
    let (code, _, err) = run(&["check-config", "--grpc-addr", "0.0.0.0:1", "--data-dir", &path]);
    assert_eq!(code, 1);
    assert!(err.contains("--insecure-plaintext"), "{err}");
}

#[test]
fn mistyped_variables_are_warned_of_and_those_of_kubernetes_are_not() {
    let folder = TempDir::new().unwrap();
    let mut serve = command(&FREE);
    serve.args(["--store", "memory:"]).current_dir(folder.path());
    serve.env("WATCHWORD_GRPC_ADRR", "x").env("WATCHWORD_PORT_50051_TCP", "x").env("WATCHWORD_SERVICE_HOST", "x");
    let node = Node::spawn(serve).unwrap_or_else(|log| panic!("{log}"));
    node.signal("TERM");
    let (_, log) = node.wait();
    assert!(log.contains("WATCHWORD_GRPC_ADRR") && log.contains("mistyped"), "{log}");
    assert!(!log.contains("WATCHWORD_PORT") && !log.contains("WATCHWORD_SERVICE"), "{log}");
}

#[test]
fn the_log_can_be_json_and_says_where_the_doors_and_the_data_are() {
    let folder = TempDir::new().unwrap();
    let mut serve = command(&FREE);
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
    assert_eq!(store["file"].as_str().unwrap(), file.display().to_string(), "an absolute path");
    let listeners: Vec<_> = seen.iter().filter_map(|line| line["api"].as_str()).collect();
    assert_eq!(listeners, ["grpc", "http", "ops"]);
}

#[test]
fn memory_says_loudly_that_nothing_is_kept() {
    let mut serve = command(&FREE);
    serve.args(["--store", "memory:"]);
    let node = Node::spawn(serve).unwrap_or_else(|log| panic!("{log}"));
    node.signal("TERM");
    let (_, log) = node.wait();
    assert!(log.contains("WARN") && log.contains("nothing is kept"), "{log}");
}

#[test]
fn healthcheck_asks_a_running_node() {
    let folder = TempDir::new().unwrap();
    let socket = folder.path().join("ops.sock").display().to_string();
    let ops = format!("unix:{socket}");
    let check = || run(&["healthcheck", "--ops-addr", &ops]);
    let (code, _, err) = check();
    assert_eq!(code, 1);
    assert!(err.contains("does not answer"), "{err}");
    let mut serve =
        command(&["--grpc-addr", "127.0.0.1:0", "--http-addr", "off", "--store", "memory:", "--drain-delay", "1h"]);
    serve.args(["--ops-addr", &ops]);
    let mut node = Node::spawn(serve).unwrap_or_else(|log| panic!("{log}"));
    let (code, out, err) = check();
    assert_eq!((code, out.as_str()), (0, "ready\n"), "{err}");
    node.signal("TERM");
    node.wait_for_line("draining").unwrap();
    let (code, _, err) = check();
    assert_eq!(code, 1);
    assert!(err.contains("draining"), "{err}");
    assert_eq!(run(&["healthcheck", "--ops-addr", "off"]).0, 1);
}

#[test]
fn on_a_terminal_the_start_shows_commands_to_copy() {
    // `script` gives the child a terminal.
    let folder = TempDir::new().unwrap();
    let mut serve = Command::new("timeout");
    serve.args(["-s", "TERM", "2", "script", "-qec"]);
    serve.arg(format!("{BINARY} {} --data-dir {}", FREE.join(" "), folder.path().join("data").display()));
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
fn the_examples_name_every_method_at_the_addresses_that_are_set() {
    let (code, out, _) = run(&["examples"]);
    assert_eq!(code, 0);
    for method in ["Register", "Login"] {
        assert!(out.contains(&format!("watchword.auth.v1.Auth/{method}")), "{out}");
    }
    let (_, out, _) = run(&["examples", "--grpc-addr", "127.0.0.1:7", "--http-addr", "off", "--reflection", "off"]);
    assert!(out.contains("127.0.0.1:7") && out.contains("-protoset") && !out.contains("curl '"), "{out}");
    let (_, out, _) = run(&["examples", "--grpc-addr", "unix:/run/w.sock"]);
    assert!(out.contains("-unix /run/w.sock"), "{out}");
}

#[test]
fn the_readme_lists_every_setting() {
    let readme = include_str!("../../README.md");
    let table = config::settings_table();
    assert!(readme.contains(&table), "README's table of settings should be:\n\n{table}");
}

#[test]
fn secrets_and_names_never_reach_the_log_at_any_level() {
    let folder = TempDir::new().unwrap();
    let mut serve = command(&FREE);
    serve.args(["--log-level", "trace", "--data-dir"]).arg(folder.path());
    let mut node = Node::spawn(serve).unwrap_or_else(|log| panic!("{log}"));
    let line = node.wait_for_line("door=\"http\" address=").unwrap();
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
        // The original routes carry passwords in the path: whole, malformed, and over HTTP/2 with a raw blank.
        for target in ["/login?username=canary-name&password=canary-password", "/login?password=canary%FF"] {
            crate::support::http(http, "GET", target, &[], "").await;
        }
        crate::support::raw(http, b"GET /login?username=a&password=canary secret HTTP/1.1\r\nhost: localhost\r\n\r\n")
            .await;
        // A HEADERS frame whose literal `:path` has a blank: h2 would log the whole path at debug.
        let path = b"/login?password=canary secret";
        let block =
            [&[0x82, 0x86, 0x41, 0x09][..], b"localhost", &[0x44, u8::try_from(path.len()).unwrap()], path].concat();
        let head = [&[0, 0, u8::try_from(block.len()).unwrap(), 1, 5, 0, 0, 0, 1][..], &block].concat();
        let frames = [&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..], &[0, 0, 0, 4, 0, 0, 0, 0, 0], &head].concat();
        let mut stream = tokio::net::TcpStream::connect(http).await.unwrap();
        tokio::io::AsyncWriteExt::write_all(&mut stream, &frames).await.unwrap();
        // Settings, their acknowledgement and the stream's reset: the frame was read.
        tokio::io::AsyncReadExt::read_exact(&mut stream, &mut [0; 9 * 3]).await.unwrap();
    });
    node.signal("TERM");
    let (_, log) = node.wait();
    assert!(log.contains("authn_login_success"), "{log}");
    assert!(!log.contains("canary"), "{log}");
    assert!(!log.contains("$argon2id"), "{log}");
}
