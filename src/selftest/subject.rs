//! The node under test: a whole one of its own, on loopback, with its store in a folder that vanishes with it.
//!
//! What decides the time of an answer is the operator's: the hash workers and the cost of a hash. The limits on guessing are
//! on, with room for every call of the test, and so are metrics and the audit, which goes to a file.

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

use super::line::{Call, Line, Via};
use crate::{
    app::App,
    common::host,
    config::Config,
    domain::{
        Claim, Clock, Entropy, Environment, Event, HashPool, KeptCode, Observer, Password, PasswordHash, Rate,
        RateLimitSettings, Store, System, User, UserData, Username,
        password::{Cost, Kernel, Md5Hex, PoolSettings, Purpose},
    },
    net::Address,
    store,
    telemetry::AuditLog,
};

/// No limit on guessing is reached by it.
const ROOM: Rate = Rate { most: 1_000_000, per: Duration::from_secs(1) };

/// Failures that lock an account; no other account of the test has more than one.
const FAILURE_CAP: u32 = 10;

/// Accounts that are locked; each is tried again and again.
const LOCKED: usize = 8;

/// Users stored at once: as many as the store takes in one commit.
const STORED_AT_ONCE: usize = 256;

/// Bytes of chance in a name and in a password; all are equally long.
const NAME_BYTES: usize = 8;
const PASSWORD_BYTES: usize = 12;

/// Whose name is tried. Nobody here knows a right password.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Who {
    /// A user with a password of today's form.
    User,
    /// Another one.
    Another,
    /// Nobody.
    Nobody,
    /// A user of an older program, whose MD5 is kept under Argon2id.
    OfMd5,
    /// A user who is disabled.
    Disabled,
    /// A user who had too many failures, where that locks the account.
    Locked,
    /// A user who has no password.
    WithoutPassword,
    /// A user for whom a reset code was made.
    WithCode,
    /// Planted: a user whose stored hash is as cheap as there is, as if there were no hash.
    OfNoCost,
    /// Planted: a user whose stored hash takes a twentieth less.
    OfLessCost,
}

/// The node, and the users in its store.
pub(super) struct Subject {
    /// Its gRPC door and its HTTP door.
    listeners: [SocketAddr; 2],
    store: Arc<dyn Store>,
    hashes: Arc<Hashes>,
    forms: Forms,
    locked: Vec<String>,
    running: Option<(oneshot::Sender<()>, JoinHandle<()>)>,
    _folder: Folder,
}

/// Stored forms of passwords that nobody knows.
struct Forms {
    current: PasswordHash,
    of_md5: PasswordHash,
    of_no_cost: PasswordHash,
    of_less_cost: PasswordHash,
}

/// Counts the hashes that the node made, and keeps how long the last one took.
#[derive(Debug, Default)]
struct Hashes {
    count: AtomicU64,
    last_nanos: AtomicU64,
}

/// A folder that vanishes.
struct Folder(PathBuf);

impl Subject {
    /// Starts it.
    pub(super) async fn start(config: &Config) -> Result<Self, String> {
        let folder = Folder::new()?;
        let hashes = Arc::new(Hashes::default());
        let config = settings(config, &folder.0);
        let forms = Forms::new(config.hashing.cost).await?;
        let environment = Environment { clock: Arc::new(System), entropy: Arc::new(System), observer: hashes.clone() };
        let (stop, stopped) = oneshot::channel();
        let (tell, told) = oneshot::channel();
        // The runtime of the caller's own thread is not the node's: they would wait for each other.
        let thread = thread::Builder::new().name("selftest-node".into()).spawn(move || {
            serve(config, environment, tell, stopped);
        });
        let thread = thread.map_err(|cause| cause.to_string())?;
        let started = told.await.unwrap_or_else(|_| Err("the node under test did not start".into()));
        let (listeners, store) = started?;
        let running = Some((stop, thread));
        let mut subject = Self { listeners, store, hashes, forms, locked: Vec::new(), running, _folder: folder };
        subject.locked = subject.lock(LOCKED).await?;
        Ok(subject)
    }

    /// A new connection to a door.
    pub(super) async fn connect(&self, via: Via) -> Result<Line, String> {
        let [grpc, http] = self.listeners;
        Line::connect(via, if via == Via::Grpc { grpc } else { http }).await
    }

    /// How many passwords the node has hashed.
    pub(super) fn hashes(&self) -> u64 {
        self.hashes.count.load(Ordering::Acquire)
    }

    /// How long the last of them took.
    pub(super) fn last_hash(&self) -> Duration {
        Duration::from_nanos(self.hashes.last_nanos.load(Ordering::Acquire))
    }

    /// So many names of that kind that nobody has tried yet; locked ones were tried, and come again.
    pub(super) async fn names(&self, who: Who, count: usize) -> Result<Vec<String>, String> {
        if who == Who::Locked {
            return Ok(self.locked.iter().cycle().take(count).cloned().collect());
        }
        let names: Vec<_> = (0..count).map(|_| text(NAME_BYTES)).collect();
        self.store_all(who, &names).await?;
        Ok(names)
    }

    async fn store_all(&self, who: Who, names: &[String]) -> Result<(), String> {
        let users = names.iter().filter_map(|name| self.user(who, name));
        let stored = stream::iter(users).map(|user| async move { self.store.claim(&user).await });
        let stored: Vec<_> = stored.buffer_unordered(STORED_AT_ONCE).try_collect().await.map_err(not_stored)?;
        if stored.iter().all(|claim| matches!(claim, Claim::Claimed)) {
            Ok(())
        } else {
            Err("a name came twice".into())
        }
    }

    /// The user of that name, if there is to be one.
    fn user(&self, who: Who, name: &str) -> Option<User> {
        let with = |hash: &PasswordHash| {
            let username = Username::parse(name).expect("letters and digits are a name");
            User::new(username, hash.clone(), UserData::default(), self.store.now(), &System)
        };
        let current = with(&self.forms.current);
        match who {
            Who::Nobody => None,
            Who::User | Who::Another | Who::Locked => Some(current),
            Who::OfMd5 => Some(with(&self.forms.of_md5)),
            Who::Disabled => Some(User { disabled: true, ..current }),
            Who::WithoutPassword => Some(User { password: None, ..current }),
            Who::WithCode => Some(User { reset: Some(KeptCode::made_up(self.store.now(), &System)), ..current }),
            Who::OfNoCost => Some(with(&self.forms.of_no_cost)),
            Who::OfLessCost => Some(with(&self.forms.of_less_cost)),
        }
    }

    /// Users who are locked, by as many wrong passwords as that takes.
    async fn lock(&self, count: usize) -> Result<Vec<String>, String> {
        let names = self.names(Who::User, count).await?;
        let mut line = self.connect(Via::Grpc).await?;
        for name in &names {
            for _ in 0..FAILURE_CAP {
                line.ask(Call::Login, name, &password()).await?;
            }
        }
        Ok(names)
    }
}

impl Drop for Subject {
    fn drop(&mut self) {
        if let Some((stop, thread)) = self.running.take() {
            // Errors say that it has ended already.
            let _ended = stop.send(());
            drop(thread.join());
        }
    }
}

impl Forms {
    async fn new(cost: Cost) -> Result<Self, String> {
        let least = Cost { memory_kib: 8 * cost.lanes, passes: 1, ..cost };
        // Argon2 rounds memory down to 4 KiB a lane (RFC 9106 3.2).
        let less = Cost { memory_kib: (cost.memory_kib / 20 * 19).max(least.memory_kib), ..cost };
        let md5 = Md5Hex::parse(&text(16)).expect("32 hexadecimal digits");
        Ok(Self {
            current: hash(cost).await?,
            of_md5: permit(&pool(cost))?.wrap_md5(md5).await.map_err(|error| format!("{error:?}"))?,
            of_no_cost: hash(least).await?,
            of_less_cost: hash(less).await?,
        })
    }
}

async fn hash(cost: Cost) -> Result<PasswordHash, String> {
    let password = Password::parse(password()).expect("letters and digits are a password");
    permit(&pool(cost))?.hash(password).await.map_err(|error| format!("{error:?}"))
}

fn pool(cost: Cost) -> HashPool {
    let environment = Environment { clock: Arc::new(System), entropy: Arc::new(System), observer: Arc::new(()) };
    HashPool::start(PoolSettings { workers: 1, cost }, Kernel::choose(), &environment)
}

fn permit(pool: &HashPool) -> Result<crate::domain::password::QueuePermit, String> {
    let deadline = System.monotonic() + Duration::from_secs(30);
    pool.admit(Purpose::Registration, deadline).map_err(|error| format!("{error:?}"))
}

impl Observer for Hashes {
    fn on(&self, event: &Event<'_>) {
        if let Event::Hashed { took, .. } = event {
            self.last_nanos.store(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX), Ordering::Release);
            self.count.fetch_add(1, Ordering::Release);
        }
    }
}

impl Folder {
    fn new() -> Result<Self, String> {
        let path = std::env::temp_dir().join(format!("watchword-selftest-{}", text(NAME_BYTES)));
        let made = DirBuilder::new().mode(0o700).create(&path);
        made.map_err(|cause| format!("{}: {cause}", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if let Err(cause) = fs::remove_dir_all(&self.0) {
            tracing::warn!(folder = %self.0.display(), %cause, "a folder of the selftest is left behind");
        }
    }
}

/// The operator's settings, where they matter.
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
        store: store::StoreSettings::Embedded(folder.join("data")),
        seal: Arc::new(store::Seal::none()),
        rules,
        throttle: Some(RateLimitSettings {
            per_address: ROOM,
            per_account: ROOM,
            per_address_and_account: ROOM,
            registrations: ROOM,
            alert: ROOM,
            failure_cap: FAILURE_CAP,
            failure_cap_is_strict: true,
        }),
        token_issuer: None,
        oauth_clients: None,
        legacy_routes: true,
        audit_log: AuditLog::File(folder.join("audit.jsonl")),
        drain_delay: Duration::ZERO,
        ..config.clone()
    }
}

type Started = Result<([SocketAddr; 2], Arc<dyn Store>), String>;

/// The life of the node: tells how it started, and serves until it is stopped.
fn serve(config: Config, environment: Environment, tell: oneshot::Sender<Started>, stopped: oneshot::Receiver<()>) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(host::cores()).enable_all().build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(cause) => return drop(tell.send(Err(cause.to_string()))),
    };
    runtime.block_on(async {
        let started = match start(config, environment).await {
            Ok((app, listeners, store)) => tell.send(Ok((listeners, store))).map(|()| app).map_err(drop),
            Err(fault) => tell.send(Err(fault)).map_err(drop).and(Err(())),
        };
        if let Ok(app) = started {
            app.run(async { drop(stopped.await) }).await;
        }
    });
}

async fn start(config: Config, environment: Environment) -> Result<(App, [SocketAddr; 2], Arc<dyn Store>), String> {
    let store =
        store::open(&config.store, config.seal.clone(), &environment).await.map_err(|error| error.to_string())?;
    let app = App::start_on(config, environment, store.clone()).map_err(|error| error.to_string())?;
    let addresses = app.addresses();
    match (addresses.grpc, addresses.http) {
        (Address::Tcp(grpc), Some(Address::Tcp(http))) => Ok((app, [grpc, http], store)),
        _ => Err("the node under test listens elsewhere".into()),
    }
}

/// A password that nobody has.
pub(super) fn password() -> String {
    text(PASSWORD_BYTES)
}

/// So many random bytes as lower-case hexadecimal digits.
fn text(bytes: usize) -> String {
    let mut random = vec![0; bytes];
    System.fill(&mut random);
    random.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn not_stored(error: crate::domain::StoreError) -> String {
    format!("the users of the test could not be stored: {error:?}")
}
