//! Redis at start: what is refused, in words that name the setting, its value and the cure.

use std::{
    fs,
    io::{Read, Write},
    net::TcpListener,
    thread,
};

use tempfile::TempDir;
use watchword::api::pb::{self, auth_client::AuthClient};

use crate::support::{
    Api, App, ManualClock, Node, StoreKind, TestStore, channel, http, password,
    redis::{RedisServer, Tls},
    redis_settings, run,
};

/// What docs/guides/redis.md asks operators to set, with a password.
const ACL: &str = "on >correct-horse resetchannels -@all +get +set +del +eval +time +role +info +config|get +pttl +client|tracking +client|caching +select +ping ~watchword:*";

/// Starts a node on that URL, which must refuse; answers what it said.
fn refused(url: &str, more: &[&str]) -> String {
    let folder = TempDir::new().unwrap();
    let args = [&["--store", url], more].concat();
    match Node::try_start(folder.path(), &args) {
        Ok(_) => panic!("it started on {url}"),
        Err(log) => log,
    }
}

/// T37: a Redis as Debian ships it loses users, and so do the others here.
#[test]
fn unsafe_redis_settings_are_refused_with_the_command_that_fixes_them() {
    for (args, setting, cure) in [
        (["--appendonly", "no"], "appendonly is no", "redis-cli CONFIG SET appendonly yes"),
        (["--appendfsync", "everysec"], "appendfsync is everysec", "redis-cli CONFIG SET appendfsync always"),
        (
            ["--no-appendfsync-on-rewrite", "yes"],
            "no-appendfsync-on-rewrite is yes",
            "redis-cli CONFIG SET no-appendfsync-on-rewrite no",
        ),
        (
            ["--maxmemory-policy", "allkeys-lru"],
            "maxmemory-policy is allkeys-lru",
            "redis-cli CONFIG SET maxmemory-policy noeviction",
        ),
    ] {
        let redis = RedisServer::with(&args);
        let log = refused(&redis.url(), &[]);
        assert!(log.contains(setting) && log.contains(cure), "{log}");
        // The cure is one: what it says works, and the node starts.
        let words: Vec<_> = cure.split(' ').skip(1).collect();
        redis.ask::<()>(&words);
        drop(Node::start(TempDir::new().unwrap().path(), &["--store", &redis.url()]));
    }
}

#[test]
fn all_unsafe_settings_are_named_and_relaxed_starts_with_a_warning() {
    let redis = RedisServer::with(&["--appendonly", "no", "--maxmemory-policy", "volatile-ttl"]);
    let log = refused(&redis.url(), &[]);
    assert!(log.contains("appendonly") && log.contains("maxmemory-policy"), "{log}");
    assert!(log.contains("--redis-durability relaxed"), "{log}");
    let folder = TempDir::new().unwrap();
    let args = ["--store", &redis.url(), "--redis-durability", "relaxed"];
    let node = Node::start(folder.path(), &args);
    node.signal("TERM");
    assert!(node.wait().1.contains("acknowledged users can be lost: Redis's appendonly is no"));
}

#[test]
fn replica_is_refused_and_its_primary_is_named() {
    let primary = RedisServer::start();
    let port = primary.port.to_string();
    let replica = RedisServer::with(&["--replicaof", "127.0.0.1", &port]);
    let log = refused(&replica.url(), &["--redis-durability", "relaxed"]);
    assert!(log.contains(&format!("replica of 127.0.0.1:{port}")) && log.contains("REPLICAOF NO ONE"), "{log}");
}

#[test]
fn non_redis_server_and_missing_database_have_different_errors() {
    let redis = RedisServer::with(&["--databases", "4"]);
    let log = refused(&format!("{}/7", redis.url()), &[]);
    assert!(log.contains("no such database"), "{log}");
    drop(Node::start(TempDir::new().unwrap().path(), &["--store", &format!("{}/3", redis.url())]));

    // Something else listens there.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("redis://{}", listener.local_addr().unwrap());
    thread::spawn(move || {
        // Kept open: a reset could overtake the answer.
        let mut clients = Vec::new();
        for client in listener.incoming() {
            let mut client = client.unwrap();
            assert!(client.read(&mut [0; 100]).unwrap() > 0);
            client.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").unwrap();
            clients.push(client);
        }
    });
    let log = refused(&url, &[]);
    assert!(log.contains("is not Redis"), "{log}");
}

#[test]
fn cluster_and_sentinel_are_recognised_at_start() {
    let cluster = RedisServer::with(&["--cluster-enabled", "yes"]);
    assert!(refused(&cluster.url(), &[]).contains("cluster mode"));
}

#[test]
fn nodes_without_a_common_issuer_warn_at_start() {
    let redis = RedisServer::start();
    let folder = TempDir::new().unwrap();
    let told = |more: &[&str]| {
        let node = Node::start(folder.path(), &[&["--store", &redis.url()], more].concat());
        node.signal("TERM");
        node.wait().1.contains("only with the same --token-issuer")
    };
    assert!(told(&[]));
    assert!(!told(&["--token-issuer", "https://auth.example"]));
}

#[tokio::test]
async fn documented_redis_user_has_exactly_the_needed_permissions() {
    let redis = RedisServer::start();
    let words: Vec<_> = ["ACL", "SETUSER", "watchword"].into_iter().chain(ACL.split_whitespace()).collect();
    redis.ask::<()>(&words);
    redis.ask::<()>(&["ACL", "SETUSER", "admin", "on", ">x", "+@all", "~*"]);
    redis.ask::<()>(&["ACL", "SETUSER", "default", "resetkeys", "-@all"]);
    let folder = TempDir::new().unwrap();
    let secret = folder.path().join("password");
    fs::write(&secret, "correct-horse\n").unwrap();
    let url = format!("redis://watchword@127.0.0.1:{}", redis.port);
    let with_password = ["--store-password-file", secret.to_str().unwrap()];

    let node = Node::start(folder.path(), &[&["--store", &url], &with_password[..]].concat());
    let mut client = AuthClient::new(channel(&node.grpc).await);
    let request = pb::RegisterRequest { username: "ada".into(), password: password("ada"), ..Default::default() };
    client.register(request).await.unwrap();
    let login = pb::LoginRequest { username: "ada".into(), password: password("ada"), ..Default::default() };
    let user = client.login(login).await.unwrap().into_inner().user.unwrap();
    assert!(user.last_login_time.is_some());
    node.signal("TERM");
    let log = node.wait().1;
    assert!(
        !log.contains("refused a command") && !log.contains("forbids") && !log.contains("does not report changes"),
        "{log}"
    );

    // Each of them is needed: without any one the start refuses, rather than the first registration.
    for needed in ["get", "set", "del", "eval", "time", "role", "info"] {
        redis.try_ask_as("admin:x", &["ACL", "SETUSER", "watchword", &format!("-{needed}")]).unwrap();
        let log = refused(&url, &with_password);
        assert!(log.contains("does not allow this user") && log.contains(needed), "without {needed}: {log}");
        redis.try_ask_as("admin:x", &["ACL", "SETUSER", "watchword", &format!("+{needed}")]).unwrap();
    }
    // Without these a node serves, asks more often, and says what it misses.
    for missed in ["client|tracking", "client|caching", "pttl"] {
        redis.try_ask_as("admin:x", &["ACL", "SETUSER", "watchword", &format!("-{missed}")]).unwrap();
        let mut node = Node::start(folder.path(), &[&["--store", &url], &with_password[..]].concat());
        let line = node.line("does not report changes").unwrap();
        assert!(
            line.contains("+client|tracking +client|caching +pttl") && line.contains(&format!("'{missed}'")),
            "without {missed}: {line}"
        );
        redis.try_ask_as("admin:x", &["ACL", "SETUSER", "watchword", &format!("+{missed}")]).unwrap();
    }
    let log = refused(&url, &[&with_password[..], &["--redis-prefix", "other:"]].concat());
    assert!(log.contains("does not allow this user"), "keys of another prefix: {log}");

    // The guide has the same line, so that this test is about what operators copy.
    let guide = include_str!("../../../docs/guides/redis.md");
    let commands = ACL.split_once("resetchannels").unwrap().1.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(guide.contains(&commands), "docs/guides/redis.md should name {commands}");

    // Without the password, with another one, and as a user who may do nothing.
    let log = refused(&format!("redis://127.0.0.1:{}", redis.port), &[]);
    assert!(log.contains("does not allow this user"), "{log}");
    let log = refused(&url, &[]);
    assert!(log.contains("--store-password-file"), "{log}");
    fs::write(&secret, "wrong\n").unwrap();
    let log = refused(&url, &with_password);
    assert!(log.contains("refuses the password") && !log.contains("wrong\n"), "{log}");
}

#[test]
fn missing_or_empty_password_file_is_named_in_the_error() {
    let redis = RedisServer::with_login(&["--requirepass", "correct-horse"], ":correct-horse@");
    let log = refused(&redis.url(), &[]);
    assert!(log.contains("asks for a password") && log.contains("--store-password-file"), "{log}");
    let log = refused(&format!("{}/3", redis.url()), &[]);
    assert!(log.contains("asks for a password"), "{log}");
    let folder = TempDir::new().unwrap();
    let secret = folder.path().join("password");
    fs::write(&secret, "correct-horse").unwrap();
    let flags = ["--store-password-file", secret.to_str().unwrap()];
    drop(Node::start(folder.path(), &[&["--store", &redis.url()], &flags[..]].concat()));
    fs::write(&secret, "\ncorrect-horse").unwrap();
    assert!(refused(&redis.url(), &flags).contains("first line"));
    assert!(refused(&redis.url(), &["--store-password-file", "/nowhere"]).contains("/nowhere"));
}

#[test]
fn forbidden_config_command_warns_and_the_node_serves() {
    let redis = RedisServer::with(&["--rename-command", "CONFIG", ""]);
    let node = Node::start(TempDir::new().unwrap().path(), &["--store", &redis.url()]);
    node.signal("TERM");
    let log = node.wait().1;
    assert!(log.contains("forbids CONFIG") && log.contains("appendfsync"), "{log}");
}

#[test]
fn emptied_redis_is_refused_where_the_store_must_exist() {
    let redis = RedisServer::start();
    let log = refused(&redis.url(), &["--store-must-exist"]);
    assert!(log.contains("there is no store in it") && log.contains("watchword:store"), "{log}");
    drop(Node::start(TempDir::new().unwrap().path(), &["--store", &redis.url()]));
    drop(Node::start(TempDir::new().unwrap().path(), &["--store", &redis.url(), "--store-must-exist"]));
    redis.ask::<()>(&["FLUSHALL"]);
    let log = refused(&redis.url(), &["--store-must-exist"]);
    assert!(log.contains("there is no store in it"), "{log}");
    let (code, _, err) = run(&["check-config", "--store", &redis.url(), "--store-must-exist"]);
    assert!(code == 1 && err.contains("there is no store in it"), "{err}");
}

#[test]
fn tls_with_a_private_ca_works_and_each_mismatch_is_explained() {
    let tls = Tls::new();
    let redis = RedisServer::with(&tls.redis_args());
    let url = format!("rediss://localhost:{}", redis.tls_port());
    let ca = tls.ca_file();
    let with_ca = ["--store-ca-file", ca.to_str().unwrap()];
    let node = Node::start(TempDir::new().unwrap().path(), &[&["--store", &url], &with_ca[..]].concat());
    drop(node);

    let log = refused(&url, &[]);
    assert!(log.contains("not trusted") && log.contains("--store-ca-file"), "a stranger's certificate: {log}");
    let other_name = format!("rediss://127.0.0.2:{}", redis.tls_port());
    let log = refused(&other_name, &with_ca);
    assert!(log.contains("certificate") || log.contains("cannot be reached"), "another host's certificate: {log}");
    let log = refused(&format!("rediss://localhost:{}", redis.port), &with_ca);
    assert!(log.contains("use redis://"), "TLS to a plain port: {log}");
    let (_, _, err) = run(&["check-config", "--store", &format!("redis://localhost:{}", redis.tls_port())]);
    assert!(err.contains("rediss://"), "plain text to a TLS port: {err}");
    let nonsense = redis.folder().join("nonsense.pem");
    fs::write(&nonsense, "no certificate").unwrap();
    let log = refused(&url, &["--store-ca-file", nonsense.to_str().unwrap()]);
    assert!(log.contains("nonsense.pem"), "{log}");
}

#[test]
fn check_config_asks_redis_and_start_without_redis_logs_the_wait() {
    let redis = RedisServer::start();
    let (code, out, _) = run(&["check-config", "--store", &redis.url()]);
    assert_eq!(code, 0);
    assert!(out.contains("Redis 7.") || out.contains("Redis 8."), "{out}");
    assert!(out.contains("appendonly yes, appendfsync always, maxmemory-policy noeviction"), "{out}");
    redis.kill();
    let (code, _, err) = run(&["check-config", "--store", &redis.url()]);
    assert_eq!(code, 1);
    assert!(err.contains("cannot be reached"), "{err}");
}

#[tokio::test]
async fn keys_of_other_programs_in_redis_are_not_touched() {
    let place = TestStore::new(StoreKind::Redis);
    let redis = place.redis();
    redis.ask::<()>(&["SET", "session:1", "another program's"]);
    redis.ask::<()>(&["RPUSH", "watchword:user:listed", "no string"]);
    let app = App::with(StoreKind::Redis).start_in(place.clone()).await;
    app.registered("ada").await;
    // A key of ours that is no string is that user's trouble alone.
    let answer = Api::Grpc.login(&app, "listed", "any password").await;
    assert_eq!(answer.outcome(), "CORRUPT_RECORD");
    let answer = Api::Grpc.register(&app, "listed", &password("listed"), "").await;
    assert_eq!(answer.outcome(), "CORRUPT_RECORD");
    assert_eq!(Api::Grpc.login(&app, "ada", &password("ada")).await.data(), "data of ada");
    assert_eq!(http(app.ops_socket(), "GET", "/readyz", &[], "").await.status, 200);
    assert_eq!(redis.ask::<String>(&["GET", "session:1"]), "another program's");
    assert_eq!(redis.ask::<String>(&["TYPE", "watchword:user:listed"]), "list");
}

#[tokio::test]
async fn keys_are_as_documented_and_a_prefix_moves_them() {
    let place = TestStore::new(StoreKind::Redis);
    let app = App::with(StoreKind::Redis).start_in(place.clone()).await;
    app.registered("ada").await;
    let mut keys: Vec<String> = place.redis().ask(&["KEYS", "*"]);
    keys.sort();
    let user: serde_json::Value = serde_json::from_str(&place.stored_user("ada")).unwrap();
    let id = user["id"].as_str().unwrap();
    assert_eq!(keys, [format!("watchword:id:{id}"), "watchword:store".into(), "watchword:user:ada".into()]);
    assert_eq!(place.redis().ask::<String>(&["GET", &keys[0]]), "ada");
    assert_eq!(place.redis().ask::<i64>(&["TTL", "watchword:user:ada"]), -1, "users do not expire");

    let settings = redis_settings(&place.redis().url());
    let moved = watchword::store::RedisSettings { prefix: "staging/".parse().unwrap(), ..settings };
    let moved = watchword::store::StoreSettings::Redis(moved);
    let other = App::with(StoreKind::Memory).change(move |config| config.store = moved).start().await;
    other.registered("ada").await;
    assert!(place.redis().ask::<bool>(&["EXISTS", "staging/user:ada"]));
}

/// Stored times come from Redis's clock, which all nodes share, whatever their own say.
#[tokio::test]
async fn node_with_a_wrong_clock_stores_the_time_of_redis() {
    let place = TestStore::new(StoreKind::Redis);
    let clock = ManualClock::default();
    clock.advance_wall(std::time::Duration::from_secs(86_400));
    let app = App::with(StoreKind::Redis).clock(clock).start_in(place.clone()).await;
    let [seconds, _]: [i64; 2] = place.redis().ask(&["TIME"]);
    app.registered("ada").await;
    let user: serde_json::Value = serde_json::from_str(&place.stored_user("ada")).unwrap();
    let stored = humantime::parse_rfc3339(user["create_time"].as_str().unwrap()).unwrap();
    let stored = stored.duration_since(std::time::UNIX_EPOCH).unwrap().as_secs() as i64;
    assert!((stored - seconds).abs() <= 5, "stored {stored}, Redis says {seconds}");
}
