//! Per-user locks: changes of one user that would starve each other wait for each other on this node.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard},
};

use tokio::sync::OwnedMutexGuard;

use crate::{common::lock::lock, domain::model::UserId};

/// The locks; one entry for each user with such a call in flight.
#[derive(Default)]
pub(in crate::domain) struct UserLocks(Mutex<HashMap<UserId, Arc<tokio::sync::Mutex<()>>>>);

/// A held lock. Dropped, it is released.
pub(super) struct UserLock {
    all: Arc<UserLocks>,
    user: UserId,
    held: Option<OwnedMutexGuard<()>>,
}

impl UserLocks {
    /// Waits for the lock of a user.
    pub(super) async fn lock(self: &Arc<Self>, user: UserId) -> UserLock {
        let mutex = self.mutexes().entry(user).or_default().clone();
        // Made before the wait, so that a call that is dropped while it waits cleans up too.
        let mut lock = UserLock { all: self.clone(), user, held: None };
        lock.held = Some(mutex.lock_owned().await);
        lock
    }

    fn mutexes(&self) -> MutexGuard<'_, HashMap<UserId, Arc<tokio::sync::Mutex<()>>>> {
        lock(&self.0)
    }
}

impl Drop for UserLock {
    fn drop(&mut self) {
        drop(self.held.take());
        let mut mutexes = self.all.mutexes();
        // No other call waits: a new one clones the mutex under the same lock.
        if mutexes.get(&self.user).is_some_and(|mutex| Arc::strong_count(mutex) == 1) {
            mutexes.remove(&self.user);
        }
    }
}
