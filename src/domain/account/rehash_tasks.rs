//! The rehash tasks of this node: bounded, and at most one a user.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, MutexGuard},
};

use crate::{common::lock::lock, domain::model::UserId};

/// Rehash tasks at once on this node.
const TASKS_MAX: usize = 64;

/// The users with a rehash task; at most one task a user.
#[derive(Default)]
pub(in crate::domain) struct RehashTasks(Mutex<HashSet<UserId>>);

/// A task's place among them. Dropped, it is released.
pub(super) struct RehashTask {
    all: Arc<RehashTasks>,
    user: UserId,
}

impl RehashTasks {
    /// A place for a user's task; `None` while there is one, or too many of others.
    pub(super) fn begin(self: &Arc<Self>, user: UserId) -> Option<RehashTask> {
        let mut users = self.users();
        let is_free = users.len() < TASKS_MAX && users.insert(user);
        is_free.then(|| RehashTask { all: self.clone(), user })
    }

    fn users(&self) -> MutexGuard<'_, HashSet<UserId>> {
        lock(&self.0)
    }
}

impl Drop for RehashTask {
    fn drop(&mut self) {
        self.all.users().remove(&self.user);
    }
}
