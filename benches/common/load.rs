//! Calls to a server: closed loops for rates, and all at once for a storm.

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
use watchword::wire::pb::{LoginRequest, RegisterRequest, auth_client::AuthClient};

use crate::server::{Server, cpu_of_threads};

/// Calls in flight in a closed loop, spread over some connections.
pub(crate) const CONCURRENCY: usize = 32;
const CONNECTIONS: usize = 4;

/// The storm: logins that are all on their way before the first answer is waited for.
const STORM_CONNECTIONS: usize = 50;
const STORM_CALLS_PER_CONNECTION: usize = 100;

/// How long a closed loop leaves the server alone when it is asked to.
const BACK_OFF: Duration = Duration::from_millis(20);

pub(crate) const PASSWORD: &str = "correct horse battery staple";

pub(crate) type Client = AuthClient<Channel>;

/// A client of one server, with one user for each call in flight.
pub(crate) struct Load<'a> {
    runtime: &'a Runtime,
    server: &'a Server,
    clients: Vec<Client>,
    /// Numbers new names.
    names: Arc<AtomicU64>,
}

/// A closed loop and what it cost.
pub(crate) struct Loop {
    pub(crate) tally: Tally,
    took: Duration,
    server_beside_hash: Duration,
    client: Duration,
}

/// What became of calls.
#[derive(Default)]
pub(crate) struct Tally {
    succeeded: u64,
    /// Answered that the server is too busy.
    overloaded: u64,
    /// Answered anything else, or not at all; with the first one's words.
    failed: u64,
    failure: Option<String>,
}

pub(crate) async fn login(mut client: Client, username: String) -> Result<(), Status> {
    client.login(LoginRequest { username, password: PASSWORD.into() }).await.map(drop)
}

async fn register(mut client: Client, username: String) -> Result<(), Status> {
    client.register(RegisterRequest { username, password: PASSWORD.into(), ..Default::default() }).await.map(drop)
}

pub(crate) fn user(number: usize) -> String {
    format!("user-{number}")
}

// === impl Load ===

impl<'a> Load<'a> {
    /// Connects and registers the users, unless an earlier load did.
    pub(crate) fn new(runtime: &'a Runtime, server: &'a Server) -> Self {
        let load = Self::connect(runtime, server);
        for number in 0..CONCURRENCY {
            match runtime.block_on(register(load.clients[0].clone(), user(number))) {
                Ok(()) => {}
                Err(status) if status.code() == Code::AlreadyExists => {}
                Err(status) => panic!("a server registers users: {status:?}"),
            }
        }
        load
    }

    /// Connects, and registers nobody.
    pub(crate) fn connect(runtime: &'a Runtime, server: &'a Server) -> Self {
        let clients: Vec<_> = (0..CONNECTIONS).map(|_| Client::new(runtime.block_on(server.channel()))).collect();
        Self { runtime, server, clients, names: Arc::default() }
    }

    pub(crate) fn login(&self, time: Duration) -> Loop {
        self.closed_loop(time, |client, number| login(client, user(number)))
    }

    pub(crate) fn register(&self, time: Duration) -> Loop {
        let names = self.names.clone();
        let name = move || format!("new-{}", names.fetch_add(1, Ordering::Relaxed));
        self.closed_loop(time, move |client, _| register(client, name()))
    }

    /// Keeps [`CONCURRENCY`] calls in flight for `time`, and counts to the last answer.
    pub(crate) fn closed_loop<C, F>(&self, time: Duration, call: C) -> Loop
    where
        C: Fn(Client, usize) -> F + Clone + Send + 'static,
        F: Future<Output = Result<(), Status>> + Send + 'static,
    {
        let beside_hash = |thread: &str| !thread.starts_with("hash-");
        let cpu = || (cpu_of_threads(self.server.id(), beside_hash), cpu_of_threads(process::id(), |_| true));
        let (before, start) = (cpu(), Instant::now());
        let tallies = self.runtime.block_on(async {
            let mut loops = JoinSet::new();
            for number in 0..CONCURRENCY {
                let client = self.clients[number % CONNECTIONS].clone();
                loops.spawn(repeat(call.clone(), client, number, start + time));
            }
            loops.join_all().await
        });
        let (took, after) = (start.elapsed(), cpu());
        let (server_beside_hash, client) = (after.0 - before.0, after.1 - before.1);
        Loop { tally: tallies.iter().sum(), took, server_beside_hash, client }
    }

    /// 5 000 logins at once, on connections of their own.
    pub(crate) fn storm(&self) -> Tally {
        self.runtime.block_on(async {
            let mut clients = Vec::new();
            for _ in 0..STORM_CONNECTIONS {
                clients.push(Client::new(self.server.channel().await));
            }
            let mut calls = JoinSet::new();
            for number in 0..STORM_CALLS_PER_CONNECTION {
                for client in &clients {
                    calls.spawn(login(client.clone(), user(number % CONCURRENCY)));
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

async fn repeat<C, F>(call: C, client: Client, number: usize, end: Instant) -> Tally
where
    C: Fn(Client, usize) -> F,
    F: Future<Output = Result<(), Status>>,
{
    let mut tally = Tally::default();
    while Instant::now() < end {
        let answer = call(client.clone(), number).await;
        tally.count(&answer);
        if is_overloaded(&answer) {
            time::sleep(BACK_OFF).await;
        }
    }
    tally
}

fn is_overloaded(answer: &Result<(), Status>) -> bool {
    answer.as_ref().is_err_and(|status| status.code() == Code::ResourceExhausted)
}

// === impl Loop, Tally ===

impl Loop {
    /// Successes a second.
    pub(crate) fn rate(&self) -> f64 {
        self.tally.succeeded as f64 / self.took.as_secs_f64()
    }

    /// CPU of the server's other threads, for each success.
    pub(crate) fn server_micros(&self) -> f64 {
        self.server_beside_hash.as_secs_f64() * 1e6 / self.tally.succeeded as f64
    }

    /// CPU of this process, for each success.
    pub(crate) fn client_micros(&self) -> f64 {
        self.client.as_secs_f64() * 1e6 / self.tally.succeeded as f64
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
        failure.iter().try_for_each(|words| write!(f, " ({words})"))
    }
}
