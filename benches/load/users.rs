//! Users that exist before a server starts.
//!
//! Written directly to `domain::Store` without hashing, or with sessions, which the domain creates at a low hash cost.

use std::{
    path::PathBuf,
    sync::{
        Arc, LazyLock,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use base64::{Engine, engine::general_purpose::STANDARD_NO_PAD};
use tempfile::TempDir;
use tokio::{runtime::Runtime, sync::Semaphore, task::JoinSet};
use watchword::{
    app::App,
    config::Config,
    domain::{
        Api, Bearer, CallContext, Claim, Credentials, Entropy, Environment, PasswordHash, Peer, Registration, Store,
        System, Tokens, User, UserData, Username,
        password::{Cost, Pepper},
    },
    store::{self, Seal},
};

use crate::{
    calls::{PASSWORD, user},
    raw,
    redis::Redis,
    server::{OURS, SCRATCH, Server},
};

/// The token issuer of all servers.
pub(crate) const ISSUER: &str = "http://127.0.0.1:5000";

/// The hash cost of users with sessions: these hashes are not measured.
const LOW_COST: Cost = Cost { memory_kib: 64, passes: 1, lanes: 1 };

/// The users in the store of a server.
#[derive(Clone, Copy, Default)]
pub(crate) struct Population {
    /// Users with the password of [`calls`](crate::calls) and a hash of the default cost.
    pub(crate) users: u64,
    /// Additional users with sessions.
    pub(crate) with_sessions: usize,
    /// The number of sessions of each of them.
    pub(crate) sessions: usize,
}

/// A server with users. Dropping it deletes its folder.
pub(crate) struct Populated {
    pub(crate) server: Server,
    /// The tokens of all sessions: first the first session of each user, then the second.
    pub(crate) tokens: Arc<Vec<Tokens>>,
    flags: Vec<String>,
    folder: TempDir,
}

/// The store and the build of a server.
#[derive(Clone, Copy)]
pub(crate) struct Setup<'a> {
    pub(crate) build: &'a str,
    /// The embedded store if `None`.
    pub(crate) redis: Option<&'a Redis>,
    pub(crate) flags: &'a [&'a str],
    /// The parent of the server's folder.
    pub(crate) within: &'a str,
}

impl Default for Setup<'_> {
    fn default() -> Self {
        Self { build: OURS, redis: None, flags: &[], within: SCRATCH }
    }
}

impl Populated {
    /// Fills a store, and starts a server on it.
    pub(crate) fn start(runtime: &Runtime, setup: Setup<'_>, population: Population) -> Self {
        let Setup { build, redis, flags, within } = setup;
        let folder = TempDir::new_in(within).expect("the folder is writable");
        let url = redis.map_or("embedded:".to_owned(), Redis::url);
        let data = folder.path().join("data").display().to_string();
        // Longer than the benchmark, so that no token expires.
        let place = ["--store", &url, "--data-dir", &data, "--token-issuer", ISSUER, "--access-token-lifetime", "1h"];
        let tokens = Arc::new(runtime.block_on(populate(&place, population)));
        let flags = [&place[..2], &place[4..], flags].concat();
        let server = Server::start_build(build, &folder.path().join("data"), &flags);
        Self { server, tokens, flags: flags.into_iter().map(str::to_owned).collect(), folder }
    }

    /// Stops the server and starts a new one on its store.
    pub(crate) fn restart(&mut self) {
        self.server.stop();
        self.server = Server::start_on(&self.folder(), &self.flags());
    }

    /// The server's data folder.
    pub(crate) fn folder(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// The flags of the server.
    pub(crate) fn flags(&self) -> Vec<&str> {
        self.flags.iter().map(String::as_str).collect()
    }
}

/// Creates the users in this process, in the store of the future server.
async fn populate(place: &[&str], population: Population) -> Vec<Tokens> {
    let free =
        ["watchword", "--grpc-addr", "127.0.0.1:0", "--http-addr", "off", "--ops-addr", "off", "--admin-addr", "off"];
    let mut config = Config::from_args([&free[..], place].concat()).expect("the settings are valid");
    config.hashing.cost = LOW_COST;
    let settings = config.store.clone();
    let store = store::open(&settings, Arc::new(Seal::none()), &Pepper::none(), &environment())
        .await
        .expect("a new store opens");
    load_all(&store, population.users).await;
    store.close().await;
    drop(store);
    if population.with_sessions == 0 {
        return Vec::new();
    }
    let app = App::start(config, environment()).await.expect("a server starts");
    let auth = app.auth();
    // At most as many at once as the hash queue accepts.
    let (mut all, permits) = (JoinSet::new(), Arc::new(Semaphore::new(8)));
    for number in 0..population.with_sessions {
        let (auth, permits) = (auth.clone(), permits.clone());
        all.spawn(async move {
            let _permit = permits.acquire().await.expect("the semaphore is never closed");
            let name = format!("signed-{number}");
            let registration = Registration::parse(auth.rules(), &name, PASSWORD.into(), String::new(), "", None);
            auth.register(&context(), registration.expect("valid values")).await.expect("the store accepts users");
            let mut tokens = Vec::new();
            for _ in 0..population.sessions {
                let attempt = Credentials::parse(&name, PASSWORD.into(), None).expect("valid values");
                tokens.push(auth.login(&context(), attempt).await.expect("the password is right").1);
            }
            tokens
        });
    }
    let tokens = all.join_all().await;
    app.run(async {}).await;
    (0..population.sessions).flat_map(|session| tokens.iter().map(move |of_user| of_user[session].clone())).collect()
}

fn context() -> CallContext {
    let deadline = Instant::now() + Duration::from_secs(60);
    CallContext {
        api: Api::Grpc,
        peer: Peer::Local { uid: None },
        client: None,
        deadline,
        bearer: Bearer::Missing,
        user_agent: "bench".into(),
    }
}

/// Writes users to the store, with many concurrent writers.
pub(crate) async fn load_all(store: &Arc<dyn Store>, users: u64) {
    let next = Arc::new(AtomicU64::new(0));
    let mut writers = JoinSet::new();
    for _ in 0..512.min(users) {
        let (store, next) = (store.clone(), next.clone());
        writers.spawn(async move {
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= users {
                    return;
                }
                claim(&*store, number).await;
            }
        });
    }
    writers.join_all().await;
}

pub(crate) async fn claim(store: &dyn Store, number: u64) {
    let claimed = store.claim(&registered(number)).await.expect("the store answers");
    assert!(matches!(claimed, Claim::Claimed), "every name is new");
}

/// A user as after a registration. All users share one hash.
fn registered(number: u64) -> User {
    static PHC: LazyLock<String> = LazyLock::new(|| {
        let encode = |bytes: &[u8]| STANDARD_NO_PAD.encode(bytes);
        let Cost { memory_kib, passes, lanes } = Cost::DEFAULT;
        let (salt, tag) = (encode(raw::SALT), encode(&raw::tag_of(&mut raw::pooled())));
        format!("$argon2id$v=19$m={memory_kib},t={passes},p={lanes}${salt}${tag}")
    });
    let now = SystemTime::UNIX_EPOCH + Duration::from_millis(1_764_000_000_000 + number);
    let username = Username::parse(&user(number)).expect("a valid username");
    let data = UserData::parse("testing".into(), 100).expect("short data");
    User::new(username, PasswordHash::parse(&PHC).expect("a hash"), data, now, (&System as &dyn Entropy).bytes())
}

pub(crate) fn environment() -> Environment {
    Environment { clock: Arc::new(System), entropy: Arc::new(System), observer: Arc::new(()) }
}
