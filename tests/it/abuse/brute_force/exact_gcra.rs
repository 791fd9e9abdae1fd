//! The rate limit of an account against an exact GCRA: random attempts at 1 to 16 nodes that share a store.
//!
//! The bound: an attempt is admitted only where the exact GCRA of all attempts would admit it without those that other nodes
//! have admitted and not stored. So in any time the nodes admit at most the burst, the rate, and what the others admit between
//! two exchanges. One node alone refuses no attempt that the exact GCRA admits. Values longer than 16 periods, which 16 nodes
//! can add up to, are clamped to that.
//!
//! Each node also stores by itself each second of machine time, which the test does not know. Both bounds hold whenever it does.

use std::{sync::Arc, time::Duration};

use tonic::transport::Channel;
use watchword::api::pb;

use super::{RATE_LIMITS, UNLIMITED_RATES};
use crate::support::{
    App, ManualClock,
    fault::{Fault, Faulty},
    is_full, reason,
};

/// The default limit, in milliseconds: ten attempts in five minutes.
const PERIOD: u64 = 300_000;
const INCREMENT: u64 = 30_000;
const STATE_MAX: u64 = 16 * PERIOD + TOLERANCE;

/// The difference of clocks that is not corrected.
const TOLERANCE: u64 = 60_000;

/// Stored times are whole milliseconds.
const ROUNDING: u64 = 1;

const NODES_MAX: usize = 16;
const STEPS: usize = 80;

/// How many random runs there are for each number of nodes.
fn seeds() -> std::ops::Range<u64> {
    0..if is_full() { 40 } else { 4 }
}

/// Nodes that share a store and a clock.
struct Cluster {
    nodes: Vec<(App, Channel)>,
    clock: Arc<ManualClock>,
}

/// A generator of pseudo-random numbers (splitmix64).
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % end
    }

    fn below_one_of(&mut self, ends: &[u64]) -> u64 {
        let end = ends[usize::try_from(self.below(ends.len() as u64)).unwrap()];
        self.below(end)
    }
}

/// The exact GCRA of all attempts. A clock that is set back neither drains nor extends its state.
#[derive(Default)]
struct Exact {
    state: u64,
}

impl Exact {
    fn elapsed(&mut self, millis: u64) {
        self.state = self.state.saturating_sub(millis);
    }

    /// Why an attempt must not be admitted, if other nodes have not stored so many.
    fn admitted(&mut self, others: u64) -> Result<(), String> {
        let (before, allowed) = (self.state, PERIOD - INCREMENT + others * INCREMENT + ROUNDING);
        self.state = (before + INCREMENT).min(STATE_MAX);
        if before <= allowed { Ok(()) } else { Err(format!("admitted at {before} ms, where {allowed} are allowed")) }
    }
}

/// The longest state that one node alone may have, whenever it stores. Where its clock was set back, the time since the last
/// attempt is not known, nor that between what is stored and what waits to be.
#[derive(Default)]
struct Longest {
    state: u64,
    /// Just after the last attempt, if no unknown time has passed.
    without_elapsed: u64,
    is_set_back: bool,
}

impl Longest {
    fn elapsed(&mut self, millis: u64) {
        self.state = self.state.saturating_sub(millis);
    }

    fn set_back(&mut self, millis: u64) {
        self.state = (self.state + millis).min(self.without_elapsed + TOLERANCE);
        self.is_set_back = true;
    }

    /// A wrong time is corrected when an attempt reads it.
    fn after_set_back(&mut self) {
        if std::mem::take(&mut self.is_set_back) {
            self.state = self.state.max(self.without_elapsed);
            self.without_elapsed = self.state;
        }
    }

    /// Why the attempt must not be refused.
    fn refused(&mut self) -> Result<(), String> {
        self.after_set_back();
        let longest = self.state;
        if longest + INCREMENT > PERIOD { Ok(()) } else { Err(format!("refused at {longest} ms")) }
    }

    fn admitted(&mut self) {
        self.after_set_back();
        self.state += INCREMENT;
        self.without_elapsed = self.state.max(self.without_elapsed + INCREMENT);
    }
}

impl Cluster {
    async fn start(store: &Arc<Faulty>, clock: &Arc<ManualClock>) -> Self {
        let mut nodes = Vec::new();
        for _ in 0..NODES_MAX {
            let node = App::on(store.clone()).args(&RATE_LIMITS).args(&UNLIMITED_RATES);
            let node = node.args(&["--throttle-per-account", "10/5m", "--failure-cap", "1000"]);
            let node = node.args(&["--throttle-attempts-per-account", "1000000/1s"]);
            let node = node.args(&["--token-issuer", "https://auth.example"]).clock(clock.clone()).start().await;
            let channel = node.channel().await;
            nodes.push((node, channel));
        }
        Self { nodes, clock: clock.clone() }
    }

    /// Whether an attempt was admitted, which fails then.
    async fn is_admitted(&self, node: usize, username: &str) -> bool {
        let mut client = pb::auth_client::AuthClient::new(self.nodes[node].1.clone());
        let (username, password) = (username.into(), "wrong password".into());
        let request = pb::LoginRequest { username, password, challenge_solution: String::new() };
        match reason(&client.login(request).await.unwrap_err()).as_str() {
            "INVALID_CREDENTIALS" => true,
            "RATE_LIMITED" => false,
            other => panic!("{other}"),
        }
    }

    /// Makes random attempts at the first `count` nodes. Returns what breaks the bound.
    async fn violations(&self, count: usize, seed: u64) -> Vec<String> {
        let (mut random, username) = (Random(seed), format!("name-{count}-{seed}"));
        let (mut exact, mut longest, mut found) = (Exact::default(), Longest::default(), Vec::new());
        // Attempts that each node has admitted and perhaps not stored.
        let mut pending = vec![0; count];
        for step in 0..STEPS {
            let place = |why: String| format!("{count} nodes, seed {seed}, step {step}: {why}");
            match random.below(12) {
                0..6 => {
                    let node = usize::try_from(random.below(count as u64)).unwrap();
                    let others = pending.iter().sum::<u64>() - pending[node];
                    for _ in 0..random.below(14) {
                        let is_admitted = self.is_admitted(node, &username).await;
                        if !is_admitted {
                            // The time stands still, so the node would refuse the next one too.
                            found.extend(longest.refused().err().filter(|_| count == 1).map(place));
                            break;
                        }
                        longest.admitted();
                        pending[node] += 1;
                        found.extend(exact.admitted(others).err().map(place));
                    }
                }
                6..8 => {
                    for (node, pending) in pending.iter_mut().enumerate() {
                        if count == 1 || random.below(2) == 0 {
                            self.nodes[node].0.rules.store_failed_attempts().await;
                            *pending = 0;
                        }
                    }
                }
                8..11 => {
                    let millis = random.below_one_of(&[2_000, 60_000, 1_200_000]);
                    self.clock.advance(Duration::from_millis(millis));
                    exact.elapsed(millis);
                    longest.elapsed(millis);
                }
                _ => {
                    let millis = random.below_one_of(&[TOLERANCE, 7_200_000]);
                    if random.below(3) == 0 {
                        self.clock.advance_wall(Duration::from_millis(millis));
                        exact.elapsed(millis);
                        longest.elapsed(millis);
                    } else {
                        self.clock.set_back(Duration::from_millis(millis));
                        longest.set_back(millis);
                    }
                }
            }
        }
        found
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn attempts_at_up_to_sixteen_nodes_stay_within_an_exact_gcra_and_their_exchange() {
    let clock = Arc::new(ManualClock::stopped());
    let cluster = Cluster::start(&Faulty::with_clock(Fault::None, clock.clone()), &clock).await;
    for count in [1, 2, 3, 5, NODES_MAX] {
        for seed in seeds() {
            assert_eq!(cluster.violations(count, seed).await, [""; 0]);
        }
    }
}

/// The control: a state of more than four periods counts as none, as it did before.
#[tokio::test(flavor = "multi_thread")]
async fn control_gcra_states_that_are_ignored_where_they_are_long_break_the_bound() {
    let clock = Arc::new(ManualClock::stopped());
    let cluster = Cluster::start(&Faulty::with_clock(Fault::ForgetsLongStates, clock.clone()), &clock).await;
    let mut found = Vec::new();
    for seed in seeds() {
        found.extend(cluster.violations(NODES_MAX, seed).await);
    }
    assert!(!found.is_empty(), "the bound does not notice states that are ignored");
}
