//! Measures the performance targets of the service and prints one table: the share of the CPU that computes hashes, the
//! cost of a token check, the effect of a login storm on other calls, memory, and start-up time.
//!
//! `cargo bench --bench load` takes about ten minutes. `-- --quick` takes two, but its figures are not significant.
//! `-- --scale` adds a million users and a second node. `-- --only rates,storm` measures some parts, `-- --only floods`
//! what floods of refused calls cost and leave to logins. `-- --peer NAME=URL` measures the login of another product over
//! plain HTTP in the same run (see `peers.rs`), and `-- --build PATH` that of another build.
//!
//! Servers are real processes on the disk of the target folder, with default settings; their log is read. Redis is a
//! real redis-server that syncs its file at every write. Server and client share the cores.
//!
//! Machines differ, and the speed of one machine changes within an hour. So gates are on ratios of arms that
//! alternate in one run. Rates, checks, starts and nodes have a control, which is an arm divided by itself; the storm
//! has a control with the same flood on a bare server. A result is not significant if a ratio misses its gate by less
//! than the interval of the control, if other processes used more than a few percent of the cores during rates, or if
//! the client used all of its core during checks. A figure is the median of its repetitions, its interval a bootstrap
//! of that median. Only successful calls are counted.
//!
//! The table is also written to `bench/load.json` in the target folder, and the plot of the storm to
//! `bench/storm.svg`. A missed gate changes the exit code only with `-- --gate`.

#![expect(clippy::disallowed_methods, reason = "measures real time, and sleeps")]
#![expect(clippy::print_stdout, reason = "the table is the output")]

mod bare;
mod calls;
mod checks;
mod commits;
mod floods;
#[path = "../../tests/it/support/frames.rs"]
#[expect(clippy::unwrap_used, dead_code, unreachable_pub, reason = "shared with the tests")]
mod frames;
#[path = "../../tests/it/support/hostile.rs"]
#[expect(clippy::unwrap_used, unreachable_pub, reason = "shared with the tests")]
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

use std::{env, fs, path::Path, process::ExitCode, time::Duration};

use tokio::runtime;
use watchword::common::host;

use self::{bare::Kind, peers::Peer, report::Report};

/// The amount of measurements.
pub(crate) struct Plan {
    /// Repetitions of the rates and the checks.
    repetitions: usize,
    /// The duration of one arm of a repetition.
    arm: Duration,
    /// The number of servers with storms.
    storms: usize,
    /// The duration of each storm.
    storm: Duration,
    /// The delay after a storm until memory is measured again.
    calm: Duration,
    /// Repetitions of the floods, each as long as a storm.
    floods: usize,
    /// The number of starts of each kind of server.
    starts: usize,
    /// The duration of one offered load of the plot.
    point: Duration,
}

const FULL: Plan = Plan {
    repetitions: 8,
    arm: Duration::from_secs(2),
    storms: 3,
    storm: Duration::from_secs(4),
    calm: Duration::from_secs(10),
    floods: 4,
    starts: 20,
    point: Duration::from_secs(2),
};

const QUICK: Plan = Plan {
    repetitions: 2,
    arm: Duration::from_millis(700),
    storms: 1,
    storm: Duration::from_secs(2),
    calm: Duration::from_secs(10),
    floods: 1,
    starts: 4,
    point: Duration::from_secs(1),
};

const PARTS: [&str; 6] = ["rates", "commits", "checks", "starts", "storm", "plot"];

/// Parts that are measured only when they are named.
const MORE_PARTS: [&str; 2] = ["floods", "scale"];

/// The longest wait for a frame in `frames.rs`.
const WAIT_MAX: Duration = Duration::from_secs(30);

fn main() -> ExitCode {
    if let Some(kind) = Kind::from_args() {
        kind.serve();
        return ExitCode::SUCCESS;
    }
    let arguments: Vec<String> = env::args().collect();
    let has_flag = |flag: &str| arguments.iter().any(|argument| argument == flag);
    // `cargo test --all-targets` also runs this program, without the flag of `cargo bench`.
    if !has_flag("--bench") {
        return ExitCode::SUCCESS;
    }
    let values = |flag: &str| -> Vec<&str> {
        arguments.windows(2).filter(|pair| pair[0] == flag).map(|pair| pair[1].as_str()).collect()
    };
    let plan = if has_flag("--quick") { QUICK } else { FULL };
    let peers: Vec<_> = values("--peer").into_iter().map(Peer::parse).collect();
    let only: Vec<_> = values("--only").iter().flat_map(|parts| parts.split(',')).collect();
    let is_known = |part: &&str| PARTS.contains(part) || MORE_PARTS.contains(part);
    assert!(only.iter().all(is_known), "--only takes {PARTS:?} and {MORE_PARTS:?}");
    let wanted = |part: &str| if only.is_empty() { PARTS.contains(&part) } else { only.contains(&part) };

    // One thread: a client with more threads would take more of the server's cores.
    let runtime = runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let runtime = runtime.expect("a runtime starts");
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("bench");
    fs::create_dir_all(&folder).expect("cargo writes into the target folder");
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
    if wanted("floods") {
        floods::measure(&plan, &runtime, &mut report);
    }
    if wanted("plot") {
        plot::measure(&plan, &runtime, &folder);
    }
    if has_flag("--scale") || wanted("scale") {
        scale::measure(&plan, &runtime, &mut report);
    }
    report.publish(&folder);
    if has_flag("--gate") && report.has_missed_gate() { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}
