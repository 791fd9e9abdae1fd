//! Whether the time of a refused login tells what the refusal hides (T1, T2): as `watchword selftest --timing` measures it.

use std::{
    fs, io,
    io::{BufRead, BufReader},
    process::{Command, Stdio},
};

use tempfile::TempDir;
use watchword::{
    config::Config,
    domain::password::Cost,
    selftest::{self, Finding, Report, Role, Verdict, Via},
};

use crate::support::{command, is_full, run_command};

/// A hash of a millisecond or so: less than the real one, so that there are more calls in less time, and still much more than
/// what else a call takes.
const SHORT: Cost = Cost { memory_kib: 4_096, passes: 1, lanes: 1 };

/// What T1 asks of a leak that is planted.
const T_OF_A_PLANTED_LEAK: f64 = 20.0;

/// What T1 allows as a gap, of a hash.
const GAP_MAX: f64 = 0.01;

async fn measured(cost: Cost, samples: usize) -> Report {
    let mut config = Config::from_args(["watchword"]).unwrap();
    config.hashing.cost = cost;
    selftest::timing(&config, samples, &mut io::sink()).await.unwrap()
}

/// `WATCHWORD_TEST_FULL=1` takes the 2 000 calls of each kind that T1 asks for, at the real cost of a hash.
#[tokio::test]
#[expect(clippy::print_stdout, reason = "`-- --nocapture` shows the figures")]
async fn the_time_of_a_refused_login_does_not_tell_why_and_a_planted_leak_is_seen() {
    let report = if is_full() { measured(Cost::DEFAULT, 2_000).await } else { measured(SHORT, 150).await };
    let text = report.to_string();
    let of = |role: Role| report.findings.iter().filter(move |found| found.role == role).collect::<Vec<&Finding>>();
    assert_eq!(
        (of(Role::Secret).len(), of(Role::Control).len()),
        (10, 2),
        "five pairs and a control on two doors:\n{text}"
    );
    for found in &report.findings {
        assert!(found.is_same_answer, "{:?}, {}: another answer\n{text}", found.via, found.name);
        assert!(found.is_one_hash, "{:?}, {}: not one hash\n{text}", found.via, found.name);
    }
    for found in of(Role::Secret).into_iter().chain(of(Role::Control)) {
        assert!(!found.differs(), "{:?}, {}: {:?}\n{text}", found.via, found.name, found.times_us);
    }
    for via in Via::ALL {
        let no_hash = |found: &&Finding| found.via == via && found.name == "planted: no hash";
        let found = report.findings.iter().find(no_hash).unwrap();
        assert!(found.differs() && found.times_us.len() == 4, "{via:?}\n{text}");
        for times in &found.times_us {
            assert!(times.t < -T_OF_A_PLANTED_LEAK, "{via:?}: {}\n{text}", times.t);
        }
    }
    if is_full() {
        assert_eq!(report.verdict(), Verdict::NothingFound, "{text}");
        for found in of(Role::Secret) {
            let gap = found.times_us[0].difference().abs() / report.hash_us;
            assert!(gap < GAP_MAX, "{:?}, {}: {gap} of a hash\n{text}", found.via, found.name);
        }
    }
    println!("{text}");
}

/// The command, with temporary folders of its own.
fn selftest_in(folder: &TempDir, samples: &str) -> Command {
    let mut command = command(&["selftest", "--timing", "--samples", samples]);
    command.env("TMPDIR", folder.path());
    command
}

#[test]
fn the_command_ends_with_a_verdict_and_leaves_nothing_behind() {
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
fn an_interrupted_selftest_ends_at_once_and_leaves_nothing_behind() {
    for signal in ["INT", "TERM"] {
        let folder = TempDir::new().unwrap();
        let mut child = selftest_in(&folder, "5000").stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
        assert!(lines.next().unwrap().contains("0 of 5000 rounds"));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "it has a folder of its own");
        let sent = Command::new("kill").args([&format!("-{signal}"), &child.id().to_string()]).status().unwrap();
        assert!(sent.success());
        let told: Vec<String> = lines.collect();
        assert_eq!(child.wait().unwrap().code(), Some(2), "{told:?}");
        assert!(told.last().unwrap().contains("stopped"), "{told:?}");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
