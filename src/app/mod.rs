//! Puts everything together: settings become sockets, a store and doors, and one signal ends them in order.

use std::{
    convert::Infallible, fmt, fs::DirBuilder, future::Future, io, os::unix::fs::DirBuilderExt, sync::Arc,
    time::Duration,
};

use tokio::{sync::watch, task::JoinSet, time};

use crate::{
    common::host,
    config::Config,
    domain::{Auth, Environment, HashPool, Names, Store, StoreHealth, TokenSettings, password::Kernel},
    grpc::{Grpc, Readiness, ServerView},
    http,
    net::{self, Access, Address, BindError, Drain, Listener},
    store::{self, OpenError},
    telemetry::{Audit, AuditLog, Metrics, Now},
};

/// How often a node without calls reads the keys of tokens.
const READ_KEYS: Duration = Duration::from_secs(60);

/// How often failures are stored: what `kill -9` forgets of them, and what other nodes do not know yet.
const STORE_FAILURES: Duration = Duration::from_secs(1);

/// How often it is looked whether a storm has left memory behind, and from how much more on it is given back.
const MEMORY_LOOK: Duration = Duration::from_secs(5);
const MEMORY_MORE_BYTES: u64 = 4 * 1024 * 1024;

/// How often it is given back after that: for five minutes, as long as a connection may be idle.
const MEMORY_LOOKS: u32 = 60;

/// A node that listens and does not serve yet.
pub struct App {
    config: Config,
    listeners: Listeners,
    store: Arc<dyn Store>,
    auth: Arc<Auth>,
    audit: Arc<Audit>,
    metrics: Arc<Metrics>,
}

/// The sockets of a node's doors.
struct Listeners {
    grpc: Listener,
    http: Option<Listener>,
    ops: Option<Listener>,
    admin: Option<Listener>,
}

/// Where a node listens; ports are the real ones.
#[derive(Debug, Clone)]
pub struct Addresses {
    /// gRPC door.
    pub grpc: Address,
    /// HTTP door.
    pub http: Option<Address>,
    /// Ops door.
    pub ops: Option<Address>,
    /// Admin door.
    pub admin: Option<Address>,
}

/// Why a node cannot start; says what to change.
#[derive(Debug)]
pub enum StartError {
    /// A door's address cannot be had.
    Bind {
        /// The setting that changes it.
        flag: &'static str,
        /// The address and the cause.
        error: BindError,
    },
    /// The store cannot be opened.
    Store(OpenError),
    /// The audit has nowhere to go.
    Audit {
        /// Where it should go.
        to: AuditLog,
        /// What the operating system says.
        cause: io::Error,
    },
}

/// Why a node ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// It was asked to.
    Asked,
    /// Its store failed for good; another process can open it again.
    StoreFailed,
}

impl App {
    /// Binds the sockets and opens the store.
    pub async fn start(config: Config, environment: Environment) -> Result<Self, StartError> {
        // Sockets first: a second node by mistake fails here and touches no file.
        let mut listeners = Listeners::bind(&config)?;
        let store = store::open(&config.store, config.seal.clone(), &environment).await.map_err(StartError::Store)?;
        // Last: its default place is the data folder, which the embedded store takes for itself first.
        listeners.bind_admin(&config)?;
        Self::assemble(config, listeners, store, environment)
    }

    /// The same on a store of the caller's.
    pub fn start_on(config: Config, environment: Environment, store: Arc<dyn Store>) -> Result<Self, StartError> {
        let mut listeners = Listeners::bind(&config)?;
        listeners.bind_admin(&config)?;
        Self::assemble(config, listeners, store, environment)
    }

    fn assemble(
        mut config: Config,
        listeners: Listeners,
        store: Arc<dyn Store>,
        mut environment: Environment,
    ) -> Result<Self, StartError> {
        let connections_max = &mut config.limits.connections_max;
        *connections_max = host::connections_possible(listeners.count()).min(*connections_max);
        let audit = Audit::start(&config.audit_log, environment.clock.clone(), environment.observer)
            .map_err(|cause| StartError::Audit { to: config.audit_log.clone(), cause })?;
        let audit = Arc::new(audit);
        let metrics = Arc::new(Metrics::before(audit.clone()));
        environment.observer = metrics.clone();
        let pool = HashPool::start(config.hashing, Kernel::choose(), &environment);
        if matches!(config.store, store::StoreSettings::Redis(_)) && config.token_issuer.is_none() {
            let issuer = listeners.issuer();
            tracing::warn!(
                issuer,
                "nodes that share a Redis take each other's tokens only with the same --token-issuer"
            );
        }
        if config.throttle.is_some() && config.trusted_proxies.is_empty() {
            tracing::info!(
                "gRPC callers are services, so guesses are limited by account alone: to limit them by the end user's address \
                 too, let callers send it as metadata x-forwarded-for and name them in --trusted-proxy"
            );
        }
        let tokens = TokenSettings {
            names: Names {
                issuer: config.token_issuer.clone().unwrap_or_else(|| listeners.issuer()),
                audience: config.token_audience.clone(),
            },
            lifetimes: config.lifetimes,
            check_reuse: config.token_check_reuse,
        };
        let auth = Arc::new(Auth::new(store.clone(), pool, config.rules.clone(), tokens, config.throttle, environment));
        Ok(Self { config, listeners, store, auth, audit, metrics })
    }

    /// Who writes down what happens.
    pub fn audit(&self) -> Arc<Audit> {
        self.audit.clone()
    }

    /// The rules behind every door.
    pub fn auth(&self) -> Arc<Auth> {
        self.auth.clone()
    }

    /// Where the node listens.
    pub fn addresses(&self) -> Addresses {
        let Listeners { grpc, http, ops, admin } = &self.listeners;
        let address = |listener: &Option<Listener>| listener.as_ref().map(Listener::address);
        Addresses { grpc: grpc.address(), http: address(http), ops: address(ops), admin: address(admin) }
    }

    /// Serves until `shutdown` or until the store fails, then drains.
    pub async fn run(self, shutdown: impl Future<Output = ()>) -> Ended {
        let Self { config, listeners: Listeners { grpc, http, ops, admin }, store, auth, audit, metrics } = self;
        let (readiness, ready) = watch::channel(Readiness::Ready);
        let (drain, draining) = Drain::new();

        let mut listeners = JoinSet::new();
        let api = Grpc::new(auth.clone(), config.trusted_proxies.clone(), ready.clone(), config.reflection);
        listeners.spawn(net::serve(grpc, api, config.limits, draining.clone()));
        if let Some(listener) = admin {
            let api = Grpc::admin(auth.clone(), server_view(&config, &store, &auth, &audit), ready.clone());
            listeners.spawn(net::serve(listener, api, config.limits, draining.clone()));
        }
        if let Some(listener) = http {
            let settings = http::Settings {
                legacy_routes: config.legacy_routes,
                clients: config.oauth_clients.clone(),
                proxies: config.trusted_proxies.clone(),
                loopback: matches!(&config.http, Some(address @ Address::Tcp(_)) if address.is_local()),
            };
            listeners.spawn(net::serve(
                listener,
                http::router(auth.clone(), settings),
                config.limits,
                draining.clone(),
            ));
        }
        // Hears of no drain: whoever watches the node wants to see it drain, so it answers to the very end.
        let (_ops_drain, never) = Drain::new();
        let views = views(ready, store.clone(), auth.clone(), audit.clone(), metrics);
        let ops_door =
            ops.map(|listener| tokio::spawn(net::serve(listener, http::ops::router(views), config.limits, never)));

        let ended = tokio::select! {
            () = shutdown => Ended::Asked,
            () = follow(store.health(), auth.keys_readable(), &readiness) => Ended::StoreFailed,
            never = read_keys(&auth) => match never {},
            never = store_failures(&auth) => match never {},
            never = give_memory_back(&auth) => match never {},
        };

        tracing::info!(?ended, "draining");
        readiness.send_replace(Readiness::Draining);
        if ended == Ended::Asked {
            time::sleep(config.drain_delay).await;
        }
        drain.begin();
        auth.drain();
        let all = async { while listeners.join_next().await.is_some() {} };
        if time::timeout(config.drain_timeout, all).await.is_err() {
            tracing::warn!(after = ?config.drain_timeout, "calls were still running and are cut");
        }
        // Dropping a door cuts its connections.
        listeners.shutdown().await;
        // Those who guessed until now are counted too.
        if time::timeout(config.drain_timeout, auth.store_failures()).await.is_err() {
            tracing::error!(after = ?config.drain_timeout, "the last failures could not be stored");
        }
        if time::timeout(config.drain_timeout, store.close()).await.is_err() {
            tracing::error!(after = ?config.drain_timeout, "the store could not be closed; is the disk stuck?");
        }
        audit.close(config.drain_timeout).await;
        if let Some(api) = ops_door {
            api.abort();
            // Its socket's file goes with it.
            drop(api.await);
        }
        tracing::info!("ended");
        ended
    }
}

impl Listeners {
    fn bind(config: &Config) -> Result<Self, StartError> {
        let bind = |flag, address: &Address| {
            Listener::bind(address, Access::Group).map_err(|error| StartError::Bind { flag, error })
        };
        Ok(Self {
            grpc: bind("--grpc-addr", &config.grpc)?,
            http: config.http.as_ref().map(|address| bind("--http-addr", address)).transpose()?,
            ops: config.ops.as_ref().map(|address| bind("--ops-addr", address)).transpose()?,
            admin: None,
        })
    }

    /// Opens the admin door, whose folder is made when it is missing.
    fn bind_admin(&mut self, config: &Config) -> Result<(), StartError> {
        let Some(path) = &config.admin else { return Ok(()) };
        let address = Address::Unix(path.clone());
        let made = path.parent().map_or(Ok(()), |folder| DirBuilder::new().recursive(true).mode(0o700).create(folder));
        let bound = match made {
            Ok(()) => Listener::bind(&address, Access::Owner),
            Err(cause) => Err(BindError { address, cause }),
        };
        match bound {
            Ok(listener) => self.admin = Some(listener),
            Err(error) if config.admin_is_named => return Err(StartError::Bind { flag: "--admin-addr", error }),
            // Such as a second node in the same folder, or a folder that cannot be written: no reason to serve nobody.
            Err(BindError { address, cause }) => {
                tracing::warn!(%address, %cause, "no admin door; --admin-addr names another place for it");
            }
        }
        Ok(())
    }

    /// What tokens name as their issuer when nobody said: where the HTTP door is.
    fn issuer(&self) -> String {
        match self.http.as_ref().map(Listener::address) {
            Some(Address::Tcp(address)) => format!("http://{address}"),
            Some(Address::Unix(_)) | None => "http://127.0.0.1".into(),
        }
    }

    fn count(&self) -> usize {
        1 + [&self.http, &self.ops, &self.admin].into_iter().flatten().count()
    }
}

/// What operators see of the server on the admin door.
fn server_view(config: &Config, store: &Arc<dyn Store>, auth: &Auth, audit: &Arc<Audit>) -> ServerView {
    let (pulse, store, audit) = (store.health(), store.clone(), audit.clone());
    ServerView {
        version: env!("CARGO_PKG_VERSION"),
        start_time: auth.clock().now(),
        store: config.store.name(),
        hashing: config.hashing,
        health: Box::new(move || {
            let alarms = store.warnings().into_iter().chain(audit.warning()).map(|alarm| alarm.text);
            (*pulse.borrow() == StoreHealth::Up, alarms.collect())
        }),
    }
}

/// What the ops door shows.
fn views(
    ready: watch::Receiver<Readiness>,
    store: Arc<dyn Store>,
    auth: Arc<Auth>,
    audit: Arc<Audit>,
    metrics: Arc<Metrics>,
) -> http::ops::Views {
    let (alarms, pulse, audited) = (store.clone(), store.health(), audit.clone());
    http::ops::Views {
        ready: Box::new(move || {
            let alarms = alarms.warnings().into_iter().chain(audited.warning()).map(|alarm| alarm.text).collect();
            match *ready.borrow() {
                Readiness::Ready => (Ok(()), alarms),
                Readiness::NotReady => (Err("the store cannot be used"), alarms),
                Readiness::Draining => (Err("draining"), alarms),
            }
        }),
        metrics: Box::new(move || {
            let now = Now {
                store_up: *pulse.borrow() == StoreHealth::Up,
                alarms: &store.warnings(),
                audit_up: audit.warning().is_none(),
                hash_queue_depth: auth.hash_queue_depth(),
            };
            (Metrics::CONTENT_TYPE, metrics.page(&now))
        }),
    }
}

/// Keeps readiness equal to what the store can do; returns when the store has failed for good.
async fn follow(
    mut pulse: watch::Receiver<StoreHealth>,
    mut keys: watch::Receiver<bool>,
    readiness: &watch::Sender<Readiness>,
) {
    loop {
        let (now, keys_readable) = (*pulse.borrow_and_update(), *keys.borrow_and_update());
        let state = match now {
            StoreHealth::Up if keys_readable => Readiness::Ready,
            StoreHealth::Up | StoreHealth::Down | StoreHealth::Failed => Readiness::NotReady,
        };
        if readiness.send_replace(state) != state {
            tracing::warn!(?now, keys_readable, "the store's state changed");
        }
        if now == StoreHealth::Failed {
            return;
        }
        tokio::select! {
            changed = pulse.changed() => match changed {
                Ok(()) => {}
                Err(_) => return,
            },
            // The rules outlive this.
            _ = keys.changed() => {}
        }
    }
}

/// Gives memory back that a storm has left with the allocator, once it is calm.
async fn give_memory_back(auth: &Auth) -> Infallible {
    let (mut least, mut looks_left) = (host::resident_bytes().unwrap_or(u64::MAX), 0);
    loop {
        time::sleep(MEMORY_LOOK).await;
        let resident = host::resident_bytes().unwrap_or_default();
        if resident > least.saturating_add(MEMORY_MORE_BYTES) {
            // Whoever is still connected keeps what he has: it is looked again when he may have gone.
            (least, looks_left) = (resident, MEMORY_LOOKS);
        }
        least = least.min(resident);
        if looks_left > 0 && auth.is_calm() {
            host::give_memory_back();
            looks_left -= 1;
        }
    }
}

/// Stores what was counted of failures, all of them together.
async fn store_failures(auth: &Auth) -> Infallible {
    loop {
        time::sleep(STORE_FAILURES).await;
        auth.store_failures().await;
    }
}

/// Reads the keys of tokens again and again, so that a node without calls knows too whether it can.
async fn read_keys(auth: &Auth) -> Infallible {
    loop {
        time::sleep(READ_KEYS).await;
        // What is wrong with them shows in the readiness.
        drop(auth.public_keys().await);
    }
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StartError::Bind { flag, error } => {
                write!(f, "cannot listen at {}: {}; {flag} changes the address", error.address, error.cause)
            }
            StartError::Store(error) => error.fmt(f),
            StartError::Audit { to: AuditLog::File(path), cause } => {
                write!(f, "cannot write the audit to {}: {cause}; --audit-log names another place", path.display())
            }
            StartError::Audit { cause, .. } => {
                write!(f, "cannot write the audit: {cause}; --audit-log names another place")
            }
        }
    }
}

impl std::error::Error for StartError {}
