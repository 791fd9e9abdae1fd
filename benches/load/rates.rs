//! Logins and registrations per second compared with the raw hash rate of the machine, and their CPU cost.

use std::time::{Duration, Instant};

use tokio::runtime::Runtime;
use watchword::common::host;

use crate::{
    Plan,
    calls::{CONCURRENCY, Load, Loop, Tally},
    peers::Peer,
    raw::{self, on_all_cores},
    redis::Redis,
    report::{
        Gate::{AtLeast, AtMost},
        Report,
    },
    server::{Server, cpu_of_others, scratch},
    users::{Populated, Population, Setup},
};

/// The number of users that log in, in turn. Most logins are the first of a user in this hour, which costs a write,
/// unless the machine makes more logins than this in total.
const USERS: u64 = 10_000;

/// The measurements of one repetition.
struct Repetition {
    /// Hashes per second of the service's kernel, before and after the logins.
    raw: [f64; 2],
    /// Hashes per second of the `argon2` crate.
    one_shot: f64,
    login: Loop,
    register: Loop,
    login_in_memory: Loop,
    login_on_redis: Loop,
    register_on_redis: Loop,
    peers: Vec<(Tally, f64)>,
    builds: Vec<Loop>,
    /// The share of all cores that other processes used during the first four arms.
    others: f64,
}

pub(crate) fn measure(plan: &Plan, runtime: &Runtime, peers: &[Peer], builds: &[&str], report: &mut Report) {
    let (mut pooled, mut one_shot) = (raw::workers(raw::pooled), raw::workers(raw::one_shot));
    assert_eq!(raw::tag_of(&mut pooled[0]), raw::tag_of(&mut one_shot[0]), "both kernels compute equal hashes");
    let population = Population { users: USERS, ..Population::default() };
    let (redis, folder) = (Redis::start(), scratch());
    let populated = |setup| Populated::start(runtime, setup, population);
    let embedded = populated(Setup::default());
    let shared = populated(Setup { redis: Some(&redis), ..Setup::default() });
    let in_memory = Server::start_on(folder.path(), &["--store", "memory:"]);
    let load = Load::connect(runtime, &embedded.server, USERS);
    let load_on_redis = Load::connect(runtime, &shared.server, USERS);
    let load_in_memory = Load::register_and_connect(runtime, &in_memory, CONCURRENCY as u64);
    let of_builds: Vec<_> = builds.iter().map(|build| populated(Setup { build, ..Setup::default() })).collect();
    let loads_of_builds: Vec<_> = of_builds.iter().map(|of| Load::connect(runtime, &of.server, USERS)).collect();

    let mut repeat = |arm| {
        let (others, start) = (cpu_of_others(&[&embedded.server]), Instant::now());
        let raw_before = on_all_cores(&mut pooled, arm);
        let login = load.login(arm);
        let raw = [raw_before, on_all_cores(&mut pooled, arm)];
        let register = load.register(arm);
        let others =
            (cpu_of_others(&[&embedded.server]) - others) / start.elapsed().as_secs_f64() / host::cores() as f64;
        Repetition {
            raw,
            login,
            register,
            others,
            one_shot: on_all_cores(&mut one_shot, arm),
            login_in_memory: load_in_memory.login(arm),
            login_on_redis: load_on_redis.login(arm),
            register_on_redis: load_on_redis.register(arm),
            builds: loads_of_builds.iter().map(|load| load.login(arm)).collect(),
            peers: peers.iter().map(|peer| peer.login(runtime, arm)).collect(),
        }
    };
    // A warm-up of arenas and caches.
    repeat(Duration::from_millis(500));
    let mut done = Vec::new();
    for number in 1..=plan.repetitions {
        println!("rates: repetition {number} of {}", plan.repetitions);
        done.push(repeat(plan.arm));
    }
    report_figures(&done, report);
    for (number, build) in builds.iter().enumerate() {
        let each =
            |figure: &dyn Fn(&Repetition, &Loop) -> f64| done.iter().map(|r| figure(r, &r.builds[number])).collect();
        report.show(format!("logins/s / logins/s of {build}"), "", each(&|r, other| r.login.rate() / other.rate()));
        report.show(format!("server CPU beside the hash, {build}"), "us", each(&|_, other| other.server_micros()));
    }
    for (number, peer) in peers.iter().enumerate() {
        let each =
            |figure: &dyn Fn(&Repetition, f64) -> f64| done.iter().map(|r| figure(r, r.peers[number].1)).collect();
        report.show(format!("logins/s of {} / raw hashes/s", peer.name), "", each(&|r, rate| rate / r.raw_mean()));
        report.show(format!("logins/s / logins/s of {}", peer.name), "", each(&|r, rate| r.login.rate() / rate));
        report.note(format!("{}: {}", peer.name, done.iter().map(|r| &r.peers[number].0).sum::<Tally>()));
    }
}

fn report_figures(done: &[Repetition], report: &mut Report) {
    let each = |figure: fn(&Repetition) -> f64| done.iter().map(figure).collect::<Vec<_>>();
    report.show("other processes", "% CPU", each(|r| r.others * 100.0));
    report.show("raw / raw (control)", "", each(|r| r.raw[1] / r.raw[0]));
    report.gate("logins/s / raw hashes/s", "", AtLeast(0.95, 0.97), each(|r| r.login.rate() / r.raw_mean()));
    report.show("logins/s / raw hashes/s, 32 users in memory", "", each(|r| r.login_in_memory.rate() / r.raw_mean()));
    report.show("logins/s / raw hashes/s, Redis", "", each(|r| r.login_on_redis.rate() / r.raw_mean()));
    report.gate("server CPU beside the hash, a login", "us", AtMost(250.0, 120.0), each(|r| r.login.server_micros()));
    report.show("server CPU beside the hash, 32 users in memory", "us", each(|r| r.login_in_memory.server_micros()));
    report.show("server CPU beside the hash, Redis", "us", each(|r| r.login_on_redis.server_micros()));
    report.show("server CPU beside the hash, a registration", "us", each(|r| r.register.server_micros()));
    report.show("CPU in the hash, a login / a raw hash", "", each(|r| r.login.hash_micros() / r.raw_micros()));
    report.show("client CPU, a login", "us", each(|r| r.login.client_micros()));
    report.gate("raw hashes/s / argon2 one-shot", "", AtLeast(1.6, 2.0), each(|r| r.raw_mean() / r.one_shot));
    let registrations = |r: &Repetition| r.register.rate() / r.login.rate();
    report.gate("registrations/s / logins/s", "", AtLeast(0.9, 0.97), each(registrations));
    let registrations = |r: &Repetition| r.register_on_redis.rate() / r.login_on_redis.rate();
    report.gate("registrations/s / logins/s, Redis", "", AtLeast(0.9, 0.97), each(registrations));
    report.show("raw hashes", "/s", each(Repetition::raw_mean));
    report.show("logins", "/s", each(|r| r.login.rate()));
    let tally = |arm: fn(&Repetition) -> &Loop| done.iter().map(|r| &arm(r).tally).sum::<Tally>();
    report.note(format!("logins: {}; in memory: {}", tally(|r| &r.login), tally(|r| &r.login_in_memory)));
    report.note(format!("registrations: {}", tally(|r| &r.register)));
    report.note(format!("on Redis: {}; {}", tally(|r| &r.login_on_redis), tally(|r| &r.register_on_redis)));
}

impl Repetition {
    fn raw_mean(&self) -> f64 {
        f64::midpoint(self.raw[0], self.raw[1])
    }

    /// CPU time of a hash while all cores compute hashes, in microseconds.
    fn raw_micros(&self) -> f64 {
        1e6 * host::cores() as f64 / self.raw_mean()
    }
}
