//! A storm of logins at ten times the capacity: goodput and latency of logins, and latency of token checks.
//!
//! The control: logins at capacity while an equal flood hits a bare server, because at this load the generator itself
//! uses a large part of the cores. A flood that did not keep to its schedule is repeated, up to three attempts; the
//! notes show its delay.

use std::{thread, time::Duration};

use tokio::runtime::Runtime;
use tonic::Request;
use watchword::{
    api::pb::{IntrospectTokenRequest, LoginRequest},
    domain::Tokens,
};

use crate::{
    Plan,
    bare::Kind,
    calls::{Client, Load, PASSWORD, user},
    report::{
        Gate::{AtLeast, AtMost},
        Report,
    },
    schedule::{Call, Calls, End, Schedule, on_own_runtime},
    server::Server,
    users::{Populated, Population, Setup},
};

pub(crate) const POPULATION: Population = Population { users: 10_000, with_sessions: 10, sessions: 50 };

/// The offered load, as a multiple of the capacity.
const TIMES: f64 = 10.0;

/// The deadline of a login in the storm.
const DEADLINE: Duration = Duration::from_secs(1);

/// The number of connections of the storm.
const CONNECTIONS: usize = 50;

/// Concurrent token checks per second.
const CHECKS: f64 = 500.0;

/// A low rate of logins, to measure latency without a storm.
const CALM_LOGINS: Schedule = Schedule { rate: 20.0, time: Duration::from_secs(4) };

/// Storms with a control in a repetition, after the first storm.
const ROUNDS: usize = 3;

/// The maximum number of attempts for a flood that keeps to its schedule.
const ATTEMPTS_MAX: usize = 3;

/// The measurements of one repetition.
struct Repetition {
    /// Logins per second without a storm.
    capacity: f64,
    /// Token checks without a storm.
    calm: Calls,
    /// Seconds from the end of the first storm until logins are as fast as before.
    recovery: f64,
    /// Memory before and after the first storm, in MiB.
    memory: [f64; 2],
    /// The storms after the first one.
    rounds: Vec<Round>,
}

/// A control and its storm, one directly after the other.
struct Round {
    /// Logins per second while a flood hits the bare server.
    control: f64,
    flood: Calls,
    /// Token checks in the control and in the storm.
    checks: [Calls; 2],
}

pub(crate) fn measure(plan: &Plan, runtime: &Runtime, report: &mut Report) {
    let mut done = Vec::new();
    for number in 1..=plan.storms {
        println!("storm: repetition {number} of {}", plan.storms);
        done.push(repeat(plan, runtime));
    }
    report_figures(&done, report);
    measure_crowds(plan, runtime, report);
}

fn repeat(plan: &Plan, runtime: &Runtime) -> Repetition {
    let ours = Populated::start(runtime, Setup::default(), POPULATION);
    let bare = Server::spawn(Kind::Bare.command());
    let load = Load::connect(runtime, &ours.server, POPULATION.users);
    let capacity = load.login(plan.arm).rate();
    let storm = Schedule { rate: TIMES * capacity, time: plan.storm };
    let concurrent_checks = Schedule { rate: CHECKS, time: plan.storm };
    // With the logins at capacity, as many calls as in the storm.
    let control_flood = Schedule { rate: (TIMES - 1.0) * capacity, ..storm };
    let control = || {
        punctual(|| {
            thread::scope(|scope| {
                let flood = scope.spawn(|| on_own_runtime(flood(&bare, control_flood, CONNECTIONS)));
                let checks = scope.spawn(|| on_own_runtime(check(&ours.server, &ours.tokens, concurrent_checks)));
                let rate = load.login(plan.storm).rate();
                (rate, joined(flood), joined(checks))
            })
        })
    };
    let on_watchword = || {
        punctual(|| {
            let (flood, checks) = storm_on(&ours.server, &ours.tokens, storm, concurrent_checks, CONNECTIONS);
            ((), flood, checks)
        })
    };
    // A warm-up: the cache of the store grows with writes.
    control();
    let calm = on_own_runtime(check(&ours.server, &ours.tokens, Schedule { rate: CHECKS, time: CALM_LOGINS.time }));
    let usual = on_own_runtime(flood(&ours.server, CALM_LOGINS, 1)).millis(End::is_success, 0.9);
    let before = ours.server.memory_mib("VmRSS:");
    let (_, first, _) = on_watchword();
    let since_the_end = first.start.elapsed().saturating_sub(plan.storm);
    let recovery = recovery(&on_own_runtime(flood(&ours.server, CALM_LOGINS, 1)), since_the_end, usual);
    thread::sleep((plan.storm + plan.calm).saturating_sub(first.start.elapsed()));
    let memory = [before, ours.server.memory_mib("VmRSS:")];

    let mut rounds = Vec::new();
    for _ in 0..ROUNDS {
        let (rate, _, checks_in_control) = control();
        let (_, flood, checks) = on_watchword();
        rounds.push(Round { control: rate, flood, checks: [checks_in_control, checks] });
    }
    Repetition { capacity, calm, rounds, recovery, memory }
}

/// Repeats a flood until it keeps to its schedule, up to [`ATTEMPTS_MAX`] attempts.
fn punctual<T>(run: impl Fn() -> (T, Calls, Calls)) -> (T, Calls, Calls) {
    let mut ran = run();
    for _ in 1..ATTEMPTS_MAX {
        if ran.1.was_punctual() && ran.2.was_punctual() {
            break;
        }
        println!("the generator was late, repeating: {}", ran.1.ends());
        ran = run();
    }
    ran
}

fn joined<T>(thread: thread::ScopedJoinHandle<'_, T>) -> T {
    thread.join().expect("the calling thread does not panic")
}

/// A flood of logins with concurrent token checks.
pub(crate) fn storm_on(
    server: &Server,
    tokens: &[Tokens],
    logins: Schedule,
    checks: Schedule,
    connections: usize,
) -> (Calls, Calls) {
    thread::scope(|scope| {
        let checks = scope.spawn(|| on_own_runtime(check(server, tokens, checks)));
        (on_own_runtime(flood(server, logins, connections)), joined(checks))
    })
}

/// Makes logins on a schedule.
async fn flood(server: &Server, schedule: Schedule, connections: usize) -> Calls {
    let mut clients = Vec::new();
    for _ in 0..connections {
        clients.push(Client::new(server.channel().await));
    }
    let call = |number: usize| {
        let mut client = clients[number % clients.len()].clone();
        let username = user(number as u64 % POPULATION.users);
        let mut request = Request::new(LoginRequest { username, password: PASSWORD.into(), ..Default::default() });
        request.set_timeout(DEADLINE);
        async move { client.login(request).await.map(drop) }
    };
    schedule.run(call).await
}

/// Makes token checks on a schedule.
async fn check(server: &Server, tokens: &[Tokens], schedule: Schedule) -> Calls {
    let client = Client::new(server.channel().await);
    let call = |number: usize| {
        let mut client = client.clone();
        let token = tokens[number % tokens.len()].access.clone();
        async move { client.introspect_token(IntrospectTokenRequest { token, ..Default::default() }).await.map(drop) }
    };
    schedule.run(call).await
}

/// Seconds from the end of the storm until the due time of the last login that took longer than twice the `usual` time.
fn recovery(after: &Calls, since_the_end: Duration, usual: f64) -> f64 {
    let is_slow = |call: &&Call| call.took.as_secs_f64() * 1e3 > 2.0 * usual || call.end != End::Succeeded;
    let fast = after.all.iter().filter(is_slow).map(|call| call.due).max().unwrap_or_default();
    (since_the_end + fast).as_secs_f64()
}

fn report_figures(done: &[Repetition], report: &mut Report) {
    let each = |figure: fn(&Repetition) -> f64| done.iter().map(figure).collect::<Vec<_>>();
    let rounds = |figure: &dyn Fn(&Round) -> f64| done.iter().flat_map(|r| &r.rounds).map(figure).collect::<Vec<_>>();
    let ratio = |round: &Round| round.flood.goodput() / round.control;
    report.gate("storm: logins/s in time / control", "", AtLeast(0.9, 0.97), rounds(&ratio));
    let controls = done.iter().flat_map(|r| r.rounds.iter().map(|round| round.control / r.capacity)).collect();
    report.show("control: logins/s / logins/s without a flood", "", controls);
    let accepted = |part| rounds(&|round| round.flood.millis(End::is_success, part));
    report.show("storm: accepted logins, p50", "ms", accepted(0.5));
    report.gate("storm: accepted logins, p99", "ms", AtMost(1_000.0, 500.0), accepted(0.99));
    let refused = rounds(&|round| round.flood.millis(End::is_refusal, 0.99));
    report.gate("storm: refused logins, p99", "ms", AtMost(50.0, 10.0), refused);
    let calm: Vec<_> = each(|r| r.calm.millis(|_| true, 0.99));
    let allowed = (3.0 * calm.iter().sum::<f64>() / calm.len() as f64).clamp(5.0, 20.0);
    report.show("calm: token checks, p99", "ms", calm);
    let checks = |at: usize| rounds(&|round| round.checks[at].millis(|_| true, 0.99));
    report.show("control: token checks, p99", "ms", checks(0));
    report.gate("storm: token checks, p99", "ms", AtMost(allowed, 5.0), checks(1));
    report.gate("storm: seconds until logins are as fast as before", "s", AtMost(2.0, 1.0), each(|r| r.recovery));
    report.show("storm: memory before", "MiB", each(|r| r.memory[0]));
    let memory = each(|r| r.memory[1] / r.memory[0]);
    report.gate("storm: memory 10 s after / before", "", AtMost(1.15, 1.05), memory);
    for (number, round) in done.iter().flat_map(|r| &r.rounds).enumerate() {
        report.note(format!("storm {}: logins {}", number + 1, round.flood.ends()));
        report.note(format!("storm {}: checks {}", number + 1, round.checks[1].ends()));
    }
}

/// Measures the memory of 5 000 logins at once, each time on a new server, because the peak is that of the whole
/// process.
fn measure_crowds(plan: &Plan, runtime: &Runtime, report: &mut Report) {
    let (mut peaks, mut ratios) = (Vec::new(), Vec::new());
    for number in 1..=plan.storms {
        println!("crowd: {number} of {}", plan.storms);
        let ours = Populated::start(runtime, Setup::default(), POPULATION);
        let load = Load::connect(runtime, &ours.server, POPULATION.users);
        load.login(Duration::from_secs(1));
        let before = ours.server.memory_mib("VmRSS:");
        report.note(format!("crowd {number}: {}", load.crowd()));
        peaks.push(ours.server.memory_mib("VmHWM:"));
        thread::sleep(plan.calm);
        ratios.push(ours.server.memory_mib("VmRSS:") / before);
    }
    report.gate("5 000 logins at once: peak of memory", "MiB", AtMost(160.0, 100.0), peaks);
    report.gate("5 000 logins at once: memory 10 s after / before", "", AtMost(1.15, 1.05), ratios);
}
