//! Users in a map: for tests and for a first look. Nothing outlives the process.
//!
//! Keeps documents, not values, so that it reads and writes what every store does.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

use async_trait::async_trait;
use tokio::sync::watch;

use super::record;
use crate::domain::{Claim, Clock, Pulse, Replace, Revision, Store, StoreError, Stored, User, Username};

/// A store in memory.
#[derive(Debug)]
pub struct Memory {
    users: Mutex<HashMap<Username, Vec<u8>>>,
    clock: Arc<dyn Clock>,
    pulse: watch::Sender<Pulse>,
}

impl Memory {
    /// An empty store.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { users: Mutex::default(), clock, pulse: watch::Sender::new(Pulse::Up) }
    }

    fn users(&self) -> MutexGuard<'_, HashMap<Username, Vec<u8>>> {
        // Each call changes the map once, so a panic elsewhere leaves it whole.
        self.users.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Store for Memory {
    async fn user(&self, name: &Username) -> Result<Option<Stored>, StoreError> {
        self.users().get(name).map(|bytes| record::read(name, bytes)).transpose()
    }

    async fn claim(&self, user: &User) -> Result<Claim, StoreError> {
        let mut users = self.users();
        if let Some(bytes) = users.get(&user.username) {
            return Ok(Claim::Taken(Box::new(record::read(&user.username, bytes)?)));
        }
        users.insert(user.username.clone(), record::write(user));
        Ok(Claim::Claimed)
    }

    async fn replace(&self, seen: &Revision, user: &User) -> Result<Replace, StoreError> {
        let document = record::rewrite(seen, user)?;
        match self.users().get_mut(&user.username) {
            Some(bytes) if **bytes == *seen.0 => {
                *bytes = document;
                Ok(Replace::Replaced)
            }
            Some(_) | None => Ok(Replace::Changed),
        }
    }

    fn now(&self) -> SystemTime {
        self.clock.now()
    }

    fn pulse(&self) -> watch::Receiver<Pulse> {
        self.pulse.subscribe()
    }

    async fn close(&self) {}
}
