//! Measures what happens between logins: token checks against a bare tonic server, refreshes, and what many users and
//! hostile tokens make of it. `cargo bench --bench tokens` takes about three minutes; `-- --quick` half of one.
//!
//! The bare server is this program in a process of its own: tonic's own accept loop and codec, the service that the
//! contract generates, the runtime settings of the binary, and for every check an answer of the same size without a look
//! at the token. Checks are over 10 000 distinct tokens. Rates are ratios of arms that take turns in one run;
//! `bare / bare` is the control.
//!
//! Prints one table, and writes the same to `bench/tokens.json` in the target folder. A missed gate fails nothing.

#![expect(clippy::disallowed_methods, reason = "measures the real time, and waits for it to pass")]
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "the table is the output")]

#[path = "tokens/bare.rs"]
mod bare;
#[path = "../tests/it/support/hostile.rs"]
#[expect(clippy::unwrap_used, unreachable_pub, reason = "made for tests")]
mod hostile;
#[path = "common/load.rs"]
#[expect(dead_code, reason = "the other benches use the rest")]
mod load;
#[path = "common/redis.rs"]
#[expect(dead_code, reason = "the other bench uses the rest")]
mod redis;
#[path = "common/report.rs"]
mod report;
#[path = "common/server.rs"]
#[expect(dead_code, reason = "the other benches use the rest")]
mod server;
#[path = "common/users.rs"]
mod users;

use std::{
    env,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use tempfile::TempDir;
use tokio::{
    runtime::{self, Runtime},
    sync::Semaphore,
    task::JoinSet,
};
use tonic::Request;
use watchword::{
    app::App,
    config::Config,
    domain::{Attempt, Bearer, Caller, Door, Peer, Registration, Tokens, password::Cost},
    store::{self, Seal},
    wire::pb::{IntrospectTokenRequest, ListSessionsRequest, LoginRequest, RefreshTokenRequest},
};

use self::{
    load::{CONCURRENCY, Client, Load, Loop, PASSWORD, Tally, user},
    redis::Redis,
    report::{
        Gate::{AtLeast, AtMost},
        Report,
    },
    server::{Server, scratch},
    users::{load_all, world},
};

/// Users whose tokens are checked, each with as many sessions as there may be: 10 000 distinct tokens.
const USERS: usize = 100;
const SESSIONS: usize = 100;

/// How many users there are beside those whose sessions are listed.
const MANY_USERS: u64 = 100_000;

/// Who makes the tokens, for all servers.
const ISSUER: &str = "http://127.0.0.1:5000";

/// For users who are made in this process: their hashes are not what is measured.
const CHEAP: Cost = Cost { memory_kib: 64, passes: 1, lanes: 1 };

/// How much to measure.
struct Plan {
    repetitions: usize,
    arm: Duration,
}

const FULL: Plan = Plan { repetitions: 8, arm: Duration::from_secs(2) };
const QUICK: Plan = Plan { repetitions: 2, arm: Duration::from_millis(500) };

fn main() {
    let asked = |flag: &str| env::args().any(|argument| argument == flag);
    if asked(bare::FLAG) {
        return bare::serve();
    }
    // `cargo test --all-targets` runs this program too, without the flag that `cargo bench` adds.
    if !asked("--bench") {
        return;
    }
    let plan = if asked("--quick") { QUICK } else { FULL };
    let runtime = runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime can be had");
    let mut report = Report::default();
    measure_checks(&plan, &runtime, &mut report);
    measure_many_users(&plan, &runtime, &mut report);
    report.publish("tokens");
}

// === servers with users ===

/// A server whose users are signed in.
struct Signed {
    server: Server,
    /// Tokens of each session: users beside each other, the sessions of one user apart.
    tokens: Arc<Vec<Tokens>>,
    _folder: TempDir,
}

impl Signed {
    /// Makes users with sessions, and starts a server on them. `others` is how many users there are besides.
    fn start(
        runtime: &Runtime,
        redis: Option<&Redis>,
        flags: &[&str],
        users: usize,
        sessions: usize,
        others: u64,
    ) -> Self {
        let folder = scratch();
        let url = redis.map_or("embedded:".to_owned(), Redis::url);
        let data = folder.path().join("data").display().to_string();
        let place = ["--store", &url, "--data-dir", &data, "--token-issuer", ISSUER];
        let tokens = runtime.block_on(sign_in(&place, users, sessions, others));
        let server = Server::start_on(&folder.path().join("data"), &[&place[..2], &place[4..], flags].concat());
        Self { server, tokens: Arc::new(tokens), _folder: folder }
    }
}

/// Makes the users in this process, on the store that the server will have.
async fn sign_in(place: &[&str], users: usize, sessions: usize, others: u64) -> Vec<Tokens> {
    let free =
        ["watchword", "--grpc-addr", "127.0.0.1:0", "--http-addr", "off", "--ops-addr", "off", "--admin-addr", "off"];
    let mut config = Config::from_args([&free[..], place].concat()).expect("the settings are good");
    config.hashing.cost = CHEAP;
    let settings = config.store.clone();
    let store = store::open(&settings, Arc::new(Seal::none()), &world()).await.expect("a new store opens");
    load_all(&store, others).await;
    store.close().await;
    drop(store);
    let app = App::start(config, world()).await.expect("a server can be had");
    let auth = app.auth();
    // No more at once than the hash queue has room for.
    let (mut all, room) = (JoinSet::new(), Arc::new(Semaphore::new(8)));
    for number in 0..users {
        let (auth, room) = (auth.clone(), room.clone());
        all.spawn(async move {
            let _permit = room.acquire().await.expect("nobody closes it");
            let wanted = Registration::parse(auth.rules(), &user(number), PASSWORD.into(), String::new(), "");
            auth.register(&caller(), wanted.expect("good values")).await.expect("the store takes users");
            let mut tokens = Vec::new();
            for _ in 0..sessions {
                let attempt = Attempt::parse(&user(number), PASSWORD.into()).expect("good values");
                tokens.push(auth.login(&caller(), attempt).await.expect("the password is right").1);
            }
            tokens
        });
    }
    let tokens = all.join_all().await;
    app.run(async {}).await;
    (0..sessions).flat_map(|session| tokens.iter().map(move |of_user| of_user[session].clone())).collect()
}

fn caller() -> Caller {
    let deadline = Instant::now() + Duration::from_secs(60);
    Caller { door: Door::Grpc, peer: Peer::Local, deadline, bearer: Bearer::Missing, user_agent: "bench".into() }
}

// === checks ===

fn measure_checks(plan: &Plan, runtime: &Runtime, report: &mut Report) {
    println!("checks: {USERS} users with {SESSIONS} sessions each, for each server");
    let redis = Redis::start();
    let other_redis = Redis::start();
    let ask = ["--token-check-reuse", "0s"];
    let start = |redis, flags: &[&str]| Signed::start(runtime, redis, flags, USERS, SESSIONS, 0);
    let servers = [start(None, &[]), start(None, &ask), start(Some(&redis), &[]), start(Some(&other_redis), &ask)];
    let arms = servers.each_ref().map(|signed| (Load::connect(runtime, &signed.server), signed.tokens.clone()));
    let bare = Server::spawn(bare::command());
    let bare = (Load::connect(runtime, &bare), servers[0].tokens.clone());
    let refresh_tokens = Arc::new(servers[0].tokens.iter().map(|tokens| Mutex::new(tokens.refresh.clone())).collect());

    let mut measured = Vec::new();
    for number in 0..=plan.repetitions {
        println!("checks: repetition {number} of {}", plan.repetitions);
        let before = check(&bare, plan.arm);
        let checks = arms.each_ref().map(|arm| check(arm, plan.arm));
        let after = check(&bare, plan.arm);
        let refresh = refresh(&arms[0].0, &refresh_tokens, plan.arm);
        // The first one warms up.
        if number > 0 {
            measured.push(Repetition { bare: [before, after], checks, refresh });
        }
    }
    report_checks(&measured, report);
    measure_hostile(runtime, &servers[0], report);
}

/// What one repetition measured.
struct Repetition {
    /// Before and after the others.
    bare: [Loop; 2],
    /// Embedded, the same without reuse, Redis, the same without reuse.
    checks: [Loop; 4],
    refresh: Loop,
}

impl Repetition {
    fn rate(&self, arm: usize) -> f64 {
        self.checks[arm].rate() / f64::midpoint(self.bare[0].rate(), self.bare[1].rate())
    }

    fn bare_micros(&self) -> f64 {
        f64::midpoint(self.bare[0].server_micros(), self.bare[1].server_micros())
    }

    fn micros(&self, arm: usize) -> f64 {
        self.checks[arm].server_micros()
    }
}

fn report_checks(done: &[Repetition], report: &mut Report) {
    let each = |figure: fn(&Repetition) -> f64| done.iter().map(figure).collect::<Vec<_>>();
    report.show("bare / bare (control)", "", each(|r| r.bare[1].rate() / r.bare[0].rate()));
    report.gate("checks/s / bare calls/s, embedded", "", AtLeast(0.9), each(|r| r.rate(0)));
    report.show("the same, and the store is always asked", "", each(|r| r.rate(1)));
    report.show("checks/s / bare calls/s, Redis", "", each(|r| r.rate(2)));
    report.show("the same, and Redis is always asked", "", each(|r| r.rate(3)));
    report.gate("CPU of a check / a bare call, embedded", "", AtMost(1.15), each(|r| r.micros(0) / r.bare_micros()));
    report.gate("CPU of a check, Redis / embedded", "", AtMost(1.5), each(|r| r.micros(2) / r.micros(0)));
    report.show("server CPU, a bare call", "us", each(Repetition::bare_micros));
    report.show("server CPU, a check, embedded", "us", each(|r| r.micros(0)));
    report.show("the same, and the store is always asked", "us", each(|r| r.micros(1)));
    report.show("server CPU, a check, Redis", "us", each(|r| r.micros(2)));
    report.show("the same, and Redis is always asked", "us", each(|r| r.micros(3)));
    report.show("durable refreshes, embedded", "/s", each(|r| r.refresh.rate()));
    report.show("server CPU, a refresh", "us", each(|r| r.refresh.server_micros()));
    for (name, arm) in [("embedded", 0), ("embedded, always asked", 1), ("Redis", 2), ("Redis, always asked", 3)] {
        report.note(format!("checks, {name}: {}", done.iter().map(|r| &r.checks[arm].tally).sum::<Tally>()));
    }
    report.note(format!("refreshes: {}", done.iter().map(|r| &r.refresh.tally).sum::<Tally>()));
}

fn check((load, tokens): &(Load<'_>, Arc<Vec<Tokens>>), time: Duration) -> Loop {
    let (tokens, next) = (tokens.clone(), Arc::new(AtomicUsize::new(0)));
    load.closed_loop(time, move |mut client, _| {
        let token = tokens[next.fetch_add(1, Ordering::Relaxed) % tokens.len()].access.clone();
        async move {
            let answer = client.introspect_token(IntrospectTokenRequest { token }).await?;
            assert!(answer.into_inner().active, "the token counts");
            Ok(())
        }
    })
}

/// Each call in flight refreshes a session of its own.
fn refresh(load: &Load<'_>, tokens: &Arc<Vec<Mutex<String>>>, time: Duration) -> Loop {
    let tokens = tokens.clone();
    load.closed_loop(time, move |mut client, number| {
        let tokens = tokens.clone();
        async move {
            let refresh_token = tokens[number].lock().expect("nobody panics").clone();
            let answer = client.refresh_token(RefreshTokenRequest { refresh_token }).await?.into_inner();
            let next = answer.tokens.expect("a refresh answers tokens").refresh_token;
            *tokens[number].lock().expect("nobody panics") = next;
            Ok(())
        }
    })
}

// === hostile tokens ===

/// How often each hostile token is shown; the least of its times counts, since others only say what else went on.
const SHOWN: usize = 20;

fn measure_hostile(runtime: &Runtime, signed: &Signed, report: &mut Report) {
    println!("hostile tokens");
    let good = signed.tokens[0].access.clone();
    let (mut worst, mut honest) = ((0.0, String::new()), f64::MAX);
    runtime.block_on(async {
        let mut client = Client::new(signed.server.channel().await);
        let large = [("1 MB".to_owned(), "a".repeat(1 << 20)), ("the good one".to_owned(), good.clone())];
        for (what, token) in hostile::hostile(&good).into_iter().chain(large) {
            let mut least = f64::MAX;
            for _ in 0..SHOWN {
                let request = IntrospectTokenRequest { token: token.clone() };
                let begun = Instant::now();
                let answer = client.introspect_token(request).await;
                least = least.min(begun.elapsed().as_secs_f64() * 1e3);
                let active = answer.is_ok_and(|answer| answer.into_inner().active);
                assert_eq!(active, token == good, "{what}");
            }
            if token == good {
                honest = least;
            } else if least > worst.0 {
                worst = (least, what);
            }
        }
    });
    report.gate("slowest hostile token, round trip", "ms", AtMost(1.0), vec![worst.0]);
    report.show("a good token, round trip", "ms", vec![honest]);
    report.note(format!("the slowest hostile token: {}", worst.1));
}

// === many users ===

fn measure_many_users(plan: &Plan, runtime: &Runtime, report: &mut Report) {
    for (name, kept) in [("embedded", None), ("Redis", Some([Redis::start(), Redis::start()]))] {
        println!("many users: {name}");
        let redis = |number: usize| kept.as_ref().map(|servers| &servers[number]);
        let start = |number, others| Signed::start(runtime, redis(number), &[], CONCURRENCY, SESSIONS, others);
        let servers = [start(0, 0), start(1, MANY_USERS)];
        let arms = servers.each_ref().map(|signed| Load::connect(runtime, &signed.server));
        let (mut listed, mut signed_in) = (Vec::new(), Vec::new());
        for number in 0..=plan.repetitions {
            let lists = [0, 1].map(|at| list(&arms[at], newest(runtime, &servers[at]), plan.arm));
            let logins = arms.each_ref().map(|load| load.login(plan.arm));
            if number > 0 {
                listed.push(lists[1].rate() / lists[0].rate());
                signed_in.push(logins[1].rate() / logins[0].rate());
            }
        }
        let (list, login) = match kept {
            None => ("ListSessions of 100, 100 000 users / none", "101st logins, 100 000 users / none"),
            Some(_) => ("ListSessions of 100, the same in Redis", "101st logins, the same in Redis"),
        };
        report.gate(list, "", AtLeast(0.9), listed);
        report.gate(login, "", AtLeast(0.9), signed_in);
    }
}

/// An access token of each user's newest session: the logins end the older ones.
fn newest(runtime: &Runtime, signed: &Signed) -> Arc<Vec<String>> {
    let tokens = runtime.block_on(async {
        let mut client = Client::new(signed.server.channel().await);
        let mut tokens = Vec::new();
        for number in 0..CONCURRENCY {
            let request = LoginRequest { username: user(number), password: PASSWORD.into() };
            let answer = client.login(request).await.expect("the password is right").into_inner();
            tokens.push(answer.tokens.expect("a login answers tokens").access_token);
        }
        tokens
    });
    Arc::new(tokens)
}

/// Each call in flight lists the hundred sessions of a user of its own.
fn list(load: &Load<'_>, tokens: Arc<Vec<String>>, time: Duration) -> Loop {
    load.closed_loop(time, move |mut client, number| {
        let mut request = Request::new(ListSessionsRequest { page_size: 100, page_token: String::new() });
        let value = format!("Bearer {}", tokens[number]).parse().expect("a token is a header value");
        request.metadata_mut().insert("authorization", value);
        async move {
            let listed = client.list_sessions(request).await?.into_inner().sessions.len();
            assert_eq!(listed, SESSIONS);
            Ok(())
        }
    })
}
