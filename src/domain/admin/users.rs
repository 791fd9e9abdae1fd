//! What operators do with somebody else's account: look at it, disable, enable and unlock it, make a code for a new password.
//!
//! Each is done to the end and noted with the operator who asked, whatever becomes of it: what was refused is an act too.

use std::{sync::Arc, time::SystemTime};

use super::{AccountState, Admin};
use crate::domain::{
    context::CallContext,
    error::Error,
    event::{AdminAction, Event},
    model::{FailedAttempts, ResetCode, User, UserId, Username},
    ports::{StoreResult, Stored},
};

/// Which user an operator means.
#[derive(Debug)]
pub enum UserSelector {
    /// The one with this id.
    Id(UserId),
    /// The one of this name.
    Name(Username),
}

/// A user as operators see it.
#[derive(Debug)]
pub struct AdminUser {
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
struct FoundUser {
    user: Stored<User>,
    failures: Option<FailedAttempts>,
}

impl Admin {
    /// Answers a user with the state of the account.
    ///
    /// # Errors
    /// `UserNotFound`; `StoreUnavailable`; `CorruptRecord`.
    pub async fn read_user(
        self: &Arc<Self>,
        context: &CallContext,
        selector: Result<UserSelector, Error>,
    ) -> Result<AdminUser, Error> {
        let read =
            self.act(context, AdminAction::ReadUser, selector, |this, FoundUser { user, failures }| async move {
                Ok(this.account(user.value, failures))
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
        selector: Result<UserSelector, Error>,
    ) -> Result<AdminUser, Error> {
        let disabled =
            self.act(context, AdminAction::DisableUser, selector, |this, FoundUser { user, failures }| async move {
                // Whatever the user does meanwhile must not prevent it. Once more when it is done already: no session and no code of
                // before is to count again.
                let changed = this.users.change_if(
                    user,
                    |_, _| true,
                    |user| {
                        user.disabled = true;
                        user.reset = None;
                        user.end_sessions(None);
                    },
                );
                Ok(this.account(changed.await?, failures))
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
        selector: Result<UserSelector, Error>,
    ) -> Result<AdminUser, Error> {
        let enabled =
            self.act(context, AdminAction::EnableUser, selector, |this, FoundUser { user, failures }| async move {
                let changed = this.users.change_if(
                    user,
                    |_, _| true,
                    |user| {
                        user.disabled = false;
                        user.reset = None;
                    },
                );
                Ok(this.account(changed.await?, failures))
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
        selector: Result<UserSelector, Error>,
    ) -> Result<AdminUser, Error> {
        let unlocked =
            self.act(context, AdminAction::UnlockUser, selector, |this, FoundUser { user, .. }| async move {
                this.limits.clear_in_store(&user.value.username).await?;
                Ok(this.account(user.value, None))
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
        selector: Result<UserSelector, Error>,
        require_reset: bool,
    ) -> Result<ResetCode, Error> {
        let act = AdminAction::CreateResetCode { require_reset };
        let made = self.act(context, act, selector, move |this, FoundUser { user, .. }| async move {
            let secret = this.environment.entropy.bytes().into();
            let (code, kept) = ResetCode::new(user.value.id, this.store.now(), &secret);
            let changed = this.users.change_if(
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

    /// Runs an admin action on a user, and notes it. `selector` may be no valid username.
    async fn act<T, F>(
        self: &Arc<Self>,
        context: &CallContext,
        act: AdminAction,
        selector: Result<UserSelector, Error>,
        work: impl FnOnce(Arc<Self>, FoundUser) -> F + Send + 'static,
    ) -> Result<T, Error>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, Error>> + Send + 'static,
    {
        let (this, context) = (self.clone(), context.clone());
        let done = self.completion.run(async move {
            let found = match selector {
                Ok(selector) => this.find(selector).await,
                Err(refusal) => Err(refusal),
            };
            let user = found.as_ref().ok().map(|found| found.user.value.id);
            let done = match found {
                Ok(found) => work(this.clone(), found).await,
                Err(refusal) => Err(refusal),
            };
            let refusal = done.as_ref().err();
            this.environment.note(&Event::AdminActed { context: &context, act, user, refusal });
            done
        });
        done.await
    }

    /// Reads a user and the failures, before anything is changed: after that nothing may fail any more.
    async fn find(&self, selector: UserSelector) -> Result<FoundUser, Error> {
        let (name, id) = match selector {
            UserSelector::Name(name) => (name, None),
            UserSelector::Id(id) => {
                let name = self.store.name_of(id).await.or_report(&self.environment)?;
                (name.ok_or(Error::UserNotFound)?, Some(id))
            }
        };
        let user = self.store.user(&name).await.or_report(&self.environment)?;
        // An id may outlive its user, whose name somebody else has then.
        let user = user.filter(|user| id.is_none_or(|id| user.value.id == id)).ok_or(Error::UserNotFound)?;
        // They are only shown, and what contains an attack must not depend on them.
        let failures = self.limits.consecutive_failures(&name).await.unwrap_or_else(|error| {
            tracing::warn!(?error, "an operator is shown a user without the failures, which cannot be read");
            None
        });
        Ok(FoundUser { user, failures })
    }

    fn account(&self, user: User, failures: Option<FailedAttempts>) -> AdminUser {
        let count = failures.map_or(0, |failures| failures.count);
        AdminUser {
            state: AccountState::of(&user, count, self.limits.settings()),
            failures: count,
            last_failure_time: failures.filter(|failures| failures.count > 0).map(|failures| failures.last_time),
            reset_expire_time: user.reset.map(|kept| kept.expire_time).filter(|end| *end > self.store.now()),
            user,
        }
    }
}
