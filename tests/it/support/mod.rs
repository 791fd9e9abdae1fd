//! Starts servers and calls them.
//!
//! [`App`] is a server in this process, with its own clock and observer. [`Node`] is the binary as a child process.

mod api;
mod environment;
pub mod frames;
pub mod h2;
pub mod hostile;
mod http;
mod node;
pub mod program;
pub mod proxy;
mod store;

use std::{fs, net::SocketAddr, sync::Arc, time::Duration};

use tempfile::{NamedTempFile, TempDir};
use tokio::{sync::oneshot, task::JoinHandle};
use tonic::transport::{Channel, Endpoint};
use watchword::{
    api::{
        methods::{ServerView, Services},
        pb::{self, auth_admin_client::AuthAdminClient, auth_client::AuthClient},
    },
    app::{Addresses, App as Service, StopReason},
    config::Config,
    domain::{
        Auth, Environment, Store, Work,
        password::{Cost, PoolSettings},
    },
    net::Address,
    store::{DocumentStore, TypedStore},
};

pub use self::{
    api::{Answer, Api, details, forwarded_for, query, reason, with_bearer},
    environment::{Events, LogOutput, ManualClock},
    http::{Reply, http, http_from, raw},
    node::{BINARY, Node, command, command_by, run, run_command},
    store::{StoreKind, TestStore, disk, environment, fault, redis, redis_settings},
};

/// A cost that makes hashes cheap. Tests of the cost use the default.
pub const CHEAP: Cost = Cost { memory_kib: 64, passes: 1, lanes: 1 };

/// A proof of work that takes no time. Tests of the work use the default.
pub const CHEAP_WORK: Work = Work { cost: 10, key_prefix: "0" };

/// How long a test waits for a result. Nothing on loopback takes this long.
pub const WAIT_MAX: Duration = Duration::from_secs(30);

/// A running server.
pub struct App {
    pub addresses: Addresses,
    pub clock: Arc<ManualClock>,
    pub events: Arc<Events>,
    pub rules: Arc<Auth>,
    _store: TestStore,
    _admin_folder: TempDir,
    stop: Option<oneshot::Sender<()>>,
    running: JoinHandle<StopReason>,
}

/// A server to start.
pub struct Setup {
    kind: StoreKind,
    args: Vec<String>,
    change: Box<dyn FnOnce(&mut Config) + Send>,
    clock: Arc<ManualClock>,
    store: Option<Arc<dyn Store>>,
    admin: bool,
}

/// A server with the memory store and cheap hashes.
pub async fn app() -> App {
    App::with(StoreKind::Memory).start().await
}

impl App {
    pub fn with(kind: StoreKind) -> Setup {
        Setup { kind, ..Setup::new() }
    }

    /// A server on this document store.
    pub fn on(documents: Arc<dyn DocumentStore>) -> Setup {
        Setup { store: Some(Arc::new(TypedStore::over(documents))), ..Setup::new() }
    }

    pub fn grpc_addr(&self) -> String {
        self.addresses.grpc.to_string()
    }

    pub fn grpc_socket(&self) -> SocketAddr {
        socket(&self.addresses.grpc)
    }

    pub fn http_socket(&self) -> SocketAddr {
        socket(self.addresses.http.as_ref().expect("the test opened the HTTP listener"))
    }

    pub fn ops_socket(&self) -> SocketAddr {
        socket(self.addresses.ops.as_ref().expect("the test opened the ops listener"))
    }

    /// What the rows of the method table work with.
    pub fn services(&self) -> Services {
        let server = ServerView {
            version: "0.0.0",
            start_time: self.rules.environment().clock.now(),
            store: "memory",
            hashing: PoolSettings { workers: 1, cost: CHEAP },
            health: Box::new(|| (true, Vec::new())),
        };
        Services { auth: self.rules.clone(), server: Arc::new(server) }
    }

    /// A new gRPC channel to the server.
    pub async fn channel(&self) -> Channel {
        channel(&self.grpc_addr()).await
    }

    pub async fn client(&self) -> AuthClient<Channel> {
        AuthClient::new(self.channel().await)
    }

    /// A client of the admin API. Needs [`Setup::with_admin`].
    pub async fn admin(&self) -> AuthAdminClient<Channel> {
        let address = self.addresses.admin.as_ref().expect("the test opened the admin listener").to_string();
        AuthAdminClient::new(Endpoint::from_shared(address).unwrap().connect().await.unwrap())
    }

    /// Disables or enables a user. Needs [`Setup::with_admin`].
    pub async fn set_disabled(&self, username: &str, disabled: bool) {
        let (mut admin, username) = (self.admin().await, username.to_owned());
        if disabled {
            drop(admin.disable_user(pb::DisableUserRequest { username }).await.unwrap());
        } else {
            drop(admin.enable_user(pb::EnableUserRequest { username }).await.unwrap());
        }
    }

    /// Registers the user `name` with the password [`password`] and the data `data of <name>`.
    pub async fn registered(&self, name: &str) {
        let answer = Api::Grpc.register(self, name, &password(name), &format!("data of {name}")).await;
        assert_eq!(answer.outcome(), "ok", "{name} is registered");
    }

    /// Logs in a user of [`Self::registered`] and returns the tokens of the new session.
    pub async fn authenticate(&self, name: &str) -> pb::Tokens {
        let request = pb::LoginRequest { username: name.into(), password: password(name), ..Default::default() };
        self.client().await.login(request).await.unwrap().into_inner().tokens.unwrap()
    }

    /// Introspects a token.
    pub async fn introspect(&self, token: &str) -> pb::IntrospectTokenResponse {
        let request = pb::IntrospectTokenRequest { token: token.into(), ..Default::default() };
        self.client().await.introspect_token(request).await.unwrap().into_inner()
    }

    /// Introspects a refresh token, as a caller on the machine of the server.
    pub async fn introspect_refresh(&self, token: &str) -> pb::IntrospectTokenResponse {
        let request = pb::IntrospectTokenRequest { token: token.into(), token_type_hint: "refresh_token".into() };
        self.client().await.introspect_token(request).await.unwrap().into_inner()
    }

    /// Starts the shutdown of the server.
    pub fn stop(&mut self) {
        self.stop.take().expect("the test stops the server once").send(()).expect("the server runs");
    }

    /// Stops the server and waits until it has ended.
    pub async fn stopped(mut self) -> StopReason {
        if self.stop.is_some() {
            self.stop();
        }
        self.ended().await
    }

    /// Waits until the server has ended.
    pub async fn ended(self) -> StopReason {
        tokio::time::timeout(WAIT_MAX, self.running).await.expect("the server ends").expect("the server does not panic")
    }
}

impl Setup {
    fn new() -> Self {
        let free = ["--grpc-addr", "127.0.0.1:0", "--http-addr", "127.0.0.1:0", "--ops-addr", "127.0.0.1:0"];
        let args = ["watchword", "--admin-addr", "off", "--throttle", "off"]
            .iter()
            .chain(&free)
            .map(|arg| (*arg).to_owned())
            .collect();
        Self {
            kind: StoreKind::Memory,
            args,
            change: Box::new(|_| {}),
            clock: Arc::default(),
            store: None,
            admin: false,
        }
    }

    /// Sets flags, each with its value. A later value replaces an earlier one.
    pub fn args(mut self, args: &[&str]) -> Self {
        for pair in args.chunks(2) {
            let known = self.args.iter().position(|arg| arg == pair[0]);
            match known {
                Some(flag) => self.args[flag + 1] = pair[1].to_owned(),
                None => self.args.extend(pair.iter().map(|arg| (*arg).to_owned())),
            }
        }
        self
    }

    /// Opens the listener of the admin API.
    pub fn with_admin(self) -> Self {
        Self { admin: true, ..self }
    }

    /// Lets listeners be on other addresses than loopback.
    pub fn insecure_plaintext(mut self) -> Self {
        self.args.push("--insecure-plaintext".into());
        self
    }

    /// Changes settings that have no flag.
    pub fn change(mut self, change: impl FnOnce(&mut Config) + Send + 'static) -> Self {
        self.change = Box::new(change);
        self
    }

    /// Replaces the clock of the server.
    pub fn clock(mut self, clock: impl Into<Arc<ManualClock>>) -> Self {
        self.clock = clock.into();
        self
    }

    pub async fn start(self) -> App {
        let store = TestStore::new(self.kind);
        self.start_in(store).await
    }

    /// Like [`Self::start`], on a store that other servers use or have used.
    pub async fn start_in(self, store: TestStore) -> App {
        let mut config = Config::from_args(&self.args).unwrap();
        config.store = store.settings();
        config.hashing.cost = CHEAP;
        config.rules.challenges.work = CHEAP_WORK;
        let admin = TempDir::new().unwrap();
        if self.admin {
            config.admin = Some(admin.path().join("admin.sock"));
            config.admin_is_named = true;
        }
        (self.change)(&mut config);
        let (clock, events) = (self.clock, Arc::new(Events::default()));
        let environment = Environment {
            clock: clock.clone(),
            entropy: Arc::new(watchword::domain::System),
            observer: events.clone(),
        };
        let service = match self.store {
            None => Service::start(config, environment).await,
            Some(store) => Service::start_on(config, environment, store),
        };
        let service = service.unwrap();
        let (addresses, rules) = (service.addresses(), service.auth());
        let (stop, stopped) = oneshot::channel::<()>();
        let running = tokio::spawn(service.run(async {
            // A dropped `App` stops its server too.
            drop(stopped.await);
        }));
        App { addresses, clock, events, rules, _store: store, _admin_folder: admin, stop: Some(stop), running }
    }
}

/// Whether tests run in their long form: `tests/run --all`.
pub fn is_full() -> bool {
    std::env::var_os("WATCHWORD_TEST_FULL").is_some_and(|value| value == "1")
}

/// A valid password, different for each user.
pub fn password(name: &str) -> String {
    format!("a password of {name}")
}

/// A request of `name` to end all sessions but the one of the call.
pub fn all_but_this(name: &str) -> pb::RevokeAllSessionsRequest {
    pb::RevokeAllSessionsRequest { keep_current: true, current_password: password(name), ..Default::default() }
}

/// A file of keys, one in each line. It must exist until the node has read it.
pub fn key_file(keys: &[&str]) -> NamedTempFile {
    let file = NamedTempFile::new().unwrap();
    fs::write(file.path(), format!("# keys\n{}\n", keys.join("\n"))).unwrap();
    file
}

/// A gRPC channel to `address`.
pub async fn channel(address: &str) -> Channel {
    Endpoint::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap()
}

fn socket(address: &Address) -> SocketAddr {
    match address {
        Address::Tcp(address) => *address,
        Address::Unix(path) => panic!("{} is not a TCP address", path.display()),
    }
}
