//! What operators do with somebody else's account: look at it, disable, enable and unlock it, make a code for a new password.
//!
//! Each is done to the end and noted with the operator who asked, whatever becomes of it: what was refused is an act too.

use std::{sync::Arc, time::SystemTime};

use super::{AccountState, Auth, CallContext, Error, Event, FailedAttempts, ResetCode, Stored, User, UserId, Username};

/// Which user an operator means.
#[derive(Debug)]
pub enum UserSelector {
    /// The one with this id.
    Id(UserId),
    /// The one of this name.
    Name(Username),
}

/// What an operator does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AdminAction {
    /// Looks at a user.
    ReadUser,
    /// Refuses a user's logins.
    DisableUser,
    /// Allows them again.
    EnableUser,
    /// Forgets a user's failures.
    UnlockUser,
    /// Makes a code with which a user sets a new password.
    CreateResetCode {
        /// The present one no longer counts.
        require_reset: bool,
    },
    /// Looks at the server.
    ReadServer,
    /// Asks for the next signing key, and is refused or has it already.
    RotateSigningKey,
}

/// A user as operators see it.
#[derive(Debug)]
pub struct Account {
    /// The user.
    pub user: User,
    /// Whether and how the user can sign in.
    pub state: AccountState,
    /// Wrong passwords in a row.
    pub failures: u32,
    /// When the last one was.
    pub last_failure_time: Option<SystemTime>,
    /// Until when an outstanding reset code is good.
    pub reset_expire_time: Option<SystemTime>,
}

/// A user who was found.
struct Found {
    user: Stored<User>,
    failures: Option<FailedAttempts>,
}

impl Auth {
    /// Answers a user with the state of the account.
    ///
    /// # Errors
    /// `UserNotFound`; `StoreUnavailable`; `CorruptRecord`.
    pub async fn read_user(
        self: &Arc<Self>,
        context: &CallContext,
        user_selector: Result<UserSelector, Error>,
    ) -> Result<Account, Error> {
        let read =
            self.act(context, AdminAction::ReadUser, user_selector, |auth, Found { user, failures }| async move {
                Ok(auth.account(user.value, failures))
            });
        read.await
    }

    /// Refuses a user's logins and ends all sessions. One who is disabled stays so.
    ///
    /// # Errors
    /// As for `read_user`; `Conflict`; `OutcomeUnknown`.
    pub async fn disable_user(
        self: &Arc<Self>,
        context: &CallContext,
        user_selector: Result<UserSelector, Error>,
    ) -> Result<Account, Error> {
        let disabled =
            self.act(context, AdminAction::DisableUser, user_selector, |auth, Found { user, failures }| async move {
                // Whatever the user does meanwhile must not prevent it. Once more when it is done already: no session and no code of
                // before is to count again.
                let changed = auth.change_user_if(
                    user,
                    |_, _| true,
                    |user| {
                        user.disabled = true;
                        user.reset = None;
                        user.end_sessions(None);
                    },
                );
                Ok(auth.account(changed.await?, failures))
            });
        disabled.await
    }

    /// Allows a disabled user's logins again.
    ///
    /// # Errors
    /// As for `disable_user`.
    pub async fn enable_user(
        self: &Arc<Self>,
        context: &CallContext,
        user_selector: Result<UserSelector, Error>,
    ) -> Result<Account, Error> {
        let enabled =
            self.act(context, AdminAction::EnableUser, user_selector, |auth, Found { user, failures }| async move {
                let changed = auth.change_user_if(
                    user,
                    |_, _| true,
                    |user| {
                        user.disabled = false;
                        user.reset = None;
                    },
                );
                Ok(auth.account(changed.await?, failures))
            });
        enabled.await
    }

    /// Forgets how often a user's password was wrong, here at once and in the store when it answers.
    ///
    /// # Errors
    /// As for `disable_user`.
    pub async fn unlock_user(
        self: &Arc<Self>,
        context: &CallContext,
        user_selector: Result<UserSelector, Error>,
    ) -> Result<Account, Error> {
        let unlocked =
            self.act(context, AdminAction::UnlockUser, user_selector, |auth, Found { user, .. }| async move {
                auth.forget_failures_for_good(&user.value.username).await?;
                Ok(auth.account(user.value, None))
            });
        unlocked.await
    }

    /// Makes a code with which a user sets a new password; an older one is void. With `require_reset` the present password
    /// no longer counts and all sessions end.
    ///
    /// # Errors
    /// As for `disable_user`.
    pub async fn create_reset_code(
        self: &Arc<Self>,
        context: &CallContext,
        user_selector: Result<UserSelector, Error>,
        require_reset: bool,
    ) -> Result<ResetCode, Error> {
        let act = AdminAction::CreateResetCode { require_reset };
        let made = self.act(context, act, user_selector, move |auth, Found { user, .. }| async move {
            let (code, kept) = auth.new_code(user.value.id);
            let changed = auth.change_user_if(
                user,
                |_, _| true,
                |user| {
                    user.reset = Some(kept);
                    if require_reset {
                        user.password = None;
                        // Whoever knew the password may have signed in from anywhere.
                        user.known_addresses.clear();
                        user.end_sessions(None);
                    }
                },
            );
            changed.await?;
            Ok(code)
        });
        made.await
    }

    /// Notes that an operator has looked at the server.
    pub fn note_server_read(&self, context: &CallContext) {
        self.note(&Event::AdminActed { context, act: AdminAction::ReadServer, user: None, refusal: None });
    }

    /// Does to a user what an operator asks, and notes it; `user_selector` may be something that is no user's name.
    async fn act<T, F>(
        self: &Arc<Self>,
        context: &CallContext,
        act: AdminAction,
        user_selector: Result<UserSelector, Error>,
        work: impl FnOnce(Arc<Self>, Found) -> F + Send + 'static,
    ) -> Result<T, Error>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, Error>> + Send + 'static,
    {
        let done = self.run_to_completion(context, move |auth, context| async move {
            let found = match user_selector {
                Ok(user_selector) => auth.find(user_selector).await,
                Err(refusal) => Err(refusal),
            };
            let user = found.as_ref().ok().map(|found| found.user.value.id);
            let done = match found {
                Ok(found) => work(auth.clone(), found).await,
                Err(refusal) => Err(refusal),
            };
            auth.note(&Event::AdminActed { context: &context, act, user, refusal: done.as_ref().err() });
            done
        });
        done.await
    }

    /// Reads a user and the failures, before anything is changed: after that nothing may fail any more.
    async fn find(&self, user_selector: UserSelector) -> Result<Found, Error> {
        let (name, id) = match user_selector {
            UserSelector::Name(name) => (name, None),
            UserSelector::Id(id) => {
                let name = self.store.name_of(id).await.map_err(|error| self.store_error(error))?;
                (name.ok_or(Error::UserNotFound)?, Some(id))
            }
        };
        let user = self.store.user(&name).await.map_err(|error| self.store_error(error))?;
        // An id may outlive its user, whose name somebody else has then.
        let user = user.filter(|user| id.is_none_or(|id| user.value.id == id)).ok_or(Error::UserNotFound)?;
        // They are only shown, and what contains an attack must not depend on them.
        let failures = self.failures_in_a_row(&name).await.unwrap_or_else(|error| {
            tracing::warn!(?error, "an operator is shown a user without the failures, which cannot be read");
            None
        });
        Ok(Found { user, failures })
    }

    fn account(&self, user: User, failures: Option<FailedAttempts>) -> Account {
        let count = failures.map_or(0, |failures| failures.count);
        Account {
            state: AccountState::of(&user, count, self.rate_limit_settings()),
            failures: count,
            last_failure_time: failures.filter(|failures| failures.count > 0).map(|failures| failures.last_time),
            reset_expire_time: user.reset.map(|kept| kept.expire_time).filter(|end| *end > self.store.now()),
            user,
        }
    }
}
