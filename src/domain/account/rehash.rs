//! Stores a verified password with current parameters when its stored hash has older ones.
//!
//! In a task of its own, after all calls that want a hash: the login is answered by then, and a task that fails is tried
//! again at the next login. It never stores an older password over a newer one: the record is replaced only while it has the
//! very hash that was verified. It never makes a hash weaker ([`HashPool::upgrade`](crate::domain::HashPool::upgrade)).

use super::Accounts;
use crate::domain::{
    context::{CallContext, DEADLINE_DEFAULT},
    error::StoreError,
    event::Event,
    model::{Password, PasswordHash, User},
    password::{JobSource, Purpose},
    ports::{Replace, Store, cas_attempts},
};

impl Accounts {
    /// Begins to rehash `password`, which a call verified for `user`, if its stored hash is not current.
    pub(in crate::domain) fn rehash(&self, context: &CallContext, user: &User, password: Password) {
        let Some(verified) = user.password.clone() else { return };
        let Some(form) = self.pool.upgrade(&verified) else { return };
        let Some(task) = self.rehash_tasks.begin(user.id) else { return };
        let deadline = self.environment.clock.monotonic() + DEADLINE_DEFAULT;
        // Logins go first: it is admitted as a registration is, and belongs to the source that logged in.
        let permit = self.pool.admit(JobSource::of(context), Purpose::Registration, deadline);
        let Ok(permit) = permit else { return };
        let (store, environment, user) = (self.store.clone(), self.environment.clone(), user.clone());
        tokio::spawn(async move {
            // Until the end of the task.
            let _task = task;
            let Ok(current) = permit.rehash(password, form).await else { return };
            match replace(&*store, &user, &verified, &current).await {
                Ok(true) => environment.note(&Event::PasswordRehashed { user: user.id }),
                Ok(false) => tracing::debug!("a password was changed before it could be rehashed"),
                // The store logs its own state.
                Err(error) => tracing::debug!(?error, "a password was not rehashed"),
            }
        });
    }
}

/// Puts `current` in the place of `verified`; whether that was still stored.
async fn replace(
    store: &dyn Store,
    user: &User,
    verified: &PasswordHash,
    current: &PasswordHash,
) -> Result<bool, StoreError> {
    for () in cas_attempts() {
        let Some(stored) = store.user(&user.username).await? else { return Ok(false) };
        if stored.value.id != user.id || stored.value.password.as_ref() != Some(verified) {
            return Ok(false);
        }
        let changed = User { password: Some(current.clone()), ..stored.value };
        match store.replace(&stored.revision, &changed).await? {
            Replace::Replaced => return Ok(true),
            // New data, or the hour of a login: it is read again.
            Replace::Changed => {}
        }
    }
    Ok(false)
}
