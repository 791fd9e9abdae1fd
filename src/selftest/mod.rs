//! Measures whether the time of an answer tells what the answer hides: `watchword selftest --timing`.
//!
//! A caller asks a node of its own, one call at a time, in an order that is drawn anew for each round. Each name and each
//! password is tried once, as whoever looks for names would. A pair of accounts differs when its times do in four measurements
//! in a row, always in the same direction, or when a byte of its answers does. Two accounts of the same kind must not differ,
//! and two planted differences must be found; otherwise the machine is too noisy to tell. How times are compared is
//! `statistics.rs`, the node `subject.rs`, the caller `line.rs`, the text `report.rs`.

mod line;
mod report;
mod statistics;
mod subject;

use std::{collections::BTreeSet, io::Write, time::Duration};

use self::{
    line::Call,
    subject::{Subject, Who, password},
};
pub use self::{
    line::Via,
    report::{Finding, Report, Verdict},
    statistics::{Comparison, THRESHOLD},
};
use crate::{
    config::Config,
    domain::{Entropy, System},
};

/// Measurements that must agree that there is a difference; one alone may have met with something else on the machine.
const MEASUREMENTS: usize = 4;

/// Rounds before each measurement that do not count.
const WARM_UP: usize = 10;

/// How often it is said how far it is.
const ROUNDS_TOLD: usize = 100;

/// Two accounts whose answers are compared.
struct Pair {
    /// What the second account is.
    name: &'static str,
    role: Role,
    call: Call,
    /// The first account: one of today, with a wrong password.
    one: Who,
    other: Who,
}

/// What a pair is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Nothing may tell its accounts apart.
    Secret,
    /// Nothing can tell them apart, unless the measurement is wrong.
    Control,
    /// Their difference is planted, and must be found.
    Planted,
}

/// What is compared with what: against the wrong password of a user, and against the wrong reset code of a user who has one. The planted pairs are stored hashes of older parameters, which cost what they cost; nothing
/// else about those users, or about their path through the node, is another one.
const PAIRS: [Pair; 11] = [
    Pair::of_login("another such user", Role::Control, Who::Another),
    Pair::of_login("unknown name (T1)", Role::Secret, Who::Nobody),
    Pair::of_login("md5 under Argon2id (T2)", Role::Secret, Who::OfMd5),
    Pair::of_login("disabled user (T2)", Role::Secret, Who::Disabled),
    Pair::of_login("locked user (T2)", Role::Secret, Who::Locked),
    Pair::of_login("user without password (T2)", Role::Secret, Who::WithoutPassword),
    Pair::of_reset("reset: unknown name (T3)", Who::Nobody),
    Pair::of_reset("reset: user without a code (T3)", Who::User),
    Pair::of_reset("reset: disabled user (T3)", Who::Disabled),
    Pair::of_login("planted: no hash", Role::Planted, Who::OfNoCost),
    Pair::of_login("planted: a hash 5 % cheaper", Role::Planted, Who::OfLessCost),
];

impl Pair {
    const fn of_login(name: &'static str, role: Role, other: Who) -> Self {
        Self { name, role, call: Call::Login, one: Who::User, other }
    }

    const fn of_reset(name: &'static str, other: Who) -> Self {
        Self { name, role: Role::Secret, call: Call::ResetPassword, one: Who::WithCode, other }
    }

    fn arms(&self) -> [(Call, Who); 2] {
        [(self.call, self.one), (self.call, self.other)]
    }
}

/// One kind of call in a measurement, and what came of it.
struct Arm {
    call: Call,
    who: Who,
    names: Vec<String>,
    times_us: Vec<f64>,
    hashes_us: Vec<f64>,
    answers: BTreeSet<Vec<u8>>,
    hashes_each: BTreeSet<u64>,
}

/// Measures all pairs on both doors, `samples` calls of each account; says on `progress` how far it is.
///
/// # Errors
/// Why nothing could be measured.
pub async fn timing(config: &Config, samples: usize, progress: &mut dyn Write) -> Result<Report, String> {
    let subject = Subject::start(config).await?;
    let (mut findings, mut hashes_us) = (Vec::new(), Vec::new());
    // Calls of one kind after those of another: what follows a long wait finds a colder machine.
    let kinds = Via::ALL.into_iter().flat_map(|via| Call::ALL.map(|call| (via, call)));
    for (via, call) in kinds.filter(|(via, call)| call.is_on(*via)) {
        let mut of_door: Vec<Finding> = Vec::new();
        for measurement in 1..=MEASUREMENTS {
            // A pair that did not differ once does not differ.
            let open = |pair: &&Pair| of_door.iter().all(|found| found.name != pair.name || found.differs());
            let pairs: Vec<&Pair> = PAIRS.iter().filter(|pair| pair.call == call).filter(open).collect();
            if pairs.is_empty() {
                break;
            }
            let arms = measure(&subject, via, &pairs, samples, measurement, progress).await?;
            if call == Call::Login {
                hashes_us.extend(find(&arms, PAIRS[0].arms()[0]).hashes_us.iter().copied());
            }
            for pair in pairs {
                let [one, other] = pair.arms().map(|wanted| find(&arms, wanted));
                match of_door.iter_mut().find(|found| found.name == pair.name) {
                    Some(found) => found.again(one, other),
                    None => of_door.push(Finding::new(via, pair, one, other)),
                }
            }
        }
        findings.extend(of_door);
    }
    Ok(Report { cost: config.hashing.cost, hash_us: statistics::median(&hashes_us), samples, findings })
}

fn find(arms: &[Arm], (call, who): (Call, Who)) -> &Arm {
    arms.iter().find(|arm| (arm.call, arm.who) == (call, who)).expect("every account of a pair is measured")
}

/// One measurement: rounds in which each account is tried once.
async fn measure(
    subject: &Subject,
    via: Via,
    pairs: &[&Pair],
    samples: usize,
    measurement: usize,
    progress: &mut dyn Write,
) -> Result<Vec<Arm>, String> {
    let mut arms: Vec<Arm> = Vec::new();
    for (call, who) in pairs.iter().flat_map(|pair| pair.arms()) {
        if !arms.iter().any(|arm| (arm.call, arm.who) == (call, who)) {
            arms.push(Arm::new(call, who, subject.names(who, WARM_UP + samples).await?));
        }
    }
    let mut line = subject.connect(via).await?;
    for round in 0..WARM_UP + samples {
        if round % ROUNDS_TOLD == 0 {
            let told = writeln!(
                progress,
                "{}, measurement {measurement} of at most {MEASUREMENTS}: {} of {samples} rounds",
                via.name(),
                round.saturating_sub(WARM_UP),
            );
            told.map_err(|cause| cause.to_string())?;
        }
        for arm in shuffled(arms.len()) {
            let arm = &mut arms[arm];
            let before = subject.hashes();
            let heard = line.ask(arm.call, &arm.names[round], &password()).await?;
            arm.hashes_each.insert(subject.hashes() - before);
            if !heard.is_refusal {
                return Err(format!("an unexpected answer: {}", heard.answer.escape_ascii()));
            }
            arm.answers.insert(heard.answer);
            if round >= WARM_UP {
                arm.times_us.push(micros(heard.took));
                arm.hashes_us.push(micros(subject.last_hash()));
            }
        }
    }
    Ok(arms)
}

impl Arm {
    fn new(call: Call, who: Who, names: Vec<String>) -> Self {
        Self {
            call,
            who,
            names,
            times_us: Vec::new(),
            hashes_us: Vec::new(),
            answers: BTreeSet::new(),
            hashes_each: BTreeSet::new(),
        }
    }
}

/// The numbers below `count` in an order that nobody knows (Fisher and Yates).
fn shuffled(count: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..count).collect();
    for last in (1..count).rev() {
        let mut random = [0; 8];
        System.fill(&mut random);
        let chosen = u64::from_le_bytes(random) % (last as u64 + 1);
        order.swap(last, chosen as usize);
    }
    order
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}
