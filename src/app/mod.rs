//! Assembles a node from its settings: store, rules, APIs and listeners; runs it, and shuts it down in order.
//!
//! Guarantees the order: listeners are bound before the store is opened; in the end the listeners drain, then the failed
//! attempts are stored, then the store and the audit log are closed. Does not know how any of the parts work.

mod background;
mod listeners;
mod readiness;
mod start_error;

use std::{future::Future, sync::Arc};

use tokio::{
    sync::watch,
    task::{JoinHandle, JoinSet},
    time,
};

use self::listeners::Listeners;
pub use self::{listeners::Addresses, start_error::StartError};
use crate::{
    api::{
        forwarded::ClientAddress,
        site::{HostName, SitePolicy},
    },
    common::host,
    config::Config,
    domain::{Auth, Environment, HashPool, Names, Store, TokenSettings, password::Kernel},
    grpc::{GrpcApi, Readiness},
    http::{self, HttpSettings},
    net::{self, Address, Drain, Draining},
    store,
    telemetry::{Audit, Metrics},
};

/// A node whose listeners are bound, and that does not serve yet.
pub struct App {
    config: Config,
    listeners: Listeners,
    store: Arc<dyn Store>,
    auth: Arc<Auth>,
    audit: Arc<Audit>,
    metrics: Arc<Metrics>,
}

/// Why a node stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopReason {
    /// The shutdown was requested.
    Requested,
    /// The store failed permanently. A new process can open it again.
    StoreFailed,
}

impl App {
    /// Binds the listeners and opens the store.
    pub async fn start(config: Config, environment: Environment) -> Result<Self, StartError> {
        // Listeners first: a second node that is started by mistake fails here and touches no file.
        let listeners = Listeners::bind(&config)?;
        let store = store::open(&config.store, config.seal.clone(), &config.pepper, &environment).await;
        let store = store.map_err(StartError::Store)?;
        let started = Self::assemble(config, listeners, store.clone(), environment);
        if started.is_err() {
            // Else the next start would have to recover it.
            store.close().await;
        }
        started
    }

    /// Binds the listeners and uses an open store.
    pub fn start_on(config: Config, environment: Environment, store: Arc<dyn Store>) -> Result<Self, StartError> {
        let listeners = Listeners::bind(&config)?;
        Self::assemble(config, listeners, store, environment)
    }

    fn assemble(
        mut config: Config,
        mut listeners: Listeners,
        store: Arc<dyn Store>,
        mut environment: Environment,
    ) -> Result<Self, StartError> {
        // After the store: the default path is in the data folder, which the embedded store creates and locks.
        listeners.bind_admin(&config)?;
        let connections_max = &mut config.limits.connections_max;
        *connections_max = host::connections_max(listeners.count()).min(*connections_max);
        let audit = Audit::start(&config.audit_log, environment.clock.clone(), environment.observer)
            .map_err(|cause| StartError::Audit { target: config.audit_log.clone(), cause })?;
        let audit = Arc::new(audit);
        let metrics = Arc::new(Metrics::before(audit.clone()));
        environment.observer = metrics.clone();
        let pool = HashPool::with_pepper(config.hashing, config.pepper.clone(), Kernel::choose(), &environment);
        if matches!(config.store, store::StoreSettings::Redis(_)) && config.token_issuer.is_none() {
            let issuer = listeners.issuer();
            tracing::warn!(
                issuer,
                "nodes that share a Redis accept each other's tokens only with the same --token-issuer"
            );
        }
        if config.throttle.is_some() && config.client_address == ClientAddress::None {
            tracing::info!(
                "--client-address is none: password attempts over gRPC are limited by account alone, and registrations are \
                 not limited. To limit them by client address, set --client-address forwarded, name the callers in \
                 --trusted-proxy, and let them send the end user's address as metadata x-forwarded-for"
            );
        }
        let tokens = TokenSettings {
            names: Names {
                issuer: config.token_issuer.clone().unwrap_or_else(|| listeners.issuer()),
                audience: config.token_audience.clone(),
            },
            lifetimes: config.lifetimes,
            client_id: config.token_client_id.clone(),
            check_reuse: config.token_check_reuse,
            refresh_repeat: config.refresh_repeat,
        };
        let auth = Arc::new(Auth::new(store.clone(), pool, config.rules.clone(), tokens, config.throttle, environment));
        Ok(Self { config, listeners, store, auth, audit, metrics })
    }

    /// The audit log.
    pub fn audit(&self) -> Arc<Audit> {
        self.audit.clone()
    }

    /// The rules behind every API.
    pub fn auth(&self) -> Arc<Auth> {
        self.auth.clone()
    }

    /// The addresses that the node listens at.
    pub fn addresses(&self) -> Addresses {
        Addresses::of(&self.listeners)
    }

    /// Serves until `shutdown` or until the store fails, then drains.
    pub async fn run(mut self, shutdown: impl Future<Output = ()>) -> StopReason {
        let (readiness, ready) = watch::channel(Readiness::Ready);
        let (drain, draining) = Drain::new();
        let ops = self.listeners.ops.take();
        let Self { config, listeners, store, auth, audit, metrics } = self;
        let mut apis = serve_apis(listeners, &config, &auth, &store, &audit, &ready, &draining);
        // Not drained: operators watch the drain there, so it answers until the end.
        let (_ops_drain, ops_draining) = Drain::new();
        let views = readiness::views(ready, store.clone(), auth.clone(), audit.clone(), metrics);
        let site = config.ops.as_ref().is_some_and(Address::is_loopback).then(|| site_policy(&config, &auth));
        let router = http::ops::router(views, site);
        let ops_api = ops.map(|listener| tokio::spawn(net::serve(listener, router, config.limits, ops_draining)));

        let reason = tokio::select! {
            () = shutdown => StopReason::Requested,
            () = readiness::follow_store(store.health(), auth.keys_readable(), &readiness) => StopReason::StoreFailed,
            never = background::read_keys(&auth) => match never {},
            never = background::store_failures(&auth) => match never {},
            never = background::write_merged_audit_lines(&audit) => match never {},
            never = background::release_memory(&auth) => match never {},
        };

        tracing::info!(?reason, "draining");
        readiness.send_replace(Readiness::Draining);
        if reason == StopReason::Requested {
            time::sleep(config.drain_delay).await;
        }
        drain.begin();
        // After GOAWAY: a client repeats on the same connection what ends before it.
        readiness.send_replace(Readiness::Closing);
        auth.hash_pool().drain();
        let all = async { while apis.join_next().await.is_some() {} };
        if time::timeout(config.drain_timeout, all).await.is_err() {
            tracing::warn!(after = ?config.drain_timeout, "calls were still running and are cut");
        }
        // Dropping the future of an API cuts its connections.
        apis.shutdown().await;
        close(&config, &auth, &*store, &audit, ops_api).await;
        tracing::info!("ended");
        reason
    }
}

/// Serves every API but the ops API, each in its own task.
fn serve_apis(
    listeners: Listeners,
    config: &Config,
    auth: &Arc<Auth>,
    store: &Arc<dyn Store>,
    audit: &Arc<Audit>,
    ready: &watch::Receiver<Readiness>,
    draining: &Draining,
) -> JoinSet<()> {
    let Listeners { grpc, http, ops: _, admin } = listeners;
    let mut apis = JoinSet::new();
    let services = readiness::services(config, store, auth, audit);
    let (proxies, client_address) = (config.trusted_proxies.clone(), config.client_address);
    let api = GrpcApi::new(services.clone(), proxies, client_address, ready.clone(), config.reflection);
    apis.spawn(net::serve(grpc, api, config.limits, draining.clone()));
    if let Some(listener) = admin {
        let api = GrpcApi::admin(services, ready.clone());
        apis.spawn(net::serve(listener, api, config.limits, draining.clone()));
    }
    if let Some(listener) = http {
        let settings = HttpSettings {
            legacy_routes: config.legacy_routes,
            clients: config.oauth_clients.clone(),
            proxies: config.trusted_proxies.clone(),
            site: site_policy(config, auth),
        };
        apis.spawn(net::serve(listener, http::router(auth.clone(), settings), config.limits, draining.clone()));
    }
    apis
}

/// The settings, and the host of the issuer: behind a proxy clients call by this name.
fn site_policy(config: &Config, auth: &Auth) -> SitePolicy {
    let issuer = HostName::of_url(&auth.token_settings().names.issuer);
    SitePolicy {
        hosts: config.site.hosts.iter().cloned().chain(issuer).collect(),
        origins: config.site.origins.clone(),
    }
}

/// Stores what is left, and closes the store, the audit log and the ops API.
async fn close(config: &Config, auth: &Auth, store: &dyn Store, audit: &Audit, ops_api: Option<JoinHandle<()>>) {
    // After the drain, so that the attempts of the last calls are stored too.
    if time::timeout(config.drain_timeout, auth.store_failed_attempts()).await.is_err() {
        tracing::error!(after = ?config.drain_timeout, "the last failed attempts could not be stored");
    }
    if time::timeout(config.drain_timeout, store.close()).await.is_err() {
        tracing::error!(after = ?config.drain_timeout, "the store could not be closed; is the disk stuck?");
    }
    audit.close(config.drain_timeout).await;
    if let Some(api) = ops_api {
        api.abort();
        // Waits until the socket file is removed.
        drop(api.await);
    }
}
