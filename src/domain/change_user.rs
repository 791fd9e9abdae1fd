//! Changes the record of a user who is there, over whatever others change in it meanwhile.

use std::sync::Arc;

use super::{Auth, Caller, Error, Replace, Stored, User};

/// How often a change is tried again that somebody else was faster with.
pub(super) const TRIES_MAX: usize = 16;

/// Whether both are one user with one password, and nothing has ended all sessions in between.
///
/// The stored form is not compared: a new password always raises the epoch, and a login may store the same one anew.
pub(super) fn has_same_credentials(one: &User, other: &User) -> bool {
    (one.id, one.epoch) == (other.id, other.epoch)
}

impl Auth {
    /// Does in a task of its own what changes the store and then says so: once it has begun, it is done and noted even when
    /// the caller has gone meanwhile. Otherwise whoever leaves in the right moment would do it unseen.
    pub(super) async fn to_the_end<T, F>(
        self: &Arc<Self>,
        caller: &Caller,
        work: impl FnOnce(Arc<Self>, Caller) -> F,
    ) -> Result<T, Error>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, Error>> + Send + 'static,
    {
        let done = tokio::spawn(work(self.clone(), caller.clone())).await;
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
        for _ in 0..TRIES_MAX {
            let mut user = stored.value.clone();
            change(&mut user);
            let replaced = self.store.replace(&stored.revision, &user).await;
            self.recent.user_changed(&user.username);
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
