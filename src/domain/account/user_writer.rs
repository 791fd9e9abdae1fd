//! Changes a user record by compare-and-set, over what other writers change in it meanwhile.

use std::sync::Arc;

use crate::domain::{
    error::Error,
    model::User,
    ports::{Environment, Replace, Store, StoreResult, Stored, cas_attempts},
    session::IntrospectionCache,
};

/// Writes user records, and evicts their sessions from the introspection cache.
#[derive(Clone)]
pub(in crate::domain) struct UserWriter {
    pub(in crate::domain) store: Arc<dyn Store>,
    pub(in crate::domain) environment: Environment,
    pub(in crate::domain) cache: Arc<IntrospectionCache>,
}

/// Whether both are one user with one password, and nothing has ended all sessions in between.
///
/// The stored hash is not compared: a new password always raises the epoch, and a login may rehash the same one.
fn has_same_credentials(one: &User, other: &User) -> bool {
    (one.id, one.epoch) == (other.id, other.epoch)
}

impl UserWriter {
    /// Changes a user unless the password or the epoch is another one meanwhile.
    ///
    /// # Errors
    /// `Conflict`; `StoreUnavailable`; `OutcomeUnknown`.
    pub(in crate::domain) async fn change(
        &self,
        seen: Stored<User>,
        change: impl Fn(&mut User),
    ) -> Result<User, Error> {
        self.change_if(seen, has_same_credentials, change).await
    }

    /// Changes a user while `may` says so, given the present record and the one before.
    ///
    /// # Errors
    /// As for `change`.
    pub(in crate::domain) async fn change_if(
        &self,
        seen: Stored<User>,
        may: impl Fn(&User, &User) -> bool,
        change: impl Fn(&mut User),
    ) -> Result<User, Error> {
        let mut stored = seen;
        for () in cas_attempts() {
            let mut user = stored.value.clone();
            change(&mut user);
            let replaced = self.store.replace(&stored.revision, &user).await;
            self.cache.evict_user(&user.username);
            if replaced.or_report(&self.environment)? == Replace::Replaced {
                return Ok(user);
            }
            stored = self.read_again(&stored, &may).await?;
        }
        Err(Error::Conflict)
    }

    /// Removes a user unless the password or the epoch is another one meanwhile.
    ///
    /// # Errors
    /// As for `change`.
    pub(in crate::domain) async fn remove(&self, seen: Stored<User>) -> Result<(), Error> {
        let mut stored = seen;
        for () in cas_attempts() {
            let removed = self.store.remove(&stored.revision, &stored.value).await;
            self.cache.evict_user(&stored.value.username);
            if removed.or_report(&self.environment)? == Replace::Replaced {
                return Ok(());
            }
            stored = self.read_again(&stored, &has_same_credentials).await?;
        }
        Err(Error::Conflict)
    }

    async fn read_again(
        &self,
        stored: &Stored<User>,
        may: &impl Fn(&User, &User) -> bool,
    ) -> Result<Stored<User>, Error> {
        let again = self.store.user(&stored.value.username).await.or_report(&self.environment)?;
        match again {
            Some(again) if again.value.id == stored.value.id && may(&again.value, &stored.value) => Ok(again),
            Some(_) | None => Err(Error::Conflict),
        }
    }
}
