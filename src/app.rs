//! Puts everything together: settings become sockets, a store and doors, and one signal ends them in order.

use std::{fmt, future::Future, sync::Arc};

use tokio::{sync::watch, task::JoinSet, time};

use crate::{
    config::Config,
    domain::{Auth, HashPool, Pulse, Store, World, password::Kernel},
    grpc::{Grpc, Readiness},
    http, machine,
    server::{self, Address, BindError, Drain, Draining, Listener},
    store::{self, OpenError},
};

/// A node that listens and does not serve yet.
pub struct App {
    config: Config,
    grpc: Listener,
    http: Option<Listener>,
    ops: Option<Listener>,
    store: Arc<dyn Store>,
    auth: Arc<Auth>,
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
    /// Binds the sockets and opens the store. Needs a tokio runtime.
    pub fn start(config: Config, world: World) -> Result<Self, StartError> {
        Self::start_on(config, world, |config| store::open(&config.store))
    }

    /// The same on a store of the caller's, which is opened last.
    pub fn start_on(
        mut config: Config,
        world: World,
        open: impl FnOnce(&Config) -> Result<Arc<dyn Store>, OpenError>,
    ) -> Result<Self, StartError> {
        // Sockets first: a second node by mistake fails here and touches no file.
        let bind = |flag, address: &Address| Listener::bind(address).map_err(|error| StartError::Bind { flag, error });
        let grpc = bind("--grpc-addr", &config.grpc)?;
        let http = config.http.as_ref().map(|address| bind("--http-addr", address)).transpose()?;
        let ops = config.ops.as_ref().map(|address| bind("--ops-addr", address)).transpose()?;
        let doors = 1 + usize::from(http.is_some()) + usize::from(ops.is_some());
        let connections_max = &mut config.limits.connections_max;
        *connections_max = machine::connections_possible(doors).min(*connections_max);
        let store = open(&config).map_err(StartError::Store)?;
        let pool = HashPool::start(config.hashing, Kernel::choose(), &world);
        let auth = Arc::new(Auth::new(store.clone(), pool, config.rules, world));
        Ok(Self { config, grpc, http, ops, store, auth })
    }

    /// Where the node listens.
    pub fn addresses(&self) -> Addresses {
        Addresses {
            grpc: self.grpc.address(),
            http: self.http.as_ref().map(Listener::address),
            ops: self.ops.as_ref().map(Listener::address),
        }
    }

    /// Serves until `shutdown` or until the store fails, then drains.
    pub async fn run(self, shutdown: impl Future<Output = ()>) -> Ended {
        let Self { config, grpc, http, ops, store, auth } = self;
        let (readiness, ready) = watch::channel(Readiness::Ready);
        let (drain, draining) = Drain::new();

        let mut doors = JoinSet::new();
        let door = Grpc::new(auth.clone(), ready.clone(), config.reflection);
        doors.spawn(server::serve(grpc, door, config.limits, draining.clone()));
        if let Some(listener) = http {
            let settings = http::Settings {
                legacy_routes: config.legacy_routes,
                loopback: matches!(&config.http, Some(address @ Address::Tcp(_)) if address.is_local()),
            };
            doors.spawn(server::serve(listener, http::router(auth.clone(), settings), config.limits, draining.clone()));
        }
        // Hears of no drain: whoever watches the node wants to see it drain, so it answers to the very end.
        let (_ops_drain, never) = Drain::new();
        let ops_door = ops.map(|listener| tokio::spawn(serve_ops(listener, ready, &config, never)));

        let ended = tokio::select! {
            () = shutdown => Ended::Asked,
            () = follow(store.pulse(), &readiness) => Ended::StoreFailed,
        };

        tracing::info!(?ended, "draining");
        readiness.send_replace(Readiness::Draining);
        if ended == Ended::Asked {
            time::sleep(config.drain_delay).await;
        }
        drain.begin();
        auth.drain();
        let all = async { while doors.join_next().await.is_some() {} };
        if time::timeout(config.drain_timeout, all).await.is_err() {
            tracing::warn!(after = ?config.drain_timeout, "calls were still running and are cut");
        }
        // Dropping a door cuts its connections.
        doors.shutdown().await;
        if time::timeout(config.drain_timeout, store.close()).await.is_err() {
            tracing::error!(after = ?config.drain_timeout, "the store could not be closed; is the disk stuck?");
        }
        if let Some(door) = ops_door {
            door.abort();
            // Its socket's file goes with it.
            drop(door.await);
        }
        tracing::info!("ended");
        ended
    }
}

fn serve_ops(
    listener: Listener,
    ready: watch::Receiver<Readiness>,
    config: &Config,
    draining: Draining,
) -> impl Future<Output = ()> + use<> {
    let state = move || match *ready.borrow() {
        Readiness::Ready => Ok(()),
        Readiness::NotReady => Err("the store does not answer"),
        Readiness::Draining => Err("draining"),
    };
    server::serve(listener, http::ops::router(Arc::new(state)), config.limits, draining)
}

/// Keeps readiness equal to the store's pulse; returns when the store has failed for good.
async fn follow(mut pulse: watch::Receiver<Pulse>, readiness: &watch::Sender<Readiness>) {
    loop {
        let now = *pulse.borrow_and_update();
        let state = match now {
            Pulse::Up => Readiness::Ready,
            Pulse::Down | Pulse::Failed => Readiness::NotReady,
        };
        if readiness.send_replace(state) != state {
            tracing::warn!(?now, "the store's state changed");
        }
        if now == Pulse::Failed || pulse.changed().await.is_err() {
            return;
        }
    }
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StartError::Bind { flag, error } => {
                write!(f, "cannot listen at {}: {}; {flag} changes the address", error.address, error.cause)
            }
            StartError::Store(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for StartError {}
