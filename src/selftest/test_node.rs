//! The node under test: a complete node on loopback, with its store in a temporary folder or in a Redis database of its own.
//!
//! Uses the settings of the operator that determine the time of a response: the hash workers and the cost of a hash. Rate
//! limits are on, but above the number of calls of the test. Metrics and the audit log, to a file, are on.

use std::{
    fs::{self, DirBuilder},
    net::SocketAddr,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use futures_util::{StreamExt, TryStreamExt, stream};
use tokio::sync::oneshot;

use super::{
    accounts::{AccountKind, NAME_BYTES, TestHashes, random_password, random_text},
    caller::{ApiConnection, TestCall, TestedApi},
};
use crate::{
    app::App,
    common::host,
    config::Config,
    domain::{Claim, Environment, Event, Observer, Rate, RateLimitSettings, Store, StoreError, System},
    net::Address,
    store::{self, StoreSettings},
    telemetry::AuditLog,
};

/// A rate limit that the test does not reach.
const UNREACHED: Rate = Rate { events: 1_000_000, period: Duration::from_secs(1) };

/// Failed attempts that lock an account out. No other account of the test has more than one.
const LOCKOUT_THRESHOLD: u32 = 10;

/// The number of accounts that are locked out. Each is used several times.
const LOCKED_ACCOUNTS: usize = 8;

/// Users that are stored concurrently: as many as the store takes in one commit.
const STORE_CONCURRENCY: usize = 256;

/// The node, and the users in its store.
pub(super) struct TestNode {
    /// The addresses of its gRPC API and its HTTP API.
    listeners: [SocketAddr; 2],
    store: Arc<dyn Store>,
    hashes: Arc<HashCounter>,
    test_hashes: TestHashes,
    locked: Vec<String>,
    running: Option<(oneshot::Sender<()>, JoinHandle<()>)>,
    _folder: TempFolder,
}

/// Counts the hashes of the node, and keeps the duration of the last one.
#[derive(Debug, Default)]
struct HashCounter {
    count: AtomicU64,
    last_nanos: AtomicU64,
}

/// A folder that is removed when it is dropped.
struct TempFolder(PathBuf);

impl TestNode {
    /// Starts the node.
    pub(super) async fn start(config: &Config) -> Result<Self, String> {
        let folder = TempFolder::new()?;
        let hashes = Arc::new(HashCounter::default());
        let config = settings(config, &folder.0);
        let test_hashes = TestHashes::new(config.hashing.cost, &config.pepper).await?;
        let environment = Environment { clock: Arc::new(System), entropy: Arc::new(System), observer: hashes.clone() };
        let (stop, stopped) = oneshot::channel();
        let (started, start_result) = oneshot::channel();
        // A thread with its own runtime, so that the node and the caller do not wait for each other.
        let thread = thread::Builder::new().name("selftest-node".into()).spawn(move || {
            serve(config, environment, started, stopped);
        });
        let thread = thread.map_err(|cause| cause.to_string())?;
        let started = start_result.await.unwrap_or_else(|_| Err("the node under test did not start".into()));
        let (listeners, store) = started?;
        let running = Some((stop, thread));
        let mut node = Self { listeners, store, hashes, test_hashes, locked: Vec::new(), running, _folder: folder };
        node.locked = node.lock(LOCKED_ACCOUNTS).await?;
        Ok(node)
    }

    /// Opens a connection to an API.
    pub(super) async fn connect(&self, api: TestedApi) -> Result<ApiConnection, String> {
        let [grpc, http] = self.listeners;
        ApiConnection::connect(api, if api == TestedApi::Grpc { grpc } else { http }).await
    }

    /// The number of hashes of the node so far.
    pub(super) fn hashes(&self) -> u64 {
        self.hashes.count.load(Ordering::Acquire)
    }

    /// The duration of the last hash.
    pub(super) fn last_hash(&self) -> Duration {
        Duration::from_nanos(self.hashes.last_nanos.load(Ordering::Acquire))
    }

    /// Names of this kind that are not used yet. Locked ones are reused.
    pub(super) async fn names(&self, kind: AccountKind, count: usize) -> Result<Vec<String>, String> {
        if kind == AccountKind::Locked {
            return Ok(self.locked.iter().cycle().take(count).cloned().collect());
        }
        let names: Vec<_> = (0..count).map(|_| random_text(NAME_BYTES)).collect();
        self.store_all(kind, &names).await?;
        Ok(names)
    }

    async fn store_all(&self, kind: AccountKind, names: &[String]) -> Result<(), String> {
        let users = names.iter().filter_map(|name| self.test_hashes.user(kind, name, self.store.now()));
        let stored = stream::iter(users).map(|user| async move { self.store.claim(&user).await });
        let stored: Vec<_> = stored.buffer_unordered(STORE_CONCURRENCY).try_collect().await.map_err(not_stored)?;
        if stored.iter().all(|claim| matches!(claim, Claim::Claimed)) {
            Ok(())
        } else {
            Err("a random name appeared twice".into())
        }
    }

    /// Creates users and locks them out with wrong passwords.
    async fn lock(&self, count: usize) -> Result<Vec<String>, String> {
        let names = self.names(AccountKind::User, count).await?;
        let mut connection = self.connect(TestedApi::Grpc).await?;
        for name in &names {
            for _ in 0..LOCKOUT_THRESHOLD {
                connection.send(TestCall::Login, name, &random_password()).await?;
            }
        }
        Ok(names)
    }
}

impl Drop for TestNode {
    fn drop(&mut self) {
        if let Some((stop, thread)) = self.running.take() {
            // An error says that the node has already ended.
            let _ended = stop.send(());
            drop(thread.join());
        }
    }
}

impl Observer for HashCounter {
    fn on(&self, event: &Event<'_>) {
        if let Event::Hashed { took, .. } = event {
            self.last_nanos.store(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX), Ordering::Release);
            self.count.fetch_add(1, Ordering::Release);
        }
    }
}

impl TempFolder {
    fn new() -> Result<Self, String> {
        let path = std::env::temp_dir().join(format!("watchword-selftest-{}", random_text(NAME_BYTES)));
        let created = DirBuilder::new().mode(0o700).create(&path);
        created.map_err(|cause| format!("{}: {cause}", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for TempFolder {
    fn drop(&mut self) {
        if let Err(cause) = fs::remove_dir_all(&self.0) {
            tracing::warn!(folder = %self.0.display(), %cause, "temporary folder of the selftest could not be removed");
        }
    }
}

/// The settings of the node: those of the operator, except what the test must control.
fn settings(config: &Config, folder: &Path) -> Config {
    let free = Address::Tcp(SocketAddr::from(([127, 0, 0, 1], 0)));
    let mut rules = config.rules.clone();
    (rules.challenges.register, rules.challenges.login) = (false, false);
    Config {
        grpc: free.clone(),
        http: Some(free),
        ops: None,
        admin: None,
        admin_is_named: false,
        store: match &config.store {
            StoreSettings::Embedded { must_exist, .. } => {
                StoreSettings::Embedded { folder: folder.join("data"), must_exist: *must_exist }
            }
            StoreSettings::Memory | StoreSettings::Redis(_) => config.store.clone(),
        },
        seal: Arc::new(store::Seal::none()),
        rules,
        throttle: Some(RateLimitSettings {
            per_address: UNREACHED,
            per_account: UNREACHED,
            per_address_and_account: UNREACHED,
            proof_of_work_per_account: UNREACHED,
            attempts_per_address: UNREACHED,
            attempts_per_account: UNREACHED,
            registrations: UNREACHED,
            per_session: UNREACHED,
            alert: UNREACHED,
            registration_alert: UNREACHED,
            asks_unknown_for_work: false,
            lockout_threshold: LOCKOUT_THRESHOLD,
            lockout_is_strict: true,
        }),
        token_issuer: None,
        oauth_clients: None,
        legacy_routes: true,
        audit_log: AuditLog::File(folder.join("audit.jsonl")),
        drain_delay: Duration::ZERO,
        ..config.clone()
    }
}

type StartResult = Result<([SocketAddr; 2], Arc<dyn Store>), String>;

/// Runs the node: reports the result of the start, and serves until it is stopped.
fn serve(
    config: Config,
    environment: Environment,
    report: oneshot::Sender<StartResult>,
    stopped: oneshot::Receiver<()>,
) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(host::cores()).enable_all().build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(cause) => return drop(report.send(Err(cause.to_string()))),
    };
    runtime.block_on(async {
        let started = match start(config, environment).await {
            Ok((app, listeners, store)) => report.send(Ok((listeners, store))).map(|()| app).map_err(drop),
            Err(fault) => report.send(Err(fault)).map_err(drop).and(Err(())),
        };
        if let Ok(app) = started {
            app.run(async { drop(stopped.await) }).await;
        }
    });
}

async fn start(config: Config, environment: Environment) -> Result<(App, [SocketAddr; 2], Arc<dyn Store>), String> {
    let store = store::open(&config.store, config.seal.clone(), &config.pepper, &environment).await;
    let store = store.map_err(|error| error.to_string())?;
    let app = App::start_on(config, environment, store.clone()).map_err(|error| error.to_string())?;
    let addresses = app.addresses();
    match (addresses.grpc, addresses.http) {
        (Address::Tcp(grpc), Some(Address::Tcp(http))) => Ok((app, [grpc, http], store)),
        _ => Err("the node under test does not listen on TCP".into()),
    }
}

fn not_stored(error: StoreError) -> String {
    format!("the users of the test could not be stored: {error:?}")
}
