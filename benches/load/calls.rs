//! Calls in closed loops, for rates: each caller makes its next call after the response to its last one.

use std::{
    fmt,
    future::Future,
    iter::Sum,
    process,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::{runtime::Runtime, task::JoinSet, time};
use tonic::{Code, Status, transport::Channel};
use watchword::api::pb::{LoginRequest, RegisterRequest, auth_client::AuthClient};

use crate::server::{Server, cpu_of_threads};

/// Concurrent calls in a closed loop, spread over [`CONNECTIONS`].
pub(crate) const CONCURRENCY: usize = 32;
const CONNECTIONS: usize = 4;

/// A crowd: logins that are all sent before the first response is awaited.
const CROWD_CONNECTIONS: usize = 50;
const CROWD_CALLS_PER_CONNECTION: usize = 100;

/// The delay of a caller after a response that the server is overloaded.
const BACK_OFF: Duration = Duration::from_millis(20);

pub(crate) const PASSWORD: &str = "correct horse battery staple";

pub(crate) type Client = AuthClient<Channel>;

/// A load generator for one server.
pub(crate) struct Load<'a> {
    runtime: &'a Runtime,
    server: &'a Server,
    clients: Vec<Client>,
    users: u64,
    /// The number of the user that logs in next.
    next: Arc<AtomicU64>,
    /// The number of the next new username.
    names: Arc<AtomicU64>,
}

/// The results of a closed loop, and the CPU time that it took.
pub(crate) struct Loop {
    pub(crate) tally: Tally,
    took: Duration,
    server_hash: Duration,
    server_other: Duration,
    client: Duration,
}

/// The numbers of calls by outcome.
#[derive(Default)]
pub(crate) struct Tally {
    pub(crate) succeeded: u64,
    /// Refused because the server is overloaded.
    overloaded: u64,
    /// All other errors.
    failed: u64,
    /// The code and message of the first of them.
    failure: Option<String>,
}

pub(crate) async fn login(mut client: Client, username: String) -> Result<(), Status> {
    client.login(LoginRequest { username, password: PASSWORD.into(), ..Default::default() }).await.map(drop)
}

async fn register(mut client: Client, username: String) -> Result<(), Status> {
    client.register(RegisterRequest { username, password: PASSWORD.into(), ..Default::default() }).await.map(drop)
}

pub(crate) fn user(number: u64) -> String {
    format!("user-{number}")
}

// === impl Load ===

impl<'a> Load<'a> {
    /// Connects to a server that has `users` users.
    pub(crate) fn connect(runtime: &'a Runtime, server: &'a Server, users: u64) -> Self {
        let clients: Vec<_> = (0..CONNECTIONS).map(|_| Client::new(runtime.block_on(server.channel()))).collect();
        Self { runtime, server, clients, users, next: Arc::default(), names: Arc::default() }
    }

    /// Connects to a server without users and registers them over its API, for a store that cannot be filled directly.
    pub(crate) fn register_and_connect(runtime: &'a Runtime, server: &'a Server, users: u64) -> Self {
        let load = Self::connect(runtime, server, users);
        for number in 0..users {
            runtime.block_on(register(load.clients[0].clone(), user(number))).expect("a server registers users");
        }
        load
    }

    /// A client on a connection of the load.
    pub(crate) fn client(&self) -> Client {
        self.clients[0].clone()
    }

    /// Logs in the users in turn.
    pub(crate) fn login(&self, time: Duration) -> Loop {
        let (next, users) = (self.next.clone(), self.users);
        self.closed_loop(time, move |client, _| login(client, user(next.fetch_add(1, Ordering::Relaxed) % users)))
    }

    pub(crate) fn register(&self, time: Duration) -> Loop {
        let names = self.names.clone();
        let name = move || format!("new-{}", names.fetch_add(1, Ordering::Relaxed));
        self.closed_loop(time, move |client, _| register(client, name()))
    }

    /// Keeps [`CONCURRENCY`] calls running for `time`, and measures until the last response.
    pub(crate) fn closed_loop<C, F>(&self, time: Duration, call: C) -> Loop
    where
        C: Fn(Client, usize) -> F + Clone + Send + 'static,
        F: Future<Output = Result<(), Status>> + Send + 'static,
    {
        let clients = self.clients.clone();
        let is_hash_worker = |thread: &str| thread.starts_with("hash-");
        let cpu = || {
            let of_server = |wanted: &dyn Fn(&str) -> bool| cpu_of_threads(self.server.id(), wanted);
            [
                of_server(&is_hash_worker),
                of_server(&|thread| !is_hash_worker(thread)),
                cpu_of_threads(process::id(), |_| true),
            ]
        };
        let before = cpu();
        let (tally, took) =
            drive(self.runtime, time, move |number| call(clients[number % CONNECTIONS].clone(), number));
        let after = cpu();
        // The sum is lower if a thread has ended.
        let [server_hash, server_other, client] = [0, 1, 2].map(|of| after[of].saturating_sub(before[of]));
        Loop { tally, took, server_hash, server_other, client }
    }

    /// Logs in users on two nodes, with half of the callers on each; returns successes per second, and their number.
    pub(crate) fn login_on_both(nodes: &[Self; 2], time: Duration) -> (f64, u64) {
        let [one, other] = nodes;
        let clients: Vec<_> =
            one.clients.iter().zip(&other.clients).flat_map(|(a, b)| [a.clone(), b.clone()]).collect();
        let (next, users) = (one.next.clone(), one.users);
        let (tally, took) = drive(one.runtime, time, move |number| {
            let user = user(next.fetch_add(1, Ordering::Relaxed) % users);
            login(clients[number % clients.len()].clone(), user)
        });
        (tally.succeeded as f64 / took.as_secs_f64(), tally.succeeded)
    }

    /// Sends 5 000 logins at once, on new connections.
    pub(crate) fn crowd(&self) -> Tally {
        self.runtime.block_on(async {
            let mut clients = Vec::new();
            for _ in 0..CROWD_CONNECTIONS {
                clients.push(Client::new(self.server.channel().await));
            }
            let mut calls = JoinSet::new();
            for _ in 0..CROWD_CALLS_PER_CONNECTION {
                for client in &clients {
                    let number = self.next.fetch_add(1, Ordering::Relaxed) % self.users;
                    calls.spawn(login(client.clone(), user(number)));
                }
            }
            let mut tally = Tally::default();
            while let Some(answer) = calls.join_next().await {
                tally.count(&answer.expect("a call does not panic"));
            }
            tally
        })
    }
}

/// Keeps [`CONCURRENCY`] calls running for `time`; returns the time until the last response too.
pub(crate) fn drive<C, F>(runtime: &Runtime, time: Duration, call: C) -> (Tally, Duration)
where
    C: Fn(usize) -> F + Clone + Send + 'static,
    F: Future<Output = Result<(), Status>> + Send + 'static,
{
    let start = Instant::now();
    let tallies = runtime.block_on(async {
        let mut loops = JoinSet::new();
        for number in 0..CONCURRENCY {
            loops.spawn(repeat(call.clone(), number, start + time));
        }
        loops.join_all().await
    });
    (tallies.iter().sum(), start.elapsed())
}

async fn repeat<C, F>(call: C, number: usize, end: Instant) -> Tally
where
    C: Fn(usize) -> F,
    F: Future<Output = Result<(), Status>>,
{
    let mut tally = Tally::default();
    while Instant::now() < end {
        let answer = call(number).await;
        tally.count(&answer);
        if is_overloaded(&answer) {
            time::sleep(BACK_OFF).await;
        }
    }
    tally
}

pub(crate) fn is_overloaded(answer: &Result<(), Status>) -> bool {
    answer.as_ref().is_err_and(|status| status.code() == Code::ResourceExhausted)
}

// === impl Loop, Tally ===

impl Loop {
    /// Successes per second.
    pub(crate) fn rate(&self) -> f64 {
        self.tally.succeeded as f64 / self.took.as_secs_f64()
    }

    /// CPU time of the server's hash workers for each success, in microseconds.
    pub(crate) fn hash_micros(&self) -> f64 {
        self.micros(self.server_hash)
    }

    /// CPU time of the server's other threads for each success, in microseconds.
    pub(crate) fn server_micros(&self) -> f64 {
        self.micros(self.server_other)
    }

    /// The share of its one core that the client's thread used.
    pub(crate) fn client_share(&self) -> f64 {
        self.client.as_secs_f64() / self.took.as_secs_f64()
    }

    /// CPU time of this process for each success, in microseconds.
    pub(crate) fn client_micros(&self) -> f64 {
        self.micros(self.client)
    }

    fn micros(&self, cpu: Duration) -> f64 {
        cpu.as_secs_f64() * 1e6 / self.tally.succeeded as f64
    }
}

impl Tally {
    fn count(&mut self, answer: &Result<(), Status>) {
        match answer {
            Ok(()) => self.succeeded += 1,
            Err(_) if is_overloaded(answer) => self.overloaded += 1,
            Err(status) => {
                self.failed += 1;
                self.failure.get_or_insert_with(|| format!("{:?}: {}", status.code(), status.message()));
            }
        }
    }
}

impl<'a> Sum<&'a Tally> for Tally {
    fn sum<I: Iterator<Item = &'a Tally>>(tallies: I) -> Self {
        tallies.fold(Tally::default(), |sum, next| Tally {
            succeeded: sum.succeeded + next.succeeded,
            overloaded: sum.overloaded + next.overloaded,
            failed: sum.failed + next.failed,
            failure: sum.failure.or_else(|| next.failure.clone()),
        })
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Tally { succeeded, overloaded, failed, failure } = self;
        write!(f, "{succeeded} succeeded, {overloaded} overloaded, {failed} failed")?;
        failure.iter().try_for_each(|failure| write!(f, " ({failure})"))
    }
}
