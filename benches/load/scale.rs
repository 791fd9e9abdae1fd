//! The effect of a million users on logins, lists, start-up, disk and memory; and two nodes on one Redis. The users are
//! written directly to the store, without hashing.

use std::{
    fs,
    os::unix::fs::MetadataExt,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use tokio::runtime::Runtime;
use tonic::Request;
use watchword::api::pb::{ListSessionsRequest, LoginRequest};

use crate::{
    Plan,
    calls::{self, CONCURRENCY, Client, Load, Loop, PASSWORD, user},
    redis::Redis,
    report::{
        Gate::{AtLeast, AtMost},
        Report, median,
    },
    server::Server,
    users::{Populated, Population, Setup},
};

const SESSIONS: usize = 100;

const FEW: Population = Population { users: 1_000, with_sessions: CONCURRENCY, sessions: SESSIONS };
const MANY: Population = Population { users: 1_000_000, ..FEW };

/// Sequential logins on each server in a repetition.
const LOGINS: u64 = 60;

/// Starts after `kill -9`, and after a normal shutdown.
const STARTS: usize = 10;

pub(crate) fn measure(plan: &Plan, runtime: &Runtime, report: &mut Report) {
    println!("scale: {} users in redb", MANY.users);
    let few = Populated::start(runtime, Setup::default(), FEW);
    let mut many = Populated::start(runtime, Setup::default(), MANY);
    compare(plan, runtime, "embedded", [&few, &many], report);
    let file = fs::metadata(many.folder().join("watchword.redb")).expect("the store file exists");
    let on_disk = file.blocks() as f64 * 512.0 / MANY.users as f64;
    report.show("1 000 000 users: redb, on disk", "B/user", vec![on_disk]);
    measure_starts(runtime, &mut many, report);
    drop((few, many));

    println!("scale: {} users in Redis", MANY.users);
    let redis = [Redis::start(), Redis::start()];
    let few = Populated::start(runtime, Setup { redis: Some(&redis[0]), ..Setup::default() }, FEW);
    let before = redis[1].info("used_memory");
    let many = Populated::start(runtime, Setup { redis: Some(&redis[1]), ..Setup::default() }, MANY);
    let memory = (redis[1].info("used_memory") - before) / MANY.users as f64;
    let log = redis[1].info("aof_current_size") / MANY.users as f64;
    report.show("1 000 000 users: Redis, memory", "B/user", vec![memory]);
    report.show("1 000 000 users: Redis, append-only file", "B/user", vec![log]);
    compare(plan, runtime, "Redis", [&few, &many], report);
    drop((few, many, redis));
    measure_two_nodes(plan, runtime, report);
}

/// Compares a server with few users and one with many.
fn compare(plan: &Plan, runtime: &Runtime, store: &str, servers: [&Populated; 2], report: &mut Report) {
    let arms = servers.map(|of| Load::connect(runtime, &of.server, FEW.users));
    let mut clients = servers.map(|of| Client::new(runtime.block_on(of.server.channel())));
    let (mut ratios, mut lists, mut random) = (Vec::new(), Vec::new(), 1_u64);
    for number in 0..=plan.repetitions {
        println!("scale: {store}, repetition {number} of {}", plan.repetitions);
        let mut took = [Vec::new(), Vec::new()];
        for _ in 0..LOGINS {
            // A random user, probably not cached (linear congruential generator).
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            for (at, users) in [FEW.users, MANY.users].into_iter().enumerate() {
                let start = Instant::now();
                let answer = runtime.block_on(calls::login(clients[at].clone(), user((random >> 33) % users)));
                answer.expect("the password is right");
                took[at].push(start.elapsed().as_secs_f64());
            }
        }
        let [few, many] = took.map(|mut took| {
            took.sort_by(f64::total_cmp);
            median(&took)
        });
        let list_rates =
            [0, 1].map(|at| list(&arms[at], new_access_tokens(runtime, &mut clients[at]), plan.arm).rate());
        // The first repetition is a warm-up.
        if number > 0 {
            ratios.push(many / few);
            lists.push(list_rates[1] / list_rates[0]);
        }
    }
    report.gate(format!("login p50, 1 000 000 users / 1 000: {store}"), "", AtMost(1.05, 1.01), ratios);
    report.gate(format!("ListSessions/s, 1 000 000 users / 1 000: {store}"), "", AtLeast(0.9, 0.97), lists);
}

/// Logs in each user with sessions and returns the access tokens. The new session ends the oldest one.
fn new_access_tokens(runtime: &Runtime, client: &mut Client) -> Arc<Vec<String>> {
    let tokens = (0..FEW.with_sessions).map(|number| {
        let request =
            LoginRequest { username: format!("signed-{number}"), password: PASSWORD.into(), ..Default::default() };
        let answer = runtime.block_on(client.login(request)).expect("the password is right").into_inner();
        answer.tokens.expect("a login returns tokens").access_token
    });
    Arc::new(tokens.collect())
}

/// Each caller lists the 100 sessions of a separate user.
fn list(load: &Load<'_>, tokens: Arc<Vec<String>>, time: Duration) -> Loop {
    load.closed_loop(time, move |mut client, number| {
        let mut request = Request::new(ListSessionsRequest { page_size: 100, page_token: String::new() });
        let value = format!("Bearer {}", tokens[number]).parse().expect("a token is a header value");
        request.metadata_mut().insert("authorization", value);
        async move {
            let sessions = client.list_sessions(request).await?.into_inner().sessions;
            assert_eq!(sessions.len(), SESSIONS);
            Ok(())
        }
    })
}

/// Kills a node during registrations and starts it again; then shuts it down and starts it again.
fn measure_starts(runtime: &Runtime, many: &mut Populated, report: &mut Report) {
    let (mut after_kill, mut after_shutdown, mut memory) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..STARTS {
        Load::connect(runtime, &many.server, 1).register(Duration::from_millis(200));
        many.server.kill();
        let start = Instant::now();
        many.restart();
        after_kill.push(start.elapsed().as_secs_f64() * 1e3);
        thread::sleep(Duration::from_millis(200));
        memory.push(many.server.memory_mib("VmRSS:"));
        many.server.stop();
        let start = Instant::now();
        many.restart();
        after_shutdown.push(start.elapsed().as_secs_f64() * 1e3);
    }
    report.gate("1 000 000 users: exec to listening, killed", "ms", AtMost(2_000.0, 50.0), after_kill);
    report.show("1 000 000 users: shutdown and exec to listening", "ms", after_shutdown);
    report.show("1 000 000 users: memory after the start", "MiB", memory);
}

/// Compares one node, whose hash workers use all cores, with two nodes that share the cores and one Redis.
fn measure_two_nodes(plan: &Plan, runtime: &Runtime, report: &mut Report) {
    println!("scale: two nodes");
    let (alone, shared) = (Redis::start(), Redis::start());
    let workers = (watchword::common::host::cores() / 2).max(1).to_string();
    let flags = ["--hash-workers", workers.as_str()];
    let population = Population { users: 10_000, ..Population::default() };
    let one = Populated::start(runtime, Setup { redis: Some(&alone), ..Setup::default() }, population);
    let first =
        Populated::start(runtime, Setup { redis: Some(&shared), flags: &flags, ..Setup::default() }, population);
    let second = Server::start_on(&first.folder().with_file_name("second"), &first.flags());
    let load = Load::connect(runtime, &one.server, population.users);
    let both = [&first.server, &second].map(|server| Load::connect(runtime, server, population.users));
    let (mut ratios, mut controls, mut redis_micros) = (Vec::new(), Vec::new(), Vec::new());
    for number in 0..=plan.repetitions {
        println!("scale: two nodes, repetition {number} of {}", plan.repetitions);
        let before = load.login(plan.arm).rate();
        let used = shared.cpu();
        let (two, logins) = Load::login_on_both(&both, plan.arm);
        let used = shared.cpu() - used;
        let after = load.login(plan.arm).rate();
        if number > 0 {
            controls.push(after / before);
            ratios.push(two / f64::midpoint(before, after));
            redis_micros.push(used.as_secs_f64() * 1e6 / logins as f64);
        }
    }
    report.show("one node / one node (control)", "", controls);
    report.gate("logins/s, two nodes on one Redis / one node", "", AtLeast(0.95, 1.0), ratios);
    report.show("CPU of redis-server, a login", "us", redis_micros);
}
