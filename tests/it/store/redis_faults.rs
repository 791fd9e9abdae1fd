//! Redis on its bad days: what callers hear, how soon, and how soon it is over (T29 to T31).
//!
//! Times here are promises to operators, so they are measured; each has room for a busy machine.

#![expect(clippy::disallowed_methods, reason = "measures how long callers really wait")]

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use watchword::{
    api::{
        health::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient},
        pb,
    },
    domain::{Claim, Store, StoreError, Stored, User, Username, password::Pepper},
    store::{RedisSettings, Seal, StoreSettings},
};

use crate::{
    store::contract::user,
    support::{
        Answer, Api, App, StoreKind, WAIT_MAX, environment, http, is_full, password,
        proxy::{LostReply, NetworkCondition, Proxy},
        reason,
        redis::RedisServer,
        redis_settings,
    },
};

/// How long a caller may wait to hear that the store is down (T29), and twice that where a busy machine is the cause.
const TOLD_WITHIN: Duration = Duration::from_millis(600);
const ROOM: Duration = Duration::from_millis(600);

/// How long after Redis's return calls may still be refused (T29).
const BACK_WITHIN: Duration = Duration::from_secs(5);

/// Connections that one node may have (T29).
const CONNECTIONS_MAX: usize = 8;

/// A node that reaches its Redis through a proxy.
struct Stage {
    redis: RedisServer,
    proxy: Proxy,
    app: App,
}

impl Stage {
    async fn new() -> Self {
        let redis = RedisServer::start();
        let proxy = Proxy::before(redis.port).await;
        let settings = StoreSettings::Redis(redis_settings(&proxy.url()));
        let app = App::with(StoreKind::Memory).change(move |config| config.store = settings).start().await;
        app.registered("ada").await;
        Self { redis, proxy, app }
    }

    async fn login(&self) -> Answer {
        Api::Grpc.login(&self.app, "ada", &password("ada")).await
    }

    /// Calls are refused in time, and never answered wrongly, for a while.
    async fn is_down(&self, what: &str) {
        self.is_down_for(what, Duration::ZERO).await;
    }

    /// Like `is_down`, for the time `full` that T29 requires with `tests/run --all`.
    async fn is_down_for(&self, what: &str, full: Duration) {
        let since = Instant::now();
        for number in 0.. {
            if number >= 6 && (!is_full() || since.elapsed() >= full) {
                break;
            }
            let (name, begun) = (format!("bob{number}"), Instant::now());
            let registration = Api::Grpc.register(&self.app, &name, "long enough for all", "");
            let (login, register) = tokio::join!(self.login(), registration);
            let took = begun.elapsed();
            assert_eq!(login.outcome(), "STORE_UNAVAILABLE", "{what}: a login");
            assert_eq!(register.outcome(), "STORE_UNAVAILABLE", "{what}: a registration");
            assert!(took <= TOLD_WITHIN + ROOM, "{what}: callers waited {took:?}");
        }
        let connections = connections_to(self.proxy.address.port());
        assert!(connections <= CONNECTIONS_MAX, "{what}: {connections} connections");
        self.readiness(503, what).await;
        let mut health = HealthClient::new(self.app.channel().await);
        let answer = health.check(HealthCheckRequest { service: String::new() }).await.unwrap().into_inner();
        assert_eq!(answer.status(), ServingStatus::NotServing, "{what}");
        let metrics = http(self.app.ops_socket(), "GET", "/metrics", &[], "").await.body;
        assert!(metrics.contains("watchword_store_up 0"), "{what}: {metrics}");
    }

    async fn readiness(&self, status: u16, what: &str) {
        let begun = Instant::now();
        while http(self.app.ops_socket(), "GET", "/readyz", &[], "").await.status != status {
            assert!(begun.elapsed() < BACK_WITHIN + ROOM, "{what}: /readyz does not become {status}");
        }
    }

    /// All is well again, soon and by itself.
    async fn comes_back(&self, what: &str) {
        let begun = Instant::now();
        while self.login().await.outcome() != "ok" {
            assert!(begun.elapsed() < BACK_WITHIN + ROOM, "{what}: not back");
        }
        self.readiness(200, what).await;
        let name = format!("carol{}", self.proxy.accepted());
        assert_eq!(Api::Grpc.register(&self.app, &name, &password(&name), "").await.outcome(), "ok", "{what}");
    }
}

/// Connections that this process has to that port, as the kernel sees them from our end.
fn connections_to(port: u16) -> usize {
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let [remote, established] = [format!(":{port:04X}"), "01".to_owned()];
    let ours = |line: &&str| {
        let fields: Vec<_> = line.split_whitespace().collect();
        fields[2].ends_with(&remote) && fields[3] == established
    };
    table.lines().skip(1).filter(ours).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn stopped_redis_is_reported_in_time_and_used_again_at_once() {
    let stage = Stage::new().await;
    stage.redis.signal("STOP");
    stage.is_down_for("SIGSTOP", Duration::from_secs(10)).await;
    stage.redis.signal("CONT");
    stage.comes_back("SIGCONT").await;
}

/// The kernel would go on believing in such a connection for a quarter of an hour.
#[tokio::test(flavor = "multi_thread")]
async fn black_hole_network_is_reported_in_time_and_survived() {
    let stage = Stage::new().await;
    stage.proxy.set(NetworkCondition::BlackHole);
    stage.is_down_for("black hole", Duration::from_secs(60)).await;
    stage.proxy.set(NetworkCondition::Normal);
    stage.comes_back("after the black hole").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connection_resets_closed_ports_and_killed_redis_are_survived() {
    let stage = Stage::new().await;
    for weather in [NetworkCondition::Reset, NetworkCondition::Closed] {
        stage.proxy.set(weather);
        stage.is_down(&format!("{weather:?}")).await;
        stage.proxy.set(NetworkCondition::Normal);
        stage.comes_back(&format!("after {weather:?}")).await;
    }
    stage.redis.kill();
    stage.is_down("kill -9").await;
    stage.redis.restart();
    stage.comes_back("after kill -9").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn half_closed_connection_is_treated_as_silent() {
    let stage = Stage::new().await;
    stage.proxy.set(NetworkCondition::HalfClosed);
    stage.is_down("half closed").await;
    stage.proxy.set(NetworkCondition::Normal);
    stage.comes_back("after half closed").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_or_fragmenting_network_is_not_a_failure() {
    let stage = Stage::new().await;
    let slow = NetworkCondition::Slow(Duration::from_millis(1), Duration::from_millis(50));
    for (round, weather) in [slow, NetworkCondition::Sliced(1), NetworkCondition::Sliced(7)].into_iter().enumerate() {
        stage.proxy.set(weather);
        for number in 0..5 {
            assert_eq!(stage.login().await.data(), "data of ada", "{weather:?}");
            let name = format!("user{round}-{number}");
            assert_eq!(Api::Grpc.register(&stage.app, &name, &password(&name), "").await.outcome(), "ok");
        }
    }
    assert_eq!(stage.proxy.accepted(), 1, "the connection was given up without need");
}

/// A failover behind the same address: the old primary is a replica now and refuses writes (READONLY).
#[tokio::test(flavor = "multi_thread")]
async fn primary_that_becomes_a_replica_is_down_and_never_read() {
    let stage = Stage::new().await;
    let other = RedisServer::start();
    let in_step = |redis: &RedisServer| redis.ask::<String>(&["INFO", "replication"]).contains("master_link_status:up");
    other.ask::<()>(&["REPLICAOF", "127.0.0.1", &stage.redis.port.to_string()]);
    while !in_step(&other) {}
    other.ask::<()>(&["REPLICAOF", "NO", "ONE"]);
    stage.redis.ask::<()>(&["REPLICAOF", "127.0.0.1", &other.port.to_string()]);
    stage.readiness(503, "READONLY").await;
    while !in_step(&stage.redis) {}
    stage.is_down("READONLY").await;
    let why = http(stage.app.ops_socket(), "GET", "/readyz", &[], "").await.body;
    assert!(why.contains("replica of 127.0.0.1"), "{why}");
    stage.redis.ask::<()>(&["REPLICAOF", "NO", "ONE"]);
    stage.comes_back("a primary again").await;
}

/// Otherwise every user would be unknown, and every name free for whoever asks first.
#[tokio::test(flavor = "multi_thread")]
async fn redis_that_lost_its_data_is_down_and_no_username_is_free() {
    let stage = Stage::new().await;
    stage.redis.ask::<()>(&["FLUSHALL"]);
    stage.readiness(503, "FLUSHALL").await;
    let thief = Api::Grpc.register(&stage.app, "ada", &password("thief"), "").await;
    assert_eq!(thief.outcome(), "STORE_UNAVAILABLE");
    let why = http(stage.app.ops_socket(), "GET", "/readyz", &[], "").await.body;
    assert!(why.contains("has lost its data"), "{why}");
}

/// Started again by hand, and the flags forgotten: it does not even read its file.
#[tokio::test(flavor = "multi_thread")]
async fn redis_without_its_file_is_down_until_the_file_is_back() {
    let stage = Stage::new().await;
    stage.redis.kill();
    stage.redis.restart_with(&["--appendonly", "no"]);
    stage.readiness(503, "without its file").await;
    stage.is_down("without its file").await;
    stage.redis.kill();
    stage.redis.restart();
    stage.comes_back("with its file").await;
}

/// Nothing is lost yet, but it would be at the next power cut: as at a start, a node does not begin with that.
#[tokio::test(flavor = "multi_thread")]
async fn redis_restarted_with_unsafe_settings_is_down() {
    let stage = Stage::new().await;
    stage.redis.kill();
    stage.redis.restart_with(&["--appendfsync", "everysec"]);
    stage.readiness(503, "everysec").await;
    let why = http(stage.app.ops_socket(), "GET", "/readyz", &[], "").await.body;
    assert!(why.contains("CONFIG SET appendfsync always"), "{why}");
    stage.redis.ask::<()>(&["CONFIG", "SET", "appendfsync", "always"]);
    stage.comes_back("always again").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn loading_redis_is_down_until_it_has_loaded() {
    // Each key that is read costs it this many microseconds.
    let redis = RedisServer::with(&["--enable-debug-command", "yes", "--appendfsync", "no"]);
    let proxy = Proxy::before(redis.port).await;
    let settings = RedisSettings { durability: watchword::store::Durability::Relaxed, ..redis_settings(&proxy.url()) };
    let app =
        App::with(StoreKind::Memory).change(move |config| config.store = StoreSettings::Redis(settings)).start().await;
    app.registered("ada").await;
    redis.ask::<()>(&["DEBUG", "POPULATE", "20000", "filler", "10"]);
    redis.ask::<()>(&["BGREWRITEAOF"]);
    while redis.ask::<String>(&["INFO", "persistence"]).contains("aof_rewrite_in_progress:1") {}
    redis.ask::<()>(&["CONFIG", "SET", "key-load-delay", "200"]);
    redis.ask::<()>(&["CONFIG", "SET", "loading-process-events-interval-bytes", "1024"]);
    let stage = Stage { redis, proxy, app };
    let reload = {
        let url = stage.redis.url();
        tokio::task::spawn_blocking(move || {
            let client = redis::Client::open(url).unwrap();
            let mut connection = client.get_connection_with_timeout(WAIT_MAX).unwrap();
            redis::cmd("DEBUG").arg("LOADAOF").exec(&mut connection).unwrap();
        })
    };
    stage.readiness(503, "LOADING").await;
    assert_eq!(stage.login().await.outcome(), "STORE_UNAVAILABLE");
    assert!(!reload.is_finished(), "the file was read before anybody looked");
    reload.await.unwrap();
    stage.comes_back("after LOADING").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn unsafe_setting_change_at_run_time_warns_until_it_is_fixed() {
    let redis = RedisServer::start();
    let settings = RedisSettings { check_interval: Duration::ZERO, ..redis_settings(&redis.url()) };
    let app =
        App::with(StoreKind::Memory).change(move |config| config.store = StoreSettings::Redis(settings)).start().await;
    let ready = || http(app.ops_socket(), "GET", "/readyz", &[], "");
    assert_eq!(ready().await.body, "ready\n");
    for (value, alarm) in [("everysec", true), ("always", false)] {
        redis.ask::<()>(&["CONFIG", "SET", "appendfsync", value]);
        let begun = Instant::now();
        while ready().await.body.contains("warning: appendfsync is everysec") != alarm {
            assert!(begun.elapsed() < WAIT_MAX, "nobody noticed {value}");
        }
        assert_eq!(ready().await.status, 200, "an alarm is not an outage");
        let metrics = http(app.ops_socket(), "GET", "/metrics", &[], "").await.body;
        assert_eq!(metrics.contains("watchword_store_alarm{setting=\"appendfsync\"} 1"), alarm, "{metrics}");
    }
}

/// The ordinary end of a Redis that is set as it must be: its memory is full. What is only read goes on.
#[tokio::test(flavor = "multi_thread")]
async fn redis_out_of_memory_refuses_writes_and_token_checks_continue() {
    let stage = Stage::new().await;
    let tokens = stage.app.authenticate("ada").await;
    stage.redis.ask::<()>(&["CONFIG", "SET", "maxmemory", "1"]);
    assert_eq!(Api::Grpc.register(&stage.app, "bob", &password("bob"), "").await.outcome(), "STORE_UNAVAILABLE");
    assert_eq!(stage.login().await.outcome(), "STORE_UNAVAILABLE", "a session is a write");
    assert_eq!(Api::Legacy.login(&stage.app, "ada", &password("ada")).await.data(), "data of ada");
    assert!(stage.app.introspect(&tokens.access_token).await.active);
    for (memory, alarm) in [(None, true), (Some("0"), false)] {
        if let Some(memory) = memory {
            stage.redis.ask::<()>(&["CONFIG", "SET", "maxmemory", memory]);
        }
        let begun = Instant::now();
        while http(stage.app.ops_socket(), "GET", "/readyz", &[], "").await.body.contains("(OOM)") != alarm {
            assert!(begun.elapsed() < WAIT_MAX, "the alarm does not become {alarm}");
        }
        stage.readiness(200, "checks go on").await;
        let metrics = http(stage.app.ops_socket(), "GET", "/metrics", &[], "").await.body;
        assert_eq!(metrics.contains("watchword_store_alarm{setting=\"OOM\"} 1"), alarm, "{metrics}");
    }
    stage.comes_back("with memory again").await;
    assert_eq!(stage.proxy.accepted(), 1, "the connection was given up without need");
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_that_delays_writes_stays_down_without_flapping() {
    let stage = Stage::new().await;
    stage.redis.ask::<()>(&["CLIENT", "PAUSE", "60000", "WRITE"]);
    stage.readiness(503, "writes are held back").await;
    for _ in 0..50 {
        assert_eq!(http(stage.app.ops_socket(), "GET", "/readyz", &[], "").await.status, 503);
        assert_eq!(stage.login().await.outcome(), "STORE_UNAVAILABLE");
    }
    stage.redis.ask::<()>(&["CLIENT", "UNPAUSE"]);
    stage.comes_back("writes go on").await;
}

/// A secret that is rotated in Redis and in its file needs no restart.
#[tokio::test(flavor = "multi_thread")]
async fn rotated_redis_password_is_read_at_the_next_connection() {
    let redis = RedisServer::with_login(&["--requirepass", "first"], ":first@");
    let folder = tempfile::TempDir::new().unwrap();
    let secret = folder.path().join("password");
    std::fs::write(&secret, "first").unwrap();
    let settings = RedisSettings { password_file: Some(secret.clone()), ..redis_settings(&redis.url()) };
    let app =
        App::with(StoreKind::Memory).change(move |config| config.store = StoreSettings::Redis(settings)).start().await;
    app.registered("ada").await;
    std::fs::write(&secret, "second").unwrap();
    redis.ask::<()>(&["CONFIG", "SET", "requirepass", "second"]);
    redis.try_ask_as(":second", &["CLIENT", "KILL", "TYPE", "normal"]).unwrap();
    let begun = Instant::now();
    while Api::Grpc.login(&app, "ada", &password("ada")).await.outcome() != "ok" {
        assert!(begun.elapsed() < BACK_WITHIN + ROOM, "not back");
    }
}

/// T31: the user was stored, and the one who asked for it never hears that somebody else has the name.
#[tokio::test(flavor = "multi_thread")]
async fn lost_reply_is_outcome_unknown_and_request_id_resolves_it() {
    let stage = Stage::new().await;
    let mut client = stage.app.client().await;
    let mut unknown = 0;
    for number in 0..20 {
        let request = pb::RegisterRequest {
            username: format!("creator{number}"),
            password: password("creator"),
            request_id: format!("7d2f8f6e-9d1b-4f6e-8c3a-0b1d2e3f4a{number:02x}"),
            ..Default::default()
        };
        // Some of the next replies belong to this registration, some to the tending task.
        stage.proxy.lose_reply_after(i64::from(number % 7), LostReply::ThenReset);
        let begun = Instant::now();
        loop {
            match client.register(request.clone()).await {
                Ok(_) => break,
                Err(status) => {
                    let why = reason(&status);
                    assert!(
                        ["OUTCOME_UNKNOWN", "STORE_UNAVAILABLE"].contains(&why.as_str()),
                        "the creator was told {why}"
                    );
                    unknown += usize::from(why == "OUTCOME_UNKNOWN");
                }
            }
            assert!(begun.elapsed() < WAIT_MAX, "it never succeeds");
        }
        let keys: Vec<String> = stage.redis.ask(&["KEYS", &format!("watchword:user:creator{number}")]);
        assert_eq!(keys.len(), 1);
    }
    assert!(unknown > 0, "no reply to a claim was ever lost");
}

#[tokio::test(flavor = "multi_thread")]
async fn truncated_reply_is_not_an_answer() {
    let stage = Stage::new().await;
    for bytes in [0, 1, 3, 40, 90, 200, 300] {
        stage.proxy.cut_after(bytes);
        let outcome = stage.login().await.outcome();
        assert!(outcome == "ok" || outcome == "STORE_UNAVAILABLE", "cut after {bytes}: {outcome}");
        stage.comes_back(&format!("cut after {bytes}")).await;
    }
}

// === Nobody is ever answered with somebody else's user (T30)

/// Calls that ask for one of some users each, with callers who leave at any moment; counts answers with another user.
async fn crossed_answers(weather: NetworkCondition, calls: usize, lost: Option<LostReply>) -> (usize, usize) {
    const USERS: usize = 50;
    const CALLERS: usize = 32;
    let redis = RedisServer::start();
    let proxy = Arc::new(Proxy::before(redis.port).await);
    let settings = StoreSettings::Redis(redis_settings(&proxy.url()));
    let store =
        watchword::store::open(&settings, Arc::new(Seal::none()), &Pepper::none(), &environment()).await.unwrap();
    for number in 0..USERS {
        assert!(matches!(store.claim(&user(&format!("user{number}"))).await.unwrap(), Claim::Claimed));
    }
    proxy.set(weather);
    let mut callers = tokio::task::JoinSet::new();
    for context in 0..CALLERS {
        let (store, proxy) = (store.clone(), proxy.clone());
        callers.spawn(async move { one_caller(&*store, &proxy, context, calls / CALLERS, lost).await });
    }
    let mut sums = (0, 0);
    for (crossed, answered) in callers.join_all().await {
        sums = (sums.0 + crossed, sums.1 + answered);
    }
    sums
}

async fn one_caller(
    store: &dyn Store,
    proxy: &Proxy,
    context: usize,
    calls: usize,
    lost: Option<LostReply>,
) -> (usize, usize) {
    let (mut crossed, mut answered) = (0, 0);
    for call in 0..calls {
        let number = (context * 31 + call * 7) % 50;
        let name = Username::parse(&format!("user{number}")).unwrap();
        if let Some(how) = lost.filter(|_| context == 0 && call % 100 == 50) {
            proxy.lose_reply_after(3, how);
        }
        // A third of the callers stay, however long it takes; the others leave at any moment.
        let wait =
            if call % 3 == 0 { WAIT_MAX } else { Duration::from_micros(((context * 7 + call * 13) % 40_000) as u64) };
        let Ok(answer) = tokio::time::timeout(wait, answered_by(store, &name)).await else { continue };
        match answer {
            Ok(Some(stored)) if stored.value.username == name => answered += 1,
            // What the store makes of another user's document, or of an answer to another question.
            Ok(_) | Err(_) => crossed += 1,
        }
    }
    (crossed, answered)
}

/// Asks until the store answers.
async fn answered_by(store: &dyn Store, name: &Username) -> Result<Option<Stored<User>>, StoreError> {
    loop {
        match store.user(name).await {
            Err(StoreError::Unavailable) => tokio::task::yield_now().await,
            answer => return answer,
        }
    }
}

/// `tests/run --all` makes the number of calls that T30 requires.
#[tokio::test(flavor = "multi_thread")]
async fn no_caller_gets_the_answer_of_another_under_network_faults() {
    let calls = if is_full() { 500_000 } else { 12_000 };
    for (weather, lost) in [
        (NetworkCondition::Slow(Duration::ZERO, Duration::from_millis(50)), None),
        (NetworkCondition::Normal, Some(LostReply::ThenReset)),
        (NetworkCondition::Sliced(11), Some(LostReply::ThenReset)),
    ] {
        let (crossed, answered) = crossed_answers(weather, calls / 3, lost).await;
        assert_eq!(crossed, 0, "{weather:?}, {lost:?}");
        assert!(answered > calls / 12, "{weather:?}, {lost:?}: only {answered} answers");
    }
}

/// The control: a network that loses a reply and goes on, as none does, is noticed by the same count.
#[tokio::test(flavor = "multi_thread")]
async fn control_missing_reply_is_detected_as_crossed_answers() {
    let (crossed, _) = crossed_answers(NetworkCondition::Normal, 6_000, Some(LostReply::ThenContinue)).await;
    assert!(crossed > 0, "the control shows nothing");
}
