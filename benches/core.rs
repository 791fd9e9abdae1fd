//! Measures what the service promises: how much of the machine reaches the hash, how much memory a storm of logins
//! takes, and how soon a new process answers. `cargo bench --bench core` takes under four minutes; `-- --quick` half of
//! one, and proves nothing.
//!
//! The server is the real binary in a process of its own, at default settings: three doors, the log on a pipe that
//! somebody reads, users in the embedded store on the disk of the target folder. Server and client share the cores.
//!
//! Rates are gated as ratios of arms that take turns in one run, because one machine differs from the next and from
//! itself an hour later: a repetition is raw hashes, logins, raw hashes, registrations, one-shot hashes. A figure is the
//! median of its repetitions, the spread their extremes. `raw / raw` is the control: a ratio that misses its gate by
//! less than the control's spread says nothing, nor does any when other processes took more than a few percent of the
//! cores. Only answers that succeeded count as calls.
//!
//! Prints one table, and writes the same to `bench/core.json` in the target folder. A missed gate fails nothing.

#![expect(clippy::disallowed_methods, reason = "measures the real time, and waits for it to pass")]
#![expect(clippy::print_stdout, reason = "the table is the output")]

#[path = "common/load.rs"]
mod load;
#[path = "core/raw.rs"]
mod raw;
#[path = "common/report.rs"]
mod report;
#[path = "common/server.rs"]
#[expect(dead_code, reason = "the other bench uses the rest")]
mod server;

use std::{
    env, fs,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use tokio::runtime::{self, Runtime};
use tonic::{Code, transport::Channel};
use watchword::{
    machine,
    wire::health::{HealthCheckRequest, health_client::HealthClient},
};

use self::{
    load::{Client, Load, Loop, Tally},
    raw::on_all_cores,
    report::{
        Gate::{AtLeast, AtMost},
        Report,
    },
    server::{Server, cpu_of_others, scratch},
};

/// How much to measure.
struct Plan {
    repetitions: usize,
    /// How long each arm of a repetition takes.
    arm: Duration,
    storms: usize,
    /// How long after a storm memory is looked at again.
    calm: Duration,
    starts: usize,
}

const FULL: Plan =
    Plan { repetitions: 8, arm: Duration::from_secs(3), storms: 3, calm: Duration::from_secs(10), starts: 20 };

const QUICK: Plan =
    Plan { repetitions: 2, arm: Duration::from_secs(1), storms: 1, calm: Duration::from_secs(7), starts: 3 };

fn main() {
    let asked = |flag: &str| env::args().any(|argument| argument == flag);
    // `cargo test --all-targets` runs this program too, without the flag that `cargo bench` adds.
    if !asked("--bench") {
        return;
    }
    let plan = if asked("--quick") { QUICK } else { FULL };
    let mut runtime = runtime::Builder::new_multi_thread();
    // One thread: a client with more takes more of the server's cores.
    let runtime = runtime.worker_threads(1).enable_all().build().expect("a runtime can be had");

    let mut report = Report::default();
    let load_average = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    report.note(format!("{} cores; load average before: {}", machine::cores(), load_average.trim()));
    measure_rates(&plan, &runtime, &mut report);
    measure_storms(&plan, &runtime, &mut report);
    measure_starts(&plan, &runtime, &mut report);
    report.publish("core");
}

// === rates ===

/// What one repetition measured.
struct Repetition {
    /// Hashes a second of the service's kernel, before and after the logins.
    raw: [f64; 2],
    /// Hashes a second of the `argon2` crate.
    one_shot: f64,
    login: Loop,
    register: Loop,
    /// The part of all cores that other processes had.
    others: f64,
}

fn measure_rates(plan: &Plan, runtime: &Runtime, report: &mut Report) {
    let (mut pooled, mut one_shot) = (raw::workers(raw::pooled), raw::workers(raw::one_shot));
    assert_eq!(raw::tag_of(&mut pooled[0]), raw::tag_of(&mut one_shot[0]), "both kernels compute the same");
    let folder = scratch();
    let server = Server::start(folder.path());
    let load = Load::new(runtime, &server);

    let mut repeat = |arm| {
        let (others, start) = (cpu_of_others(&server), Instant::now());
        let raw_before = on_all_cores(&mut pooled, arm);
        let login = load.login(arm);
        let raw = [raw_before, on_all_cores(&mut pooled, arm)];
        let register = load.register(arm);
        let one_shot = on_all_cores(&mut one_shot, arm);
        let others = (cpu_of_others(&server) - others) / start.elapsed().as_secs_f64() / machine::cores() as f64;
        Repetition { raw, one_shot, login, register, others }
    };
    // Warms up: arenas, caches, and the stored hour of each user's last login.
    repeat(Duration::from_millis(500));
    let mut done = Vec::new();
    for number in 1..=plan.repetitions {
        println!("rates: repetition {number} of {}", plan.repetitions);
        done.push(repeat(plan.arm));
    }
    report_rates(&done, report);
}

fn report_rates(done: &[Repetition], report: &mut Report) {
    let each = |figure: fn(&Repetition) -> f64| done.iter().map(figure).collect::<Vec<_>>();
    report.show("other processes", "% CPU", each(|r| r.others * 100.0));
    report.show("raw / raw (control)", "", each(|r| r.raw[1] / r.raw[0]));
    report.gate("logins/s / raw hashes/s", "", AtLeast(0.95), each(|r| r.login.rate() / r.raw_mean()));
    report.gate("raw hashes/s / argon2 one-shot", "", AtLeast(1.6), each(|r| r.raw_mean() / r.one_shot));
    report.gate("registrations/s / logins/s", "", AtLeast(0.9), each(|r| r.register.rate() / r.login.rate()));
    report.gate("server CPU beside the hash, a login", "us", AtMost(250.0), each(|r| r.login.server_micros()));
    report.show("server CPU beside the hash, a registration", "us", each(|r| r.register.server_micros()));
    report.show("client CPU, a login", "us", each(|r| r.login.client_micros()));
    report.show("raw hashes", "/s", each(Repetition::raw_mean));
    report.show("argon2 one-shot hashes", "/s", each(|r| r.one_shot));
    report.show("logins", "/s", each(|r| r.login.rate()));
    report.show("registrations", "/s", each(|r| r.register.rate()));
    report.note(format!("login arms: {}", done.iter().map(|r| &r.login.tally).sum::<Tally>()));
    report.note(format!("register arms: {}", done.iter().map(|r| &r.register.tally).sum::<Tally>()));
}

impl Repetition {
    fn raw_mean(&self) -> f64 {
        (self.raw[0] + self.raw[1]) / 2.0
    }
}

// === storms ===

/// The server's memory around one storm, in MiB.
struct Storm {
    idle: f64,
    warm: f64,
    peak: f64,
    after: f64,
}

fn measure_storms(plan: &Plan, runtime: &Runtime, report: &mut Report) {
    let mut storms = Vec::new();
    for number in 1..=plan.storms {
        println!("memory: storm {number} of {}", plan.storms);
        let (storm, tally) = storm(plan, runtime);
        report.note(format!("storm {number}: {tally}"));
        storms.push(storm);
    }
    let each = |figure: fn(&Storm) -> f64| storms.iter().map(figure).collect::<Vec<_>>();
    report.show("memory before the first login", "MiB", each(|s| s.idle));
    report.show("memory after a second of logins", "MiB", each(|s| s.warm));
    report.gate("memory, peak in a storm of 5 000 logins", "MiB", AtMost(160.0), each(|s| s.peak));
    report.show("memory after the storm", "MiB", each(|s| s.after));
    report.gate("memory after the storm / before it", "", AtMost(1.15), each(|s| s.after / s.warm));
}

/// Each on a server of its own: the peak is one of a process's life.
fn storm(plan: &Plan, runtime: &Runtime) -> (Storm, Tally) {
    let folder = scratch();
    let server = Server::start(folder.path());
    // Threads that were just started have memory yet to touch.
    thread::sleep(Duration::from_millis(200));
    let idle = server.memory_mib("VmRSS:");
    let load = Load::new(runtime, &server);
    load.login(Duration::from_secs(1));
    let warm = server.memory_mib("VmRSS:");
    let tally = load.storm();
    let peak = server.memory_mib("VmHWM:");
    thread::sleep(plan.calm);
    (Storm { idle, warm, peak, after: server.memory_mib("VmRSS:") }, tally)
}

// === starts ===

fn measure_starts(plan: &Plan, runtime: &Runtime, report: &mut Report) {
    println!("starts: {} of each kind", plan.starts);
    let known = scratch();
    drop(Server::start(known.path()));
    let (mut new, mut again, mut refusal) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..plan.starts {
        new.push(start(runtime, scratch().path(), health));
        again.push(start(runtime, known.path(), health));
        refusal.push(start(runtime, known.path(), refused_login));
    }
    report.show("exec to first health check, new store", "ms", new);
    report.show("exec to first health check", "ms", again);
    report.show("exec to first login refused", "ms", refusal);
}

/// Milliseconds from before the process is started until after it answered.
fn start(runtime: &Runtime, folder: &Path, ask: impl AsyncFn(Channel)) -> f64 {
    let start = Instant::now();
    let server = Server::start(folder);
    runtime.block_on(async { ask(server.channel().await).await });
    start.elapsed().as_secs_f64() * 1e3
}

async fn health(channel: Channel) {
    let answer = HealthClient::new(channel).check(HealthCheckRequest::default()).await;
    answer.expect("a server that listens is healthy");
}

async fn refused_login(channel: Channel) {
    let status = load::login(Client::new(channel), "nobody".into()).await.expect_err("nobody is registered");
    assert_eq!(status.code(), Code::Unauthenticated);
}
