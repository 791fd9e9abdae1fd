//! Enumeration by timing (T1, T2, T3): whether the time of a refusal reveals its reason, as `watchword selftest --timing`
//! measures it.

use std::{
    fs, io,
    io::{BufRead, BufReader},
    process::{Command, Stdio},
};

use tempfile::{NamedTempFile, TempDir};
use watchword::{
    config::Config,
    domain::password::Cost,
    selftest::{self, Role, TimingReport},
};

use crate::support::{StoreKind, TestStore, command, is_full, run_command};

/// A hash of about one millisecond. It is cheaper than the default, so that more calls fit into the test, and still much more
/// expensive than the rest of a call.
const SHORT_HASH: Cost = Cost { memory_kib: 4_096, passes: 1, lanes: 1 };

/// The t value that T1 requires for a planted leak.
const PLANTED_LEAK_T_MIN: f64 = 20.0;

/// The largest time difference that T1 allows, as a fraction of one hash.
const DIFFERENCE_MAX: f64 = 0.01;

/// Measures on the embedded store, or on a Redis of its own with a pepper.
async fn measure(kind: StoreKind, cost: Cost, samples: usize) -> TimingReport {
    let pepper = NamedTempFile::new().unwrap();
    fs::write(pepper.path(), "0f".repeat(32)).unwrap();
    let pepper_flag = ["watchword", "--pepper-key-file", pepper.path().to_str().unwrap()];
    let args = if kind == StoreKind::Redis { &pepper_flag[..] } else { &pepper_flag[..1] };
    let mut config = Config::from_args(args).unwrap();
    let place = TestStore::new(kind);
    config.store = place.settings();
    config.hashing.cost = cost;
    selftest::timing(&config, samples, &mut io::sink(), std::future::pending()).await.unwrap()
}

/// Complete measurements before the machine is called too noisy, or a difference real: a real difference is found in each
/// of them.
const MEASUREMENTS_MAX: usize = 3;

/// `tests/run --all` makes the 2 000 calls of each kind that T1 requires, with the default cost of a hash.
#[tokio::test]
async fn refusal_time_does_not_reveal_its_reason_and_planted_leaks_are_detected() {
    for kind in StoreKind::DURABLE {
        find_leaks(kind).await;
    }
}

#[expect(clippy::print_stdout, reason = "`-- --nocapture` shows the figures")]
async fn find_leaks(kind: StoreKind) {
    let (mut leaks, mut undetected) = (String::new(), String::new());
    for _ in 0..MEASUREMENTS_MAX {
        let (cost, samples) = if is_full() { (Cost::DEFAULT, 2_000) } else { (SHORT_HASH, 150) };
        let report = measure(kind, cost, samples).await;
        println!("{report}");
        assert_same_answers(&report);
        (leaks, undetected) = (leaks_in(&report), undetected_in(&report));
        if leaks.is_empty() && undetected.is_empty() {
            return;
        }
    }
    assert!(leaks.is_empty(), "{leaks}");
    // On a busy machine 150 calls detect nothing. That is noise, and says nothing about leaks.
    assert!(!is_full(), "the planted leaks were not detected, so the measurement proves nothing:\n{undetected}");
    println!("the machine is too noisy; only bytes and hashes were compared:\n{undetected}");
}

/// Checks that do not depend on noise: equal answers and equal numbers of hashes.
fn assert_same_answers(report: &TimingReport) {
    let count = |role: Role| report.findings.iter().filter(|found| found.role == role).count();
    let expected = "six pairs and a control on two APIs, and three pairs of resets on one";
    assert_eq!((count(Role::Secret), count(Role::Control)), (15, 2), "{expected}:\n{report}");
    for found in &report.findings {
        assert!(found.is_same_answer, "{:?}, {}: different answers\n{report}", found.api, found.name);
        assert!(found.is_same_cost, "{:?}, {}: different numbers of hashes\n{report}", found.api, found.name);
    }
}

/// Differences that must not exist.
fn leaks_in(report: &TimingReport) -> String {
    let mut leaks = String::new();
    for found in &report.findings {
        let difference = found.times_us[0].difference().abs() / report.hash_us;
        let is_leak = match found.role {
            Role::Secret => found.differs() || is_full() && found.hashes_each > 0 && difference > DIFFERENCE_MAX,
            Role::Control => found.differs(),
            Role::Planted => false,
        };
        if is_leak {
            leaks.push_str(&format!("{:?}, {}: {:?}\n", found.api, found.name, found.times_us));
        }
    }
    leaks
}

/// Planted differences that were not detected as clearly as required.
fn undetected_in(report: &TimingReport) -> String {
    let mut undetected = String::new();
    for found in report.findings.iter().filter(|found| found.role == Role::Planted) {
        let is_detected = match found.name {
            "planted: no hash" => found.differs() && found.times_us.iter().all(|times| times.t < -PLANTED_LEAK_T_MIN),
            // The smaller planted leak needs more calls than the short test makes.
            _ => !is_full() || found.differs(),
        };
        if !is_detected {
            undetected.push_str(&format!("{:?}, {}: {:?}\n", found.api, found.name, found.times_us));
        }
    }
    undetected
}

/// The command, with its own temporary folder.
fn selftest_in(folder: &TempDir, samples: &str) -> Command {
    let mut command = command(&["selftest", "--timing", "--samples", samples]);
    command.env("TMPDIR", folder.path());
    command
}

#[test]
fn selftest_command_prints_a_verdict_and_removes_its_files() {
    let folder = TempDir::new().unwrap();
    let (code, out, err) = run_command(selftest_in(&folder, "20"));
    let verdict = match code {
        0 => "no difference found",
        1 => "A DIFFERENCE WAS FOUND",
        2 => "this machine is too noisy to tell",
        other => panic!("{other}: {err}"),
    };
    assert_eq!(out.lines().last(), Some(verdict), "{out}{err}");
    assert!(out.contains("unknown name (T1)") && err.contains("20 rounds"), "{out}{err}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn interrupted_selftest_ends_at_once_and_removes_its_files() {
    for signal in ["INT", "TERM"] {
        let folder = TempDir::new().unwrap();
        let mut child = selftest_in(&folder, "5000").stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
        assert!(lines.next().unwrap().contains("0 of 5000 rounds"));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "the selftest has its own folder");
        let status = Command::new("kill").args([&format!("-{signal}"), &child.id().to_string()]).status().unwrap();
        assert!(status.success());
        let progress: Vec<String> = lines.collect();
        assert_eq!(child.wait().unwrap().code(), Some(2), "{progress:?}");
        assert!(progress.last().unwrap().contains("stopped"), "{progress:?}");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}

/// The number of keys in each database of Redis, as Redis lists those that are not empty.
fn databases(place: &TestStore) -> Vec<String> {
    let info: String = place.redis().ask(&["INFO", "keyspace"]);
    info.lines().filter_map(|line| line.split_once(',')).map(|(keys, _)| keys.to_owned()).collect()
}

#[test]
fn selftest_on_redis_needs_a_database_of_its_own_and_empties_it() {
    let place = TestStore::new(StoreKind::Redis);
    place.redis().ask::<()>(&["SET", "other", "of another program"]);
    let url = |database: u16| format!("{}/{database}", place.redis().url());
    let selftest = |database: u16| {
        let mut selftest = command(&["selftest", "--timing", "--samples", "20"]);
        selftest.args(["--store", &url(database)]);
        selftest
    };
    let (code, out, err) = run_command(selftest(0));
    assert!(code == 2 && err.contains("not empty"), "{code}: {out}{err}");
    assert_eq!(databases(&place), ["db0:keys=1"]);

    let (code, out, err) = run_command(selftest(5));
    assert!((0..=2).contains(&code) && out.contains("Store: redis."), "{code}: {out}{err}");
    assert!(out.contains("missing pepper key (T2)"), "{out}");
    assert_eq!(databases(&place), ["db0:keys=1"], "{err}");

    let mut child = selftest(5).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
    assert!(lines.next().unwrap().contains("0 of 20 rounds"));
    assert_eq!(databases(&place).len(), 2, "the users of the test are there");
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    let progress: Vec<String> = lines.collect();
    assert_eq!(child.wait().unwrap().code(), Some(2), "{progress:?}");
    assert_eq!(databases(&place), ["db0:keys=1"], "{progress:?}");
}
