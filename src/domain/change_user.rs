//! Changes the record of a user who is there, over whatever others change in it meanwhile.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::OwnedMutexGuard;

use super::{Auth, CallContext, Error, Replace, Stored, User, UserId};

/// How often a change is tried again that somebody else was faster with.
pub(super) const CAS_ATTEMPTS_MAX: usize = 16;

/// Changes that are done to the end at once, whether or not their callers still wait; beyond it callers wait, each within his
/// deadline.
pub(super) const COMPLETIONS_MAX: usize = 1_024;

/// Whether both are one user with one password, and nothing has ended all sessions in between.
///
/// The stored form is not compared: a new password always raises the epoch, and a login may store the same one anew.
pub(super) fn has_same_credentials(one: &User, other: &User) -> bool {
    (one.id, one.epoch) == (other.id, other.epoch)
}

/// Whose turn it is to change a user, among those on this node who take turns; as many as there are such calls under way.
#[derive(Default)]
pub(super) struct UserLocks(Mutex<HashMap<UserId, Arc<tokio::sync::Mutex<()>>>>);

/// A turn. It ends when it is dropped.
pub(super) struct UserLock {
    all: Arc<UserLocks>,
    user: UserId,
    held: Option<OwnedMutexGuard<()>>,
}

impl UserLocks {
    /// Waits for a turn.
    pub(super) async fn of(self: &Arc<Self>, user: UserId) -> UserLock {
        let line = self.lines().entry(user).or_default().clone();
        // Made before the wait, so that whoever leaves it clears up too.
        let mut turn = UserLock { all: self.clone(), user, held: None };
        turn.held = Some(line.lock_owned().await);
        turn
    }

    fn lines(&self) -> MutexGuard<'_, HashMap<UserId, Arc<tokio::sync::Mutex<()>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for UserLock {
    fn drop(&mut self) {
        drop(self.held.take());
        let mut lines = self.all.lines();
        // Nobody else waits: whoever comes clones it under the same lock.
        if lines.get(&self.user).is_some_and(|line| Arc::strong_count(line) == 1) {
            lines.remove(&self.user);
        }
    }
}

impl Auth {
    /// Does in a task of its own what changes the store and then says so: once it has begun, it is done and noted even when
    /// the caller has gone meanwhile. Otherwise whoever leaves in the right moment would do it unseen.
    pub(super) async fn run_to_completion<T, F>(
        self: &Arc<Self>,
        context: &CallContext,
        work: impl FnOnce(Arc<Self>, CallContext) -> F,
    ) -> Result<T, Error>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, Error>> + Send + 'static,
    {
        let room = self.run_to_completion.clone().acquire_owned().await.expect("nobody closes it");
        let work = work(self.clone(), context.clone());
        let done = tokio::spawn(async move {
            let _room = room;
            work.await
        });
        let done = done.await;
        // The task is never cancelled, so it can only have panicked; its caller's guard answers.
        done.unwrap_or_else(|ended| std::panic::resume_unwind(ended.into_panic()))
    }

    /// Changes a user's record, over whatever others change in it meanwhile but its password and epoch.
    pub(super) async fn change_user(&self, seen: Stored<User>, change: impl Fn(&mut User)) -> Result<User, Error> {
        self.change_user_if(seen, has_same_credentials, change).await
    }

    /// Changes a user's record while it is one that may be changed, given what it was.
    pub(super) async fn change_user_if(
        &self,
        seen: Stored<User>,
        may: impl Fn(&User, &User) -> bool,
        change: impl Fn(&mut User),
    ) -> Result<User, Error> {
        let mut stored = seen;
        for _ in 0..CAS_ATTEMPTS_MAX {
            let mut user = stored.value.clone();
            change(&mut user);
            let replaced = self.store.replace(&stored.revision, &user).await;
            self.introspection_cache.user_changed(&user.username);
            if replaced.map_err(|error| self.store_error(error))? == Replace::Replaced {
                return Ok(user);
            }
            let again = self.store.user(&user.username).await.map_err(|error| self.store_error(error))?;
            match again {
                Some(again) if again.value.id == stored.value.id && may(&again.value, &stored.value) => stored = again,
                Some(_) | None => return Err(Error::Conflict),
            }
        }
        Err(Error::Conflict)
    }
}
