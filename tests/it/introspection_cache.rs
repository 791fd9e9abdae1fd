//! Token checks that are answered without asking the store again.
//!
//! Where Redis tells what is changed, a token is asked about once, and whatever ends its session is seen all the same,
//! wherever it is done and however bad the day is.
//!
//! Times here are promises to operators, so they are measured.

#![expect(clippy::disallowed_methods, reason = "measures how long an end is not seen")]

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
    sessions::with,
    stores::user,
    support::{
        Api, App, PATIENCE, Place, StoreKind, password,
        proxy::{Proxy, Weather},
        reason,
        redis::RedisServer,
        redis_settings,
    },
};

/// How long after an end anybody may still be told that a token counts (DESIGN).
const SEEN_WITHIN: Duration = Duration::from_secs(1);

/// How long a check counts when nobody vouches for it (`--token-check-reuse`).
const CHECK_REUSE: Duration = Duration::from_millis(800);

/// A node of that Redis; nodes that share users share their name.
async fn node(url: &str) -> App {
    node_with(redis_settings(url)).await
}

async fn node_with(settings: RedisSettings) -> App {
    let settings = StoreSettings::Redis(settings);
    let setup = App::with(StoreKind::Memory).args(&["--token-issuer", "https://auth.example"]);
    setup.change(move |config| config.store = settings).start().await
}

/// Waits until Redis tracks that many nodes, and each has asked it some questions since.
async fn is_tracked_by(redis: &RedisServer, nodes: usize) {
    let begun = Instant::now();
    while redis.ask::<String>(&["CLIENT", "LIST"]).matches(" flags=t ").count() < nodes {
        assert!(begun.elapsed() < PATIENCE, "nobody is tracked");
        tokio::task::yield_now().await;
    }
    is_asked_by(redis, nodes).await;
}

/// Waits until each of that many nodes has asked some of the questions that are asked all the time.
async fn is_asked_by(redis: &RedisServer, nodes: usize) {
    let questions = || {
        let stats: String = redis.ask(&["INFO", "commandstats"]);
        let calls = stats.lines().find_map(|line| line.strip_prefix("cmdstat_time:calls=")).unwrap();
        calls.split(',').next().unwrap().parse::<usize>().unwrap()
    };
    let (begun, before) = (Instant::now(), questions());
    while questions() < before + 4 * nodes {
        assert!(begun.elapsed() < PATIENCE, "nobody asks");
        tokio::task::yield_now().await;
    }
}

/// What a node says of an access token: "counts", "ended", or why there is no answer.
async fn check(client: &mut AuthClient<tonic::transport::Channel>, token: &str) -> String {
    match client.introspect_token(pb::IntrospectTokenRequest { token: token.into() }).await {
        Ok(answer) if answer.get_ref().active => "counts".into(),
        Ok(_) => "ended".into(),
        Err(status) => reason(&status),
    }
}

/// Checks until the node no longer says that the token counts; answers what it says then.
async fn first_other_answer(app: &App, token: &str, since: Instant, within: Duration, what: &str) -> String {
    let mut client = app.client().await;
    loop {
        let asked = since.elapsed();
        let said = check(&mut client, token).await;
        if said != "counts" {
            return said;
        }
        assert!(asked <= within, "{what}: it still counts after {asked:?}");
    }
}

/// Has Redis write down everything that it is asked.
fn write_down(redis: &RedisServer) {
    redis.ask::<()>(&["CONFIG", "SET", "slowlog-log-slower-than", "0", "slowlog-max-len", "100000"]);
    redis.ask::<()>(&["SLOWLOG", "RESET"]);
}

/// How often that key was read since.
fn reads(redis: &RedisServer, key: &str) -> usize {
    let log: Vec<(u64, u64, u64, Vec<String>, String, String)> = redis.ask(&["SLOWLOG", "GET", "-1"]);
    log.iter().filter(|(_, _, _, words, ..)| words[..] == ["GET", key]).count()
}

fn session_key(tokens: &pb::Tokens) -> String {
    format!("watchword:session:{}", tokens.session_id)
}

/// Checks for a while; answers how often.
async fn check_for(app: &App, token: &str, time: Duration) -> usize {
    let (mut client, begun, mut checks) = (app.client().await, Instant::now(), 0);
    while begun.elapsed() < time {
        assert_eq!(check(&mut client, token).await, "counts");
        checks += 1;
    }
    checks
}

/// A busy machine may be late once; without anybody who vouches it would be read at least four times.
#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_is_checked_again_and_again_is_read_once() {
    let redis = RedisServer::start();
    let app = node(&redis.url()).await;
    app.registered("ada").await;
    let tokens = app.authenticate("ada").await;
    is_tracked_by(&redis, 1).await;
    write_down(&redis);
    let checks = check_for(&app, &tokens.access_token, 4 * CHECK_REUSE).await;
    for key in [&session_key(&tokens), "watchword:user:ada"] {
        let reads = reads(&redis, key);
        assert!((1..=2).contains(&reads), "{key} was read {reads} times for {checks} checks");
    }
}

/// With `0s` every check asks, and Redis need not remember what for.
#[tokio::test(flavor = "multi_thread")]
async fn where_nothing_may_be_reused_every_check_asks_and_nothing_is_tracked() {
    let place = Place::new(StoreKind::Redis);
    let app = App::with(StoreKind::Redis).args(&["--token-check-reuse", "0s"]).start_in(place.clone()).await;
    app.registered("ada").await;
    let tokens = app.authenticate("ada").await;
    write_down(place.redis());
    let checks = check_for(&app, &tokens.access_token, CHECK_REUSE / 4).await;
    assert_eq!(reads(place.redis(), &session_key(&tokens)), checks);
    is_asked_by(place.redis(), 1).await;
    let clients: String = place.redis().ask(&["CLIENT", "LIST"]);
    assert!(!clients.contains(" flags=t "), "{clients}");
}

/// Names come from anybody, and each that Redis remembers costs its memory.
#[tokio::test(flavor = "multi_thread")]
async fn redis_remembers_what_was_checked_and_nothing_that_was_only_asked_for() {
    let redis = RedisServer::start();
    let app = node(&redis.url()).await;
    is_tracked_by(&redis, 1).await;
    app.registered("ada").await;
    let tokens = app.authenticate("ada").await;
    for number in 0..10 {
        assert_eq!(
            Api::Grpc.login(&app, &format!("nobody{number}"), "a wrong one").await.outcome(),
            "INVALID_CREDENTIALS"
        );
    }
    let remembers = |keys: usize| {
        let stats: String = redis.ask(&["INFO", "stats"]);
        assert!(stats.contains(&format!("tracking_total_keys:{keys}\r\n")), "not {keys}: {stats}");
    };
    remembers(0);
    check_for(&app, &tokens.access_token, CHECK_REUSE).await;
    remembers(2);
}

/// How a session ends somewhere else than on the node that is asked about it.
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

async fn end(how: &str, name: &str, elsewhere: &App, redis: &RedisServer, tokens: &pb::Tokens) {
    let mut client = elsewhere.client().await;
    let (token, mine) = (&tokens.access_token, password(name));
    let (session, user) = (session_key(tokens), format!("watchword:user:{name}"));
    match how {
        "logout" => drop(client.revoke_token(pb::RevokeTokenRequest { token: token.clone() }).await.unwrap()),
        "all sessions" => {
            let request = pb::RevokeAllSessionsRequest { keep_current: false };
            client.revoke_all_sessions(with(token, request)).await.unwrap();
        }
        "password" => {
            let request = pb::ChangePasswordRequest { current_password: mine, new_password: "another long one".into() };
            client.change_password(with(token, request)).await.unwrap();
        }
        "deletion" => {
            drop(client.delete_user(with(token, pb::DeleteUserRequest { current_password: mine })).await.unwrap())
        }
        "DEL of the session" => redis.ask(&["DEL", &session]),
        "DEL of the user" => redis.ask(&["DEL", &user]),
        "SET of the user" => rewrite(redis, &user, "disabled", json!(true)),
        "SET of the session" => rewrite(redis, &session, "refresh_time", json!("2001-01-01T00:00:00Z")),
        // With the marker in its place: nothing but the word of it says that the users are gone.
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
async fn whatever_ends_a_session_anywhere_is_seen_by_a_node_that_was_not_asked_to() {
    let redis = RedisServer::start();
    let (app, elsewhere) = (node(&redis.url()).await, node(&redis.url()).await);
    is_tracked_by(&redis, 2).await;
    for (number, how) in ENDS.iter().enumerate() {
        let name = format!("user{number}");
        app.registered(&name).await;
        let tokens = app.authenticate(&name).await;
        check_for(&app, &tokens.access_token, CHECK_REUSE).await;
        end(how, &name, &elsewhere, &redis, &tokens).await;
        let said = first_other_answer(&app, &tokens.access_token, Instant::now(), SEEN_WITHIN, how).await;
        assert_eq!(said, "ended", "{how}");
    }
}

/// Redis deletes what has expired when it comes across it: with many users that may be an hour later.
#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_expires_is_seen_before_redis_comes_across_it() {
    let redis = RedisServer::with(&["--enable-debug-command", "yes"]);
    redis.ask::<()>(&["DEBUG", "SET-ACTIVE-EXPIRE", "0"]);
    let app = node(&redis.url()).await;
    is_tracked_by(&redis, 1).await;
    const LEFT: Duration = Duration::from_secs(2);
    for (name, of_user) in [("ada", false), ("eve", true)] {
        app.registered(name).await;
        let tokens = app.authenticate(name).await;
        check_for(&app, &tokens.access_token, CHECK_REUSE).await;
        let key = if of_user { format!("watchword:user:{name}") } else { session_key(&tokens) };
        let begun = Instant::now();
        redis.ask::<()>(&["PEXPIRE", &key, &LEFT.as_millis().to_string()]);
        let said = first_other_answer(&app, &tokens.access_token, begun, LEFT + SEEN_WITHIN, &key).await;
        assert_eq!(said, "ended");
        assert!(begun.elapsed() >= LEFT, "{key} had not expired yet");
    }
}

/// A node that reaches its Redis through a proxy, and a token of which it knows that it counts.
async fn stage() -> (RedisServer, Proxy, App, pb::Tokens) {
    let redis = RedisServer::start();
    let proxy = Proxy::before(redis.port).await;
    let app = node(&proxy.url()).await;
    app.registered("ada").await;
    let tokens = app.authenticate("ada").await;
    is_tracked_by(&redis, 1).await;
    check_for(&app, &tokens.access_token, CHECK_REUSE).await;
    (redis, proxy, app, tokens)
}

/// What the node says when it can ask again; until then it must not say that the token counts.
async fn first_answer(app: &App, token: &str) -> String {
    let (mut client, begun) = (app.client().await, Instant::now());
    loop {
        let said = check(&mut client, token).await;
        if said != "STORE_UNAVAILABLE" {
            return said;
        }
        assert!(begun.elapsed() < PATIENCE, "the node is not back");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_ends_while_redis_cannot_be_asked_counts_no_longer_than_a_check_and_is_never_revived() {
    for weather in [Weather::BlackHole, Weather::HalfClosed, Weather::Reset, Weather::Closed] {
        let what = format!("{weather:?}");
        let (redis, proxy, app, tokens) = stage().await;
        proxy.set(weather);
        let begun = Instant::now();
        redis.ask::<()>(&["DEL", &session_key(&tokens)]);
        let said = first_other_answer(&app, &tokens.access_token, begun, SEEN_WITHIN, &what).await;
        // One that is half closed still tells.
        assert!(said == "STORE_UNAVAILABLE" || said == "ended", "{what}: {said}");
        let mut client = app.client().await;
        for _ in 0..3 {
            assert_eq!(check(&mut client, &tokens.access_token).await, "STORE_UNAVAILABLE", "{what}");
        }
        proxy.set(Weather::Fair);
        // Nobody asks about the session before there is a connection again that vouches for what was asked.
        is_tracked_by(&redis, 1).await;
        assert_eq!(first_answer(&app, &tokens.access_token).await, "ended", "{what}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn while_redis_stands_still_nobody_is_told_that_a_token_counts_and_afterwards_it_does() {
    let (redis, _proxy, app, tokens) = stage().await;
    redis.signal("STOP");
    let begun = Instant::now();
    let said = first_other_answer(&app, &tokens.access_token, begun, SEEN_WITHIN, "SIGSTOP").await;
    assert_eq!(said, "STORE_UNAVAILABLE");
    let mut client = app.client().await;
    while begun.elapsed() < 2 * SEEN_WITHIN {
        assert_eq!(check(&mut client, &tokens.access_token).await, "STORE_UNAVAILABLE");
    }
    redis.signal("CONT");
    assert_eq!(first_answer(&app, &tokens.access_token).await, "counts");
}

/// The word of it went to a connection that was gone, and the next one was there long before a check is too old.
#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_ends_between_two_connections_is_not_vouched_for_by_the_second() {
    let (redis, proxy, app, tokens) = stage().await;
    let mut connection = redis::Client::open(redis.url()).unwrap().get_connection().unwrap();
    let mut both = redis::pipe();
    both.atomic().cmd("CLIENT").arg("KILL").arg("TYPE").arg("normal");
    both.cmd("DEL").arg(session_key(&tokens));
    let _: Vec<i64> = both.query(&mut connection).unwrap();
    let begun = Instant::now();
    first_other_answer(&app, &tokens.access_token, begun, SEEN_WITHIN, "between two connections").await;
    assert_eq!(first_answer(&app, &tokens.access_token).await, "ended");
    assert_eq!(proxy.accepted(), 2, "it was another connection");
}

/// What the whole rests on, of Redis and of the crate alike: a change is told before any answer that was made after it.
#[tokio::test(flavor = "multi_thread")]
async fn a_change_is_told_before_every_answer_that_came_after_it() {
    let place = Place::new(StoreKind::Redis);
    let store = place.open().await;
    store.claim(&user("ada")).await.unwrap();
    let told = Arc::new(AtomicUsize::new(0));
    let (heard, ada) = (told.clone(), Username::parse("ada").unwrap());
    let changed = ChangeNotice::Changed(Changed::User(ada.clone()));
    store.watch(Arc::new(move |news| {
        heard.fetch_add(usize::from(news == changed), Ordering::SeqCst);
    }));
    is_tracked_by(place.redis(), 1).await;
    let document = place.kept("ada");
    let mut connection = redis::Client::open(place.redis().url()).unwrap().get_connection().unwrap();
    for round in 1..=1_000 {
        // Read, so that the next change is told too.
        drop(store.watched_user(&ada).await.unwrap());
        let next = document.replace("\"data\"", &format!("\"epoch\":{round},\"data\""));
        redis::cmd("SET").arg("watchword:user:ada").arg(next).exec(&mut connection).unwrap();
        assert_eq!(epoch(&*store, &ada).await, round);
        assert_eq!(told.load(Ordering::SeqCst), round as usize, "the answer was faster");
    }
}

async fn epoch(store: &dyn Store, name: &Username) -> u64 {
    store.user(name).await.unwrap().unwrap().value.epoch
}

/// Older servers, narrower users, and what stands in between: each is asked about a token again when 800 ms are over.
#[tokio::test(flavor = "multi_thread")]
async fn where_redis_does_not_track_checks_ask_again_and_ends_are_seen_all_the_same() {
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
        write_down(&redis);
        check_for(&app, &tokens.access_token, 2 * CHECK_REUSE).await;
        let reads = reads(&redis, &session_key(&tokens));
        assert!((2..=3).contains(&reads), "{forbid:?}, {args:?}: {reads} reads in 1.6 s");
        redis.ask::<()>(&["DEL", &session_key(&tokens)]);
        let said = first_other_answer(&app, &tokens.access_token, Instant::now(), SEEN_WITHIN, "DEL").await;
        assert_eq!(said, "ended", "{forbid:?}, {args:?}");
    }
}

#[tokio::test]
async fn rights_that_redis_gives_later_are_used_without_a_restart() {
    let redis = RedisServer::start();
    redis.ask::<()>(&["ACL", "SETUSER", "default", "-client|tracking"]);
    let app =
        node_with(RedisSettings { check_interval: Duration::from_millis(100), ..redis_settings(&redis.url()) }).await;
    app.registered("ada").await;
    let tokens = app.authenticate("ada").await;
    is_asked_by(&redis, 1).await;
    redis.ask::<()>(&["ACL", "SETUSER", "default", "+client|tracking"]);
    is_tracked_by(&redis, 1).await;
    check_for(&app, &tokens.access_token, Duration::from_millis(50)).await;
    write_down(&redis);
    check_for(&app, &tokens.access_token, 2 * CHECK_REUSE).await;
    assert!(reads(&redis, &session_key(&tokens)) <= 1, "it is asked again and again");
}
