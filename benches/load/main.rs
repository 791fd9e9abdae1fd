//! Measures what the service promises, and prints it as one table: how much of the machine reaches the hash, what a token
//! check costs, what a storm of logins does to everybody else, how much memory it takes and how soon it answers.
//!
//! `cargo bench --bench load` takes about ten minutes. `-- --quick` takes two and proves nothing; `-- --scale` adds a
//! million users and a second node; `-- --only rates,storm` measures some parts; `-- --peer NAME=URL` measures another
//! product's login over plain HTTP in the same run (`peers.rs` says how), and `-- --build PATH` another build's.
//!
//! Servers are real processes on the disk of the target folder, with their default settings and somebody who reads their
//! log; Redis is a real redis-server that syncs its file at every write. Server and client share the cores.
//!
//! Machines differ, and one differs from itself an hour later, so gates are on ratios of arms that take turns in one run;
//! rates, checks, starts and nodes have a control, an arm over itself, and the storm has the same flood beside a bare
//! server. A ratio that misses its gate by less than the control's interval says nothing, nor do rates when other processes
//! took more than a few percent of the cores, nor checks when the client had all of its one. A figure is the median of
//! its repetitions, its interval a bootstrap of that median. Only answers that succeeded count as calls.
//!
//! The table also goes to `bench/load.json` in the target folder, and the plot of the storm to `bench/storm.svg`. A missed
//! gate fails nothing.

#![expect(clippy::disallowed_methods, reason = "measures the real time, and waits for it to pass")]
#![expect(clippy::print_stdout, reason = "the table is the output")]

mod bare;
mod calls;
mod checks;
mod commits;
#[path = "../../tests/it/support/hostile.rs"]
#[expect(clippy::unwrap_used, unreachable_pub, reason = "made for tests")]
mod hostile;
mod peers;
mod plot;
mod rates;
mod raw;
mod redis;
mod report;
mod scale;
mod schedule;
mod server;
mod starts;
mod storm;
mod users;

use std::{env, fs, path::Path, time::Duration};

use tokio::runtime;
use watchword::common::host;

use self::{bare::Kind, peers::Peer, report::Report};

/// How much to measure.
pub(crate) struct Plan {
    /// Of the rates and the checks.
    repetitions: usize,
    /// How long one arm of a repetition takes.
    arm: Duration,
    /// Servers that see storms.
    storms: usize,
    /// How long each storm takes.
    storm: Duration,
    /// How long after a storm memory is looked at again.
    calm: Duration,
    /// Of each kind of server.
    starts: usize,
    /// How long the plot stays at one offered load.
    point: Duration,
}

const FULL: Plan = Plan {
    repetitions: 8,
    arm: Duration::from_secs(2),
    storms: 3,
    storm: Duration::from_secs(4),
    calm: Duration::from_secs(10),
    starts: 20,
    point: Duration::from_secs(2),
};

const QUICK: Plan = Plan {
    repetitions: 2,
    arm: Duration::from_millis(700),
    storms: 1,
    storm: Duration::from_secs(2),
    calm: Duration::from_secs(10),
    starts: 4,
    point: Duration::from_secs(1),
};

const PARTS: [&str; 6] = ["rates", "commits", "checks", "starts", "storm", "plot"];

fn main() {
    if let Some(kind) = Kind::asked() {
        return kind.serve();
    }
    let arguments: Vec<String> = env::args().collect();
    let asked = |flag: &str| arguments.iter().any(|argument| argument == flag);
    // `cargo test --all-targets` runs this program too, without the flag that `cargo bench` adds.
    if !asked("--bench") {
        return;
    }
    let values = |flag: &str| -> Vec<&str> {
        arguments.windows(2).filter(|pair| pair[0] == flag).map(|pair| pair[1].as_str()).collect()
    };
    let plan = if asked("--quick") { QUICK } else { FULL };
    let peers: Vec<_> = values("--peer").into_iter().map(Peer::parse).collect();
    let only: Vec<_> = values("--only").iter().flat_map(|parts| parts.split(',')).collect();
    assert!(only.iter().all(|part| PARTS.contains(part) || *part == "scale"), "--only takes {PARTS:?} and scale");
    let wanted = |part: &str| if only.is_empty() { PARTS.contains(&part) } else { only.contains(&part) };

    // One thread: a client with more takes more of the server's cores.
    let runtime = runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let runtime = runtime.expect("a runtime can be had");
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("bench");
    fs::create_dir_all(&folder).expect("cargo writes beside it");
    let mut report = Report::default();
    let load_average = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    report.note(format!("{} cores; load average before: {}", host::cores(), load_average.trim()));
    if wanted("rates") {
        rates::measure(&plan, &runtime, &peers, &values("--build"), &mut report);
    }
    if wanted("commits") {
        commits::measure(&plan, &runtime, &mut report);
    }
    if wanted("checks") {
        checks::measure(&plan, &runtime, &mut report);
    }
    if wanted("starts") {
        starts::measure(&plan, &runtime, &mut report);
    }
    if wanted("storm") {
        storm::measure(&plan, &runtime, &mut report);
    }
    if wanted("plot") {
        plot::measure(&plan, &runtime, &folder);
    }
    if asked("--scale") || wanted("scale") {
        scale::measure(&plan, &runtime, &mut report);
    }
    report.publish(&folder);
}
