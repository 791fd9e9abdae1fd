//! Admin actions on accounts: read, disable, enable and unlock an account, end its sessions, and create a reset code.
//!
//! Each runs to completion and is reported to the observer with its outcome, also if it is refused.

use std::{sync::Arc, time::SystemTime};

use super::{AccountState, Admin};
use crate::domain::{
    context::CallContext,
    error::Error,
    event::{AdminAction, Event},
    model::{FailedAttempts, ResetCode, User, UserId, Username},
    ports::{StoreResult, Stored},
};

/// The user that an admin action selects.
#[derive(Debug)]
pub enum UserSelector {
    /// By id.
    Id(UserId),
    /// By username.
    Name(Username),
}

/// A user as operators see it.
#[derive(Debug)]
pub struct AdminUser {
    /// The user.
    pub user: User,
    /// The state of the account.
    pub state: AccountState,
    /// Consecutive failed attempts.
    pub failures: u32,
    /// The time of the last one.
    pub last_failure_time: Option<SystemTime>,
    /// When the current reset code expires.
    pub reset_expire_time: Option<SystemTime>,
}

/// The user and the failed attempts.
struct FoundUser {
    user: Stored<User>,
    failures: Option<FailedAttempts>,
}

impl Admin {
    /// Returns a user with the state of the account.
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

    /// Disables a user and ends all sessions. A disabled user stays disabled.
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
                // Concurrent changes by the user must not prevent it. Repeated if the user is disabled already, so that no
                // earlier session or reset code becomes valid again.
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

    /// Enables a disabled user.
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
                        // A code from before the user was disabled stays void. One of an enabled user stays valid.
                        if user.disabled {
                            user.disabled = false;
                            user.reset = None;
                        }
                    },
                );
                Ok(this.account(changed.await?, failures))
            });
        enabled.await
    }

    /// Resets the failure counter of a user, on this node at once and in the store.
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

    /// Ends all sessions of a user; answers how many were known.
    ///
    /// # Errors
    /// As for `disable_user`.
    pub async fn revoke_user_sessions(
        self: &Arc<Self>,
        context: &CallContext,
        selector: Result<UserSelector, Error>,
    ) -> Result<(AdminUser, usize), Error> {
        let revoked = self.act(
            context,
            AdminAction::RevokeUserSessions,
            selector,
            |this, FoundUser { user, failures }| async move {
                // Only for the count: a failure here must not keep sessions alive.
                let known = this.sessions.sessions_of(&user.value).await.map_or(0, |sessions| sessions.len());
                let changed = this.users.change_if(user, |_, _| true, |user| user.end_sessions(None));
                Ok((this.account(changed.await?, failures), known))
            },
        );
        revoked.await
    }

    /// Creates a reset code, which replaces an older one. With `require_reset` the current password becomes invalid and all
    /// sessions end.
    ///
    /// # Errors
    /// As for `disable_user`; `UserDisabled`: the code would be refused, so none is created.
    pub async fn create_reset_code(
        self: &Arc<Self>,
        context: &CallContext,
        selector: Result<UserSelector, Error>,
        require_reset: bool,
    ) -> Result<ResetCode, Error> {
        let act = AdminAction::CreateResetCode { require_reset };
        let made = self.act(context, act, selector, move |this, FoundUser { user, .. }| async move {
            if user.value.disabled {
                return Err(Error::UserDisabled);
            }
            let secret = this.environment.entropy.bytes().into();
            let (code, kept) = ResetCode::new(user.value.id, this.store.now(), &secret);
            let changed = this.users.change_if(
                user,
                |again, _| !again.disabled,
                |user| {
                    user.reset = Some(kept);
                    if require_reset {
                        user.require_reset();
                    }
                },
            );
            changed.await?;
            Ok(code)
        });
        made.await
    }

    /// Runs an admin action on a user and reports it. `selector` may be an invalid username.
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

    /// Reads a user and the failed attempts, before anything is changed.
    async fn find(&self, selector: UserSelector) -> Result<FoundUser, Error> {
        let (name, id) = match selector {
            UserSelector::Name(name) => (name, None),
            UserSelector::Id(id) => {
                let name = self.store.name_of(id).await.or_report(&self.environment)?;
                (name.ok_or(Error::UserNotFound)?, Some(id))
            }
        };
        let user = self.store.user(&name).await.or_report(&self.environment)?;
        // The username of a deleted user may belong to another user.
        let user = user.filter(|user| id.is_none_or(|id| user.value.id == id)).ok_or(Error::UserNotFound)?;
        // The failed attempts are only shown. An admin action against an attack must not depend on them.
        let failures = self.limits.consecutive_failures(&name).await.unwrap_or_else(|error| {
            tracing::warn!(?error, "failed attempts cannot be read; the user is shown without them");
            None
        });
        Ok(FoundUser { user, failures })
    }

    fn account(&self, user: User, failures: Option<FailedAttempts>) -> AdminUser {
        let consecutive = failures.map(|failures| failures.consecutive()).unwrap_or_default();
        let count = consecutive.total();
        AdminUser {
            state: AccountState::of(&user, &consecutive, self.limits.settings()),
            failures: count,
            last_failure_time: failures.filter(|_| count > 0).map(|failures| failures.last_time),
            reset_expire_time: user.reset.map(|kept| kept.expire_time).filter(|end| *end > self.store.now()),
            user,
        }
    }
}
