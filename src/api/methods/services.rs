//! What the rows work with: the domain, and what operators see of the server.

use std::{sync::Arc, time::SystemTime};

use crate::domain::{Auth, password::PoolSettings};

/// The services behind every API of a node.
#[derive(Clone)]
pub struct Services {
    /// The use cases.
    pub auth: Arc<Auth>,
    /// What GetServerInfo answers.
    pub server: Arc<ServerView>,
}

/// What operators see of the server.
pub struct ServerView {
    /// The version of the program.
    pub version: &'static str,
    /// When it started.
    pub start_time: SystemTime,
    /// The kind of store.
    pub store: &'static str,
    /// The workers that compute password hashes, and the cost of a hash.
    pub hashing: PoolSettings,
    /// Whether the store answers, and the configuration warnings.
    pub health: Box<dyn Fn() -> (bool, Vec<String>) + Send + Sync>,
}
