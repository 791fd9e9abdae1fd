//! Measures whether the time of a refusal reveals its cause: `watchword selftest --timing`.
//!
//! Starts a node (`test_node.rs`) with users of every kind (`accounts.rs`), sends one call at a time (`caller.rs`) in a
//! random order for each round, compares the times (`statistics.rs`), and reports the result (`report.rs`). Each username
//! and each password is used once, as in an enumeration attack.
//!
//! A pair of accounts differs if its times differ in four measurements in a row in the same direction, or if a byte of its
//! responses differs. Guarantees a verdict only from sound measurements: two accounts of the same kind must not differ, and
//! two planted differences must be found; otherwise the machine is too noisy. Does not know how the node computes a refusal.

mod accounts;
mod caller;
mod report;
mod statistics;
mod test_node;

use std::{collections::BTreeSet, future::Future, io::Write, time::Duration};

use self::{
    accounts::{AccountKind, random_password},
    caller::TestCall,
    test_node::TestNode,
};
pub use self::{
    caller::TestedApi,
    report::{Finding, TimingReport, Verdict},
    statistics::{Comparison, THRESHOLD},
};
use crate::{
    config::Config,
    domain::{Entropy, System},
    store::{Redis, StoreSettings},
};

/// Measurements that must all find a difference. A single one may be disturbed by other load on the machine.
const MEASUREMENTS: usize = 4;

/// Rounds before each measurement that are discarded.
const WARM_UP_ROUNDS: usize = 10;

/// Rounds between two progress lines.
const PROGRESS_ROUNDS: usize = 100;

/// Two accounts whose responses are compared.
struct AccountPair {
    /// What the second account is.
    name: &'static str,
    role: Role,
    call: TestCall,
    /// The first account: a user with a current hash, and a wrong password.
    one: AccountKind,
    other: AccountKind,
}

/// The purpose of a pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Its accounts must not be distinguishable.
    Secret,
    /// Its accounts are equal: a difference shows a wrong measurement.
    Control,
    /// Its difference is planted, and must be found.
    Planted,
}

/// The comparisons: with the wrong password of a user, and with the wrong reset code of a user who has one. The planted
/// pairs have stored hashes of cheaper parameters and do not differ in anything else.
const PAIRS: [AccountPair; 12] = [
    AccountPair::of_login("another such user", Role::Control, AccountKind::Another),
    AccountPair::of_login("unknown name (T1)", Role::Secret, AccountKind::Unknown),
    AccountPair::of_login("md5 under Argon2id (T2)", Role::Secret, AccountKind::Md5),
    AccountPair::of_login("disabled user (T2)", Role::Secret, AccountKind::Disabled),
    AccountPair::of_login("locked user (T2)", Role::Secret, AccountKind::Locked),
    AccountPair::of_login("user without password (T2)", Role::Secret, AccountKind::WithoutPassword),
    AccountPair::of_login("missing pepper key (T2)", Role::Secret, AccountKind::KeyMissing),
    AccountPair::of_reset("reset: unknown name (T3)", AccountKind::Unknown),
    AccountPair::of_reset("reset: user without a code (T3)", AccountKind::User),
    AccountPair::of_reset("reset: disabled user (T3)", AccountKind::Disabled),
    AccountPair::of_login("planted: no hash", Role::Planted, AccountKind::NoCost),
    AccountPair::of_login("planted: a hash 5 % cheaper", Role::Planted, AccountKind::LessCost),
];

impl AccountPair {
    const fn of_login(name: &'static str, role: Role, other: AccountKind) -> Self {
        Self { name, role, call: TestCall::Login, one: AccountKind::User, other }
    }

    const fn of_reset(name: &'static str, other: AccountKind) -> Self {
        Self { name, role: Role::Secret, call: TestCall::ResetPassword, one: AccountKind::WithCode, other }
    }

    fn kinds(&self) -> [(TestCall, AccountKind); 2] {
        [(self.call, self.one), (self.call, self.other)]
    }
}

/// The calls of one kind in a measurement, and their results.
struct Series {
    call: TestCall,
    kind: AccountKind,
    names: Vec<String>,
    times_us: Vec<f64>,
    hashes_us: Vec<f64>,
    responses: BTreeSet<Vec<u8>>,
    hashes_each: BTreeSet<u64>,
}

/// Measures all pairs on both APIs, with `samples` calls to each account, until `stop`. Writes progress lines to `progress`.
/// A Redis of the settings must be empty, and is empty afterwards.
///
/// # Errors
/// Why the measurement failed.
pub async fn timing(
    config: &Config,
    samples: usize,
    progress: &mut dyn Write,
    stop: impl Future<Output = ()>,
) -> Result<TimingReport, String> {
    let redis = match &config.store {
        StoreSettings::Redis(settings) => Some(settings),
        StoreSettings::Embedded { .. } | StoreSettings::Memory => None,
    };
    if let Some(settings) = redis {
        Redis::require_empty(settings).await.map_err(|error| error.to_string())?;
    }
    // The node has ended when this is over, however it ends.
    let measured = tokio::select! {
        measured = measure_all(config, samples, progress) => measured,
        () = stop => Err("stopped; the measurement is incomplete".into()),
    };
    if let Some(settings) = redis {
        Redis::remove_all(settings)
            .await
            .map_err(|error| format!("the users of the test are left in Redis: {error}"))?;
    }
    measured
}

async fn measure_all(config: &Config, samples: usize, progress: &mut dyn Write) -> Result<TimingReport, String> {
    let node = TestNode::start(config).await?;
    let (mut findings, mut hashes_us) = (Vec::new(), Vec::new());
    // All logins first, then all resets: a call that follows a slower one starts with colder CPU caches.
    let kinds = TestedApi::ALL.into_iter().flat_map(|api| TestCall::ALL.map(|call| (api, call)));
    for (api, call) in kinds.filter(|(api, call)| call.is_on(*api)) {
        let mut of_call: Vec<Finding> = Vec::new();
        for measurement in 1..=MEASUREMENTS {
            // A pair that did not differ in one measurement does not differ.
            let is_undecided =
                |pair: &&AccountPair| of_call.iter().all(|found| found.name != pair.name || found.differs());
            let pairs: Vec<&AccountPair> = PAIRS.iter().filter(|pair| pair.call == call).filter(is_undecided).collect();
            if pairs.is_empty() {
                break;
            }
            let all = measure(&node, api, &pairs, samples, measurement, progress).await?;
            if call == TestCall::Login {
                hashes_us.extend(find(&all, PAIRS[0].kinds()[0]).hashes_us.iter().copied());
            }
            for pair in pairs {
                let [one, other] = pair.kinds().map(|wanted| find(&all, wanted));
                match of_call.iter_mut().find(|found| found.name == pair.name) {
                    Some(found) => found.add(one, other),
                    None => of_call.push(Finding::new(api, pair, one, other)),
                }
            }
        }
        findings.extend(of_call);
    }
    let store = config.store.name();
    Ok(TimingReport { store, cost: config.hashing.cost, hash_us: statistics::median(&hashes_us), samples, findings })
}

fn find(all: &[Series], (call, kind): (TestCall, AccountKind)) -> &Series {
    all.iter().find(|series| (series.call, series.kind) == (call, kind)).expect("every account of a pair is measured")
}

/// One measurement: in each round one call to each account.
async fn measure(
    node: &TestNode,
    api: TestedApi,
    pairs: &[&AccountPair],
    samples: usize,
    measurement: usize,
    progress: &mut dyn Write,
) -> Result<Vec<Series>, String> {
    let mut all: Vec<Series> = Vec::new();
    for (call, kind) in pairs.iter().flat_map(|pair| pair.kinds()) {
        if !all.iter().any(|series| (series.call, series.kind) == (call, kind)) {
            all.push(Series::new(call, kind, node.names(kind, WARM_UP_ROUNDS + samples).await?));
        }
    }
    let mut connection = node.connect(api).await?;
    for round in 0..WARM_UP_ROUNDS + samples {
        if round % PROGRESS_ROUNDS == 0 {
            let written = writeln!(
                progress,
                "{}, measurement {measurement} of at most {MEASUREMENTS}: {} of {samples} rounds",
                api.name(),
                round.saturating_sub(WARM_UP_ROUNDS),
            );
            written.map_err(|cause| cause.to_string())?;
        }
        for index in shuffled(all.len()) {
            let series = &mut all[index];
            let before = node.hashes();
            let response = connection.send(series.call, &series.names[round], &random_password()).await?;
            series.hashes_each.insert(node.hashes() - before);
            if !response.is_refusal {
                return Err(format!("unexpected response: {}", response.bytes.escape_ascii()));
            }
            series.responses.insert(response.bytes);
            if round >= WARM_UP_ROUNDS {
                series.times_us.push(micros(response.took));
                series.hashes_us.push(micros(node.last_hash()));
            }
        }
    }
    Ok(all)
}

impl Series {
    fn new(call: TestCall, kind: AccountKind, names: Vec<String>) -> Self {
        Self {
            call,
            kind,
            names,
            times_us: Vec::new(),
            hashes_us: Vec::new(),
            responses: BTreeSet::new(),
            hashes_each: BTreeSet::new(),
        }
    }
}

/// The numbers below `count` in random order (Fisher and Yates).
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
