//! Readiness, and what the ops API and the admin API show of the node.

use std::sync::Arc;

use tokio::sync::watch;

use crate::{
    api::methods::{ServerView, Services},
    config::Config,
    domain::{Auth, ConfigurationWarning, HashPool, Store, StoreHealth},
    grpc::Readiness,
    http::ops::OpsViews,
    telemetry::{Audit, Metrics, MetricsSnapshot},
};

/// What the rows of the method table work with.
pub(super) fn services(config: &Config, store: &Arc<dyn Store>, auth: &Arc<Auth>, audit: &Arc<Audit>) -> Services {
    let (health, store, audit) = (store.health(), store.clone(), audit.clone());
    let warned_auth = auth.clone();
    let server = ServerView {
        version: env!("CARGO_PKG_VERSION"),
        start_time: auth.environment().clock.now(),
        store: config.store.name(),
        hashing: config.hashing,
        health: Box::new(move || {
            (*health.borrow() == StoreHealth::Up, all_warnings(&*store, warned_auth.hash_pool(), &audit))
        }),
    };
    Services { auth: auth.clone(), server: Arc::new(server) }
}

/// What the ops API shows.
pub(super) fn views(
    ready: watch::Receiver<Readiness>,
    store: Arc<dyn Store>,
    auth: Arc<Auth>,
    audit: Arc<Audit>,
    metrics: Arc<Metrics>,
) -> OpsViews {
    let (health, ready_store, ready_audit) = (store.health(), store.clone(), audit.clone());
    let warned_auth = auth.clone();
    OpsViews {
        ready: Box::new(move || {
            let warnings = all_warnings(&*ready_store, warned_auth.hash_pool(), &ready_audit);
            match *ready.borrow() {
                Readiness::Ready => (Ok(()), warnings),
                Readiness::NotReady => (Err("the store cannot be used"), warnings),
                Readiness::Draining | Readiness::Closing => (Err("draining"), warnings),
            }
        }),
        metrics: Box::new(move || {
            let snapshot = MetricsSnapshot {
                store_up: *health.borrow() == StoreHealth::Up,
                warnings: &warnings(&*store, auth.hash_pool()),
                audit_up: audit.warning().is_none(),
                hash_queue_depth: auth.hash_pool().depth(),
            };
            (Metrics::CONTENT_TYPE, metrics.page(&snapshot))
        }),
    }
}

/// Updates the readiness from the health of the store. Returns when the store has failed permanently.
pub(super) async fn follow_store(
    mut health: watch::Receiver<StoreHealth>,
    mut keys_readable: watch::Receiver<bool>,
    readiness: &watch::Sender<Readiness>,
) {
    loop {
        let (store, keys) = (*health.borrow_and_update(), *keys_readable.borrow_and_update());
        let state = match store {
            StoreHealth::Up if keys => Readiness::Ready,
            StoreHealth::Up | StoreHealth::Down | StoreHealth::Failed => Readiness::NotReady,
        };
        if readiness.send_replace(state) != state {
            tracing::warn!(?store, keys_readable = keys, "readiness changed");
        }
        if store == StoreHealth::Failed {
            return;
        }
        tokio::select! {
            changed = health.changed() => match changed {
                Ok(()) => {}
                Err(_) => return,
            },
            // `Auth` outlives this task, so the channel stays open.
            _ = keys_readable.changed() => {}
        }
    }
}

/// The warnings of the store and of what is in it.
fn warnings(store: &dyn Store, pool: &HashPool) -> Vec<ConfigurationWarning> {
    store.warnings().into_iter().chain(pool.pepper_warning()).collect()
}

/// The warnings that operators see.
fn all_warnings(store: &dyn Store, pool: &HashPool, audit: &Audit) -> Vec<String> {
    warnings(store, pool).into_iter().chain(audit.warning()).map(|warning| warning.text).collect()
}
