//! Stores a password anew whose stored form is an older one, after a login has shown that it is right.
//!
//! In a task of its own, behind everybody else who wants a hash: the login is answered by then, and what could not be done
//! is tried again at the next one. It never stores an older password over a newer one: the record is replaced only while
//! it has the very hash that was verified.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::{
    Auth, DEADLINE_DEFAULT, Event, Password, Purpose, Replace, Store, StoreError, User, UserId,
    change_user::CAS_ATTEMPTS_MAX, password::PasswordHash,
};

/// Users whose passwords are stored anew at once on this node.
const RENEWALS_MAX: usize = 64;

/// Whose passwords are being stored anew; a user's once at a time.
#[derive(Default)]
pub(super) struct RehashTasks(Mutex<HashSet<UserId>>);

/// A place among them, given back when it is dropped.
struct RehashTask {
    all: Arc<RehashTasks>,
    user: UserId,
}

impl Auth {
    /// Begins to store `password`, which was right for `user`, in today's form, if it is not.
    pub(super) fn rehash(&self, user: &User, password: Password) {
        let Some(verified) = user.password.clone().filter(|hash| !self.passwords.is_current(hash)) else { return };
        let Some(renewal) = self.renewals.begin(user.id) else { return };
        let deadline = self.environment.clock.monotonic() + DEADLINE_DEFAULT;
        // Logins go first: it asks for room as somebody who registers does.
        let Ok(permit) = self.passwords.admit(Purpose::Registration, deadline) else { return };
        let (store, observer, user) = (self.store.clone(), self.environment.observer.clone(), user.clone());
        tokio::spawn(async move {
            // Until the end of the task.
            let _renewal = renewal;
            let Ok(renewed) = permit.hash(password).await else { return };
            match replace(&*store, &user, &verified, &renewed).await {
                Ok(true) => observer.on(&Event::PasswordRehashed { user: user.id }),
                Ok(false) => tracing::debug!("a password was changed before it could be stored anew"),
                // The store says by itself what is wrong with it.
                Err(error) => tracing::debug!(?error, "a password was not stored anew"),
            }
        });
    }
}

/// Puts `renewed` in the place of `verified`; says whether that was still there.
async fn replace(
    store: &dyn Store,
    user: &User,
    verified: &PasswordHash,
    renewed: &PasswordHash,
) -> Result<bool, StoreError> {
    for _ in 0..CAS_ATTEMPTS_MAX {
        let Some(stored) = store.user(&user.username).await? else { return Ok(false) };
        if stored.value.id != user.id || stored.value.password.as_ref() != Some(verified) {
            return Ok(false);
        }
        let changed = User { password: Some(renewed.clone()), ..stored.value };
        match store.replace(&stored.revision, &changed).await? {
            Replace::Replaced => return Ok(true),
            // New data, or the hour of a login: whatever it was is read again.
            Replace::Changed => {}
        }
    }
    Ok(false)
}

// === impl Renewals ===

impl RehashTasks {
    fn begin(self: &Arc<Self>, user: UserId) -> Option<RehashTask> {
        let mut users = self.users();
        let is_free = users.len() < RENEWALS_MAX && users.insert(user);
        is_free.then(|| RehashTask { all: self.clone(), user })
    }

    fn users(&self) -> MutexGuard<'_, HashSet<UserId>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for RehashTask {
    fn drop(&mut self) {
        self.all.users().remove(&self.user);
    }
}
