//! Calls between logins: token checks compared with a bare tonic server, refreshes, and checks of hostile tokens.
//!
//! Checks use 10 000 distinct tokens. The cold arm is a new node without cached tokens.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::runtime::Runtime;
use watchword::{
    api::pb::{IntrospectTokenRequest, RefreshTokenRequest},
    domain::Tokens,
};

use crate::{
    Plan,
    bare::Kind,
    calls::{Client, Load, Loop, Tally},
    hostile,
    redis::Redis,
    report::{
        Gate::{AtLeast, AtMost},
        Report,
    },
    server::Server,
    users::{Populated, Population, Setup},
};

/// The users whose tokens are checked, each with the maximum number of sessions: 10 000 distinct tokens.
const POPULATION: Population = Population { users: 0, with_sessions: 100, sessions: 100 };

/// The duration of the cold arm: too short to check a token twice, up to 20 000 checks per second.
const COLD_ARM: Duration = Duration::from_millis(500);

/// The measurements of one repetition.
struct Repetition {
    /// Before and after the other arms.
    bare: [Loop; 2],
    /// Embedded, embedded without cache, Redis, Redis without cache, and embedded on a new node.
    checks: [Loop; 5],
    refresh: Loop,
}

pub(crate) fn measure(plan: &Plan, runtime: &Runtime, report: &mut Report) {
    println!("checks: {} users with {} sessions each, for each server", POPULATION.with_sessions, POPULATION.sessions);
    let redis = [Redis::start(), Redis::start()];
    let no_cache = ["--token-check-reuse", "0s"];
    let start =
        |redis, flags: &[&str]| Populated::start(runtime, Setup { redis, flags, ..Setup::default() }, POPULATION);
    // A caller refreshes one session without pause.
    let no_limit = ["--throttle-per-session", "1000000/1s"];
    let servers = [
        start(None, &no_limit),
        start(None, &no_cache),
        start(Some(&redis[0]), &[]),
        start(Some(&redis[1]), &no_cache),
    ];
    let arms = servers.each_ref().map(|of| (Load::connect(runtime, &of.server, 0), of.tokens.clone()));
    let mut cold = start(None, &[]);
    let bare = Server::spawn(Kind::Bare.command());
    let bare = (Load::connect(runtime, &bare, 0), servers[0].tokens.clone());
    let refresh_tokens = Arc::new(servers[0].tokens.iter().map(|tokens| Mutex::new(tokens.refresh.clone())).collect());

    let mut measured = Vec::new();
    for number in 0..=plan.repetitions {
        println!("checks: repetition {number} of {}", plan.repetitions);
        let before = check(&bare, plan.arm);
        let [embedded, embedded_uncached, shared, shared_uncached] = arms.each_ref().map(|arm| check(arm, plan.arm));
        cold.restart();
        let cold = check(&(Load::connect(runtime, &cold.server, 0), cold.tokens.clone()), plan.arm.min(COLD_ARM));
        let after = check(&bare, plan.arm);
        let refresh = refresh(&arms[0].0, &refresh_tokens, plan.arm);
        // The first repetition is a warm-up.
        if number > 0 {
            let checks = [embedded, embedded_uncached, shared, shared_uncached, cold];
            measured.push(Repetition { bare: [before, after], checks, refresh });
        }
    }
    report_figures(&measured, report);
    measure_hostile(runtime, &servers[0], report);
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

fn report_figures(done: &[Repetition], report: &mut Report) {
    let each = |figure: &dyn Fn(&Repetition) -> f64| done.iter().map(figure).collect::<Vec<_>>();
    report.show("bare / bare (control)", "", each(&|r| r.bare[1].rate() / r.bare[0].rate()));
    report.gate("checks/s / bare calls/s, embedded", "", AtLeast(0.9, 1.0), each(&|r| r.rate(0)));
    let cpu = |r: &Repetition| r.micros(0) / r.bare_micros();
    report.gate("CPU of a check / a bare call, embedded", "", AtMost(1.15, 1.05), each(&cpu));
    report.gate("CPU of a check, Redis / embedded", "", AtMost(1.5, 1.1), each(&|r| r.micros(2) / r.micros(0)));
    report.show("client's share of its core, bare calls", "%", each(&|r| r.bare[0].client_share() * 100.0));
    report.show("server CPU, a bare call", "us", each(&Repetition::bare_micros));
    let arms = ["embedded", "embedded, no cache", "Redis", "Redis, no cache", "embedded, new tokens"];
    for (arm, name) in arms.into_iter().enumerate() {
        report.show(format!("checks/s / bare calls/s: {name}"), "", each(&|r| r.rate(arm)));
        report.show(format!("server CPU, a check: {name}"), "us", each(&|r| r.micros(arm)));
        report.note(format!("checks, {name}: {}", done.iter().map(|r| &r.checks[arm].tally).sum::<Tally>()));
    }
    report.show("durable refreshes, embedded", "/s", each(&|r| r.refresh.rate()));
    report.show("server CPU, a refresh", "us", each(&|r| r.refresh.server_micros()));
    report.note(format!("refreshes: {}", done.iter().map(|r| &r.refresh.tally).sum::<Tally>()));
}

fn check((load, tokens): &(Load<'_>, Arc<Vec<Tokens>>), time: Duration) -> Loop {
    let (tokens, next) = (tokens.clone(), Arc::new(AtomicUsize::new(0)));
    load.closed_loop(time, move |mut client, _| {
        let token = tokens[next.fetch_add(1, Ordering::Relaxed) % tokens.len()].access.clone();
        async move {
            let answer = client.introspect_token(IntrospectTokenRequest { token, ..Default::default() }).await?;
            assert!(answer.into_inner().active, "the token is active");
            Ok(())
        }
    })
}

/// Each caller refreshes a separate session.
fn refresh(load: &Load<'_>, tokens: &Arc<Vec<Mutex<String>>>, time: Duration) -> Loop {
    let tokens = tokens.clone();
    load.closed_loop(time, move |mut client, number| {
        let tokens = tokens.clone();
        async move {
            let refresh_token = tokens[number].lock().expect("no other holder panics").clone();
            let request_id = format!("00000000-0000-4000-8000-{:012x}", number + 1);
            let request = RefreshTokenRequest { refresh_token, request_id };
            let answer = client.refresh_token(request).await?.into_inner();
            let next = answer.tokens.expect("a refresh returns tokens").refresh_token;
            *tokens[number].lock().expect("no other holder panics") = next;
            Ok(())
        }
    })
}

// === hostile tokens ===

/// The number of checks of each hostile token. The minimum is reported, because other values contain the noise of the
/// machine.
const CHECKS: usize = 20;

fn measure_hostile(runtime: &Runtime, populated: &Populated, report: &mut Report) {
    println!("hostile tokens");
    let valid = populated.tokens[0].access.clone();
    let (mut worst, mut of_valid) = ((0.0, String::new()), f64::MAX);
    runtime.block_on(async {
        let mut client = Client::new(populated.server.channel().await);
        let large = [("1 MB".to_owned(), "a".repeat(1 << 20)), ("the valid token".to_owned(), valid.clone())];
        for (what, token) in hostile::hostile(&valid).into_iter().chain(large) {
            let mut least = f64::MAX;
            for _ in 0..CHECKS {
                let request = IntrospectTokenRequest { token: token.clone(), ..Default::default() };
                let start = Instant::now();
                let answer = client.introspect_token(request).await;
                least = least.min(start.elapsed().as_secs_f64() * 1e3);
                let active = answer.is_ok_and(|answer| answer.into_inner().active);
                assert_eq!(active, token == valid, "{what}");
            }
            if token == valid {
                of_valid = least;
            } else if least > worst.0 {
                worst = (least, what);
            }
        }
    });
    report.gate("slowest hostile token, round trip", "ms", AtMost(1.0, 1.0), vec![worst.0]);
    report.show("valid token, round trip", "ms", vec![of_valid]);
    report.note(format!("slowest hostile token: {}", worst.1));
}
