//! The introspection cache on Redis: token checks that are answered without reading the store again.
//!
//! Redis reports changes of the documents that were read (client tracking), so a node reads a session once. The end of
//! a session is seen within a second, whichever node or client causes it and whatever the network does.
//!
//! The limits are promises to operators, so the tests measure real time.

#![expect(clippy::disallowed_methods, reason = "measures how long a node does not see the end of a session")]

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use watchword::{
    api::pb::{self, auth_client::AuthClient},
    domain::{ChangeNotice, Changed, Store, Username},
    store::{RedisSettings, StoreSettings},
};

use crate::{
    store::contract::user,
    support::{
        Api, App, StoreKind, TestStore, WAIT_MAX, password,
        proxy::{NetworkCondition, Proxy},
        reason,
        redis::RedisServer,
        redis_settings, with_bearer,
    },
};

/// How long after its session has ended a token can still be reported active.
const END_DELAY_MAX: Duration = Duration::from_secs(1);

/// How long a token check is valid without client tracking (`--token-check-reuse`).
const CHECK_REUSE: Duration = Duration::from_millis(800);

/// A node on this Redis. Nodes that share a store share the issuer.
async fn node(url: &str) -> App {
    node_with(redis_settings(url)).await
}

async fn node_with(settings: RedisSettings) -> App {
    let settings = StoreSettings::Redis(settings);
    let setup = App::with(StoreKind::Memory).args(&["--token-issuer", "https://auth.example"]);
    setup.change(move |config| config.store = settings).start().await
}

/// Waits until Redis tracks this many nodes and each has sent it some commands since.
async fn wait_until_tracked(redis: &RedisServer, nodes: usize) {
    let start = Instant::now();
    while redis.ask::<String>(&["CLIENT", "LIST"]).matches(" flags=t ").count() < nodes {
        assert!(start.elapsed() < WAIT_MAX, "Redis tracks fewer than {nodes} nodes");
        tokio::task::yield_now().await;
    }
    wait_for_commands(redis, nodes).await;
}

/// Waits until each of this many nodes has sent some of its periodic `TIME` commands.
async fn wait_for_commands(redis: &RedisServer, nodes: usize) {
    let time_calls = || {
        let stats: String = redis.ask(&["INFO", "commandstats"]);
        let calls = stats.lines().find_map(|line| line.strip_prefix("cmdstat_time:calls=")).unwrap();
        calls.split(',').next().unwrap().parse::<usize>().unwrap()
    };
    let (start, before) = (Instant::now(), time_calls());
    while time_calls() < before + 4 * nodes {
        assert!(start.elapsed() < WAIT_MAX, "the nodes send no commands");
        tokio::task::yield_now().await;
    }
}

/// The result of a token check: "active", "ended", or the reason of the error.
async fn check(client: &mut AuthClient<tonic::transport::Channel>, token: &str) -> String {
    match client.introspect_token(pb::IntrospectTokenRequest { token: token.into(), ..Default::default() }).await {
        Ok(answer) if answer.get_ref().active => "active".into(),
        Ok(_) => "ended".into(),
        Err(status) => reason(&status),
    }
}

/// Checks a token until the result is no longer "active", and returns that result.
async fn first_result_after_active(app: &App, token: &str, since: Instant, within: Duration, what: &str) -> String {
    let mut client = app.client().await;
    loop {
        let elapsed = since.elapsed();
        let result = check(&mut client, token).await;
        if result != "active" {
            return result;
        }
        assert!(elapsed <= within, "{what}: the token is still active after {elapsed:?}");
    }
}

/// Makes Redis log every command.
fn log_commands(redis: &RedisServer) {
    redis.ask::<()>(&["CONFIG", "SET", "slowlog-log-slower-than", "0", "slowlog-max-len", "100000"]);
    redis.ask::<()>(&["SLOWLOG", "RESET"]);
}

/// How many times this key was read since [`log_commands`].
fn reads(redis: &RedisServer, key: &str) -> usize {
    let log: Vec<(u64, u64, u64, Vec<String>, String, String)> = redis.ask(&["SLOWLOG", "GET", "-1"]);
    log.iter().filter(|(_, _, _, words, ..)| words[..] == ["GET", key]).count()
}

fn session_key(tokens: &pb::Tokens) -> String {
    format!("watchword:session:{}", tokens.session_id)
}

/// Checks a token for this time, and returns the number of checks.
async fn check_for(app: &App, token: &str, time: Duration) -> usize {
    let (mut client, start, mut checks) = (app.client().await, Instant::now(), 0);
    while start.elapsed() < time {
        assert_eq!(check(&mut client, token).await, "active");
        checks += 1;
    }
    checks
}

/// On a busy machine one report can be late. Without client tracking the session is read at least four times.
#[tokio::test(flavor = "multi_thread")]
async fn repeated_checks_of_a_token_read_its_session_once() {
    let redis = RedisServer::start();
    let app = node(&redis.url()).await;
    app.registered("ada").await;
    let tokens = app.authenticate("ada").await;
    wait_until_tracked(&redis, 1).await;
    log_commands(&redis);
    let checks = check_for(&app, &tokens.access_token, 4 * CHECK_REUSE).await;
    for key in [&session_key(&tokens), "watchword:user:ada"] {
        let reads = reads(&redis, key);
        assert!((1..=2).contains(&reads), "{key} was read {reads} times for {checks} checks");
    }
}

/// With `0s` every check reads the store, and Redis tracks no keys.
#[tokio::test(flavor = "multi_thread")]
async fn without_reuse_every_check_reads_the_store_and_nothing_is_tracked() {
    let store = TestStore::new(StoreKind::Redis);
    let app = App::with(StoreKind::Redis).args(&["--token-check-reuse", "0s"]).start_in(store.clone()).await;
    app.registered("ada").await;
    let tokens = app.authenticate("ada").await;
    log_commands(store.redis());
    let checks = check_for(&app, &tokens.access_token, CHECK_REUSE / 4).await;
    assert_eq!(reads(store.redis(), &session_key(&tokens)), checks);
    wait_for_commands(store.redis(), 1).await;
    let clients: String = store.redis().ask(&["CLIENT", "LIST"]);
    assert!(!clients.contains(" flags=t "), "{clients}");
}

/// Any client can send usernames, and each tracked key costs memory of Redis.
#[tokio::test(flavor = "multi_thread")]
async fn redis_tracks_checked_sessions_but_not_usernames_of_failed_logins() {
    let redis = RedisServer::start();
    let app = node(&redis.url()).await;
    wait_until_tracked(&redis, 1).await;
    app.registered("ada").await;
    let tokens = app.authenticate("ada").await;
    for number in 0..10 {
        assert_eq!(
            Api::Grpc.login(&app, &format!("unknown{number}"), "a wrong password").await.outcome(),
            "INVALID_CREDENTIALS"
        );
    }
    let assert_tracked_keys = |keys: usize| {
        let stats: String = redis.ask(&["INFO", "stats"]);
        assert!(stats.contains(&format!("tracking_total_keys:{keys}\r\n")), "not {keys}: {stats}");
    };
    assert_tracked_keys(0);
    check_for(&app, &tokens.access_token, CHECK_REUSE).await;
    assert_tracked_keys(2);
}

/// How a session ends, other than by a call to the node that checks it.
const ENDS: [&str; 9] = [
    "logout",
    "all sessions",
    "password",
    "deletion",
    "DEL of the session",
    "DEL of the user",
    "SET of the user",
    "SET of the session",
    "FLUSHALL",
];

async fn end_session(how: &str, name: &str, other_node: &App, redis: &RedisServer, tokens: &pb::Tokens) {
    let mut client = other_node.client().await;
    let (token, current_password) = (&tokens.access_token, password(name));
    let (session, user) = (session_key(tokens), format!("watchword:user:{name}"));
    match how {
        "logout" => drop(client.revoke_token(pb::RevokeTokenRequest { token: token.clone() }).await.unwrap()),
        "all sessions" => {
            let request = pb::RevokeAllSessionsRequest::default();
            client.revoke_all_sessions(with_bearer(token, request)).await.unwrap();
        }
        "password" => {
            let request = pb::ChangePasswordRequest {
                current_password,
                new_password: "another long one".into(),
                ..Default::default()
            };
            client.change_password(with_bearer(token, request)).await.unwrap();
        }
        "deletion" => drop(
            client
                .delete_user(with_bearer(token, pb::DeleteUserRequest { current_password, ..Default::default() }))
                .await
                .unwrap(),
        ),
        "DEL of the session" => redis.ask(&["DEL", &session]),
        "DEL of the user" => redis.ask(&["DEL", &user]),
        "SET of the user" => rewrite(redis, &user, "disabled", json!(true)),
        "SET of the session" => rewrite(redis, &session, "refresh_time", json!("2001-01-01T00:00:00Z")),
        // Keeps the store marker, so that only the report of FLUSHALL shows that the users are gone.
        "FLUSHALL" => redis.ask(&[
            "EVAL",
            "local store = redis.call('GET', KEYS[1]); redis.call('FLUSHALL'); redis.call('SET', KEYS[1], store)",
            "1",
            "watchword:store",
        ]),
        unknown => panic!("{unknown}"),
    }
}

/// Changes one field of a document by hand.
fn rewrite(redis: &RedisServer, key: &str, field: &str, value: Value) {
    let mut document: Value = serde_json::from_str(&redis.ask::<String>(&["GET", key])).unwrap();
    document[field] = value;
    redis.ask::<()>(&["SET", key, &document.to_string()]);
}

#[tokio::test(flavor = "multi_thread")]
async fn end_of_a_session_by_any_means_is_seen_within_a_second() {
    let redis = RedisServer::start();
    let (app, other_node) = (node(&redis.url()).await, node(&redis.url()).await);
    wait_until_tracked(&redis, 2).await;
    for (number, how) in ENDS.iter().enumerate() {
        let name = format!("user{number}");
        app.registered(&name).await;
        let tokens = app.authenticate(&name).await;
        check_for(&app, &tokens.access_token, CHECK_REUSE).await;
        end_session(how, &name, &other_node, &redis, &tokens).await;
        let result = first_result_after_active(&app, &tokens.access_token, Instant::now(), END_DELAY_MAX, how).await;
        assert_eq!(result, "ended", "{how}");
    }
}

/// Redis can delete an expired key long after its expiry: with many users, an hour later.
#[tokio::test(flavor = "multi_thread")]
async fn expiry_of_a_key_is_seen_before_redis_deletes_the_key() {
    let redis = RedisServer::with(&["--enable-debug-command", "yes"]);
    redis.ask::<()>(&["DEBUG", "SET-ACTIVE-EXPIRE", "0"]);
    let app = node(&redis.url()).await;
    wait_until_tracked(&redis, 1).await;
    const TTL: Duration = Duration::from_secs(2);
    for (name, expires_user) in [("ada", false), ("eve", true)] {
        app.registered(name).await;
        let tokens = app.authenticate(name).await;
        check_for(&app, &tokens.access_token, CHECK_REUSE).await;
        let key = if expires_user { format!("watchword:user:{name}") } else { session_key(&tokens) };
        let start = Instant::now();
        redis.ask::<()>(&["PEXPIRE", &key, &TTL.as_millis().to_string()]);
        let result = first_result_after_active(&app, &tokens.access_token, start, TTL + END_DELAY_MAX, &key).await;
        assert_eq!(result, "ended");
        assert!(start.elapsed() >= TTL, "{key} had not expired yet");
    }
}

/// A node that reaches its Redis through a proxy, and a token whose check is in its introspection cache.
async fn node_behind_proxy() -> (RedisServer, Proxy, App, pb::Tokens) {
    let redis = RedisServer::start();
    let proxy = Proxy::before(redis.port).await;
    let app = node(&proxy.url()).await;
    app.registered("ada").await;
    let tokens = app.authenticate("ada").await;
    wait_until_tracked(&redis, 1).await;
    check_for(&app, &tokens.access_token, CHECK_REUSE).await;
    (redis, proxy, app, tokens)
}

/// The first result after the store is available again. Until then every check is STORE_UNAVAILABLE.
async fn first_result_from_store(app: &App, token: &str) -> String {
    let (mut client, start) = (app.client().await, Instant::now());
    loop {
        let result = check(&mut client, token).await;
        if result != "STORE_UNAVAILABLE" {
            return result;
        }
        assert!(start.elapsed() < WAIT_MAX, "the store is still unavailable");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn session_that_ends_during_an_outage_of_redis_never_becomes_active_again() {
    for condition in
        [NetworkCondition::BlackHole, NetworkCondition::HalfClosed, NetworkCondition::Reset, NetworkCondition::Closed]
    {
        let what = format!("{condition:?}");
        let (redis, proxy, app, tokens) = node_behind_proxy().await;
        proxy.set(condition);
        let start = Instant::now();
        redis.ask::<()>(&["DEL", &session_key(&tokens)]);
        let result = first_result_after_active(&app, &tokens.access_token, start, END_DELAY_MAX, &what).await;
        // A half-closed connection still delivers the report.
        assert!(result == "STORE_UNAVAILABLE" || result == "ended", "{what}: {result}");
        let mut client = app.client().await;
        for _ in 0..3 {
            assert_eq!(check(&mut client, &tokens.access_token).await, "STORE_UNAVAILABLE", "{what}");
        }
        proxy.set(NetworkCondition::Normal);
        // The session is checked only after a new connection tracks the keys that the node reads.
        wait_until_tracked(&redis, 1).await;
        assert_eq!(first_result_from_store(&app, &tokens.access_token).await, "ended", "{what}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn token_is_unavailable_while_redis_is_stopped_and_active_afterwards() {
    let (redis, _proxy, app, tokens) = node_behind_proxy().await;
    redis.signal("STOP");
    let start = Instant::now();
    let result = first_result_after_active(&app, &tokens.access_token, start, END_DELAY_MAX, "SIGSTOP").await;
    assert_eq!(result, "STORE_UNAVAILABLE");
    let mut client = app.client().await;
    while start.elapsed() < 2 * END_DELAY_MAX {
        assert_eq!(check(&mut client, &tokens.access_token).await, "STORE_UNAVAILABLE");
    }
    redis.signal("CONT");
    assert_eq!(first_result_from_store(&app, &tokens.access_token).await, "active");
}

/// Redis reports the end to a connection that is closed, and the node reconnects before its cached check expires.
#[tokio::test(flavor = "multi_thread")]
async fn cached_check_is_not_valid_on_a_connection_that_missed_the_end() {
    let (redis, proxy, app, tokens) = node_behind_proxy().await;
    let mut connection = redis::Client::open(redis.url()).unwrap().get_connection().unwrap();
    let mut both = redis::pipe();
    both.atomic().cmd("CLIENT").arg("KILL").arg("TYPE").arg("normal");
    both.cmd("DEL").arg(session_key(&tokens));
    let _: Vec<i64> = both.query(&mut connection).unwrap();
    let start = Instant::now();
    first_result_after_active(&app, &tokens.access_token, start, END_DELAY_MAX, "between two connections").await;
    // A reading of the key ring may have met the closed connection. The cached check is then valid until its own end.
    let mut result = first_result_from_store(&app, &tokens.access_token).await;
    while result == "active" && start.elapsed() < END_DELAY_MAX {
        result = first_result_from_store(&app, &tokens.access_token).await;
    }
    assert_eq!(result, "ended");
    assert_eq!(proxy.accepted(), 2, "the node reconnected");
}

/// The cache relies on this order, of Redis and of the `redis` crate: the report of a change precedes later replies.
#[tokio::test(flavor = "multi_thread")]
async fn change_report_arrives_before_every_reply_that_follows_it() {
    let test_store = TestStore::new(StoreKind::Redis);
    let store = test_store.open().await;
    store.claim(&user("ada")).await.unwrap();
    let reports = Arc::new(AtomicUsize::new(0));
    let (counter, ada) = (reports.clone(), Username::parse("ada").unwrap());
    let changed = ChangeNotice::Changed(Changed::User(ada.clone()));
    store.watch(Arc::new(move |notice| {
        counter.fetch_add(usize::from(notice == changed), Ordering::SeqCst);
    }));
    wait_until_tracked(test_store.redis(), 1).await;
    let document = test_store.stored_user("ada");
    let mut connection = redis::Client::open(test_store.redis().url()).unwrap().get_connection().unwrap();
    for round in 1..=1_000 {
        // Redis reports only the next change of a key that was read.
        drop(store.watched_user(&ada).await.unwrap());
        let next = document.replace("\"data\"", &format!("\"epoch\":{round},\"data\""));
        redis::cmd("SET").arg("watchword:user:ada").arg(next).exec(&mut connection).unwrap();
        assert_eq!(epoch(&*store, &ada).await, round);
        assert_eq!(reports.load(Ordering::SeqCst), round as usize, "the reply arrived before the report");
    }
}

async fn epoch(store: &dyn Store, name: &Username) -> u64 {
    store.user(name).await.unwrap().unwrap().value.epoch
}

/// Old servers, restricted users and proxies do not track. The session is then read again after 800 ms.
#[tokio::test(flavor = "multi_thread")]
async fn without_tracking_checks_expire_and_the_end_is_seen_within_a_second() {
    let cases: [(&[&str], &[&str]); 4] = [
        (&[], &["ACL", "SETUSER", "default", "-client|tracking"]),
        (&[], &["ACL", "SETUSER", "default", "-client|caching"]),
        (&[], &["ACL", "SETUSER", "default", "-pttl"]),
        (&["--rename-command", "HELLO", ""], &["PING"]),
    ];
    for (args, forbid) in cases {
        let redis = RedisServer::with(args);
        redis.ask::<()>(forbid);
        let app = node(&redis.url()).await;
        app.registered("ada").await;
        let tokens = app.authenticate("ada").await;
        log_commands(&redis);
        check_for(&app, &tokens.access_token, 2 * CHECK_REUSE).await;
        let reads = reads(&redis, &session_key(&tokens));
        assert!((2..=3).contains(&reads), "{forbid:?}, {args:?}: {reads} reads in 1.6 s");
        redis.ask::<()>(&["DEL", &session_key(&tokens)]);
        let result = first_result_after_active(&app, &tokens.access_token, Instant::now(), END_DELAY_MAX, "DEL").await;
        assert_eq!(result, "ended", "{forbid:?}, {args:?}");
    }
}

#[tokio::test]
async fn tracking_right_granted_later_is_used_without_a_restart() {
    let redis = RedisServer::start();
    redis.ask::<()>(&["ACL", "SETUSER", "default", "-client|tracking"]);
    let app =
        node_with(RedisSettings { check_interval: Duration::from_millis(100), ..redis_settings(&redis.url()) }).await;
    app.registered("ada").await;
    let tokens = app.authenticate("ada").await;
    wait_for_commands(&redis, 1).await;
    redis.ask::<()>(&["ACL", "SETUSER", "default", "+client|tracking"]);
    wait_until_tracked(&redis, 1).await;
    check_for(&app, &tokens.access_token, Duration::from_millis(50)).await;
    log_commands(&redis);
    check_for(&app, &tokens.access_token, 2 * CHECK_REUSE).await;
    assert!(reads(&redis, &session_key(&tokens)) <= 1, "the session is read repeatedly");
}
