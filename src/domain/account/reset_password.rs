//! Replaces the password of a user who shows a code that an operator created.
//!
//! For users who have lost the password or were locked out by an attacker, so no rate limit stands in the way of the right
//! code. The code's hash is in the user record, so spending it and setting the password are one change. A refused code is
//! answered alike and after the same time. Sources: ASVS 5.0 6.4.2, 6.4.6 and 6.5.1 to 6.5.5, NIST SP 800-63B-4 3.1.1.2.

use std::{sync::Arc, time::Duration};

use super::{Accounts, Rules};
use crate::domain::{
    authn::{Outcome, PresentedCode, ResetCodeFactor},
    context::CallContext,
    error::{Check, Error},
    event::Event,
    model::{Password, PasswordHash, User, Username},
    password::{Purpose, check_differs},
    ports::Stored,
};

/// How long a user with a new password waits until the failed attempts at the old one are cleared on all nodes.
const CLEAR_WAIT_MAX: Duration = Duration::from_millis(500);

/// A new password, and the code that allows it.
#[derive(Debug)]
pub struct PasswordReset {
    username: Username,
    code: PresentedCode,
    new: Password,
}

impl PasswordReset {
    /// Parses a request, or names all its violations at once: the code is not spent by it.
    pub fn parse(rules: &Rules, username: &str, code: String, new: String) -> Result<Self, Error> {
        let mut check = Check::default();
        let username = check.field(Username::parse(username));
        let code = check.field(PresentedCode::parse(code));
        let new = check.field(Password::parse(new).map_err(|fault| fault.of("new_password")));
        if let Some(new) = &new {
            let policy = rules.password_policy.check(new, username.as_ref());
            check.field(policy.map_err(|fault| fault.of("new_password")));
        }
        check.done_with_new_password("new_password")?;
        match (username, code, new) {
            (Some(username), Some(code), Some(new)) => Ok(Self { username, code, new }),
            _ => unreachable!("a part is missing only after a violation"),
        }
    }
}

impl Accounts {
    /// Replaces the password of the user of the code, and ends all sessions. None is created.
    ///
    /// # Errors
    /// `InvalidCredentials`; `RateLimited`; `PasswordPolicy` when the new password is the old one; `Conflict`, `Overloaded`,
    /// `Draining`, `StoreUnavailable`: nothing was changed and the code is still valid; `OutcomeUnknown`;
    /// `DeadlineExceeded`; `CorruptRecord`.
    pub(in crate::domain) async fn reset_password(
        self: &Arc<Self>,
        context: &CallContext,
        wanted: PasswordReset,
    ) -> Result<(), Error> {
        let PasswordReset { username, code, new } = wanted;
        let seen = self.verify_code(context, &username, &code).await?;
        self.check_new(context, &seen.value, &new).await?;
        let password = self.pool.admit_call(context, Purpose::Account)?.hash(new).await?;
        match self.set_password(context, seen, password).await {
            // Another call may have spent the code, or the user is disabled: then the code is refused.
            Err(Error::Conflict) => {
                self.verify_code(context, &username, &code).await?;
                Err(Error::Conflict)
            }
            done => done,
        }
    }

    /// Refuses the current password as the new one, and the one that a required reset made invalid. Costs one hash, and
    /// only after the code is verified. Tells a holder of the code nothing more: a password that differs is set, and spends
    /// the code.
    async fn check_new(&self, context: &CallContext, user: &User, new: &Password) -> Result<(), Error> {
        let Some(old) = user.password.as_ref().or(user.former_password.as_ref()) else { return Ok(()) };
        let permit = self.pool.admit_call(context, Purpose::Account)?;
        let is_old = permit.verify(new.clone(), old.clone()).await?;
        check_differs(is_old).map_err(|fault| Error::PasswordPolicy(fault.of("new_password").into()))
    }

    async fn verify_code(
        &self,
        context: &CallContext,
        username: &Username,
        code: &PresentedCode,
    ) -> Result<Stored<User>, Error> {
        let attempt =
            self.authenticator.begin_with_code(context, username).load().await?.admit_without_permit().await?;
        match attempt.verify(ResetCodeFactor(code)).await?.settle().await? {
            Outcome::Succeeded(user) => Ok(*user),
            Outcome::Failed(_) => Err(Error::InvalidCredentials),
        }
    }

    async fn set_password(
        self: &Arc<Self>,
        context: &CallContext,
        seen: Stored<User>,
        password: PasswordHash,
    ) -> Result<(), Error> {
        let now = self.store.now();
        let (this, context) = (self.clone(), context.clone());
        let changed = self.completion.run(async move {
            let changed = this.users.change_if(
                seen,
                // Other changes of the user leave the code, or have spent it.
                |again, before| again.reset == before.reset && !again.disabled,
                |user| {
                    user.set_password(password.clone());
                    user.update_time = now;
                },
            );
            let changed = changed.await?;
            this.environment.note(&Event::PasswordReset { context: &context, user: changed.id });
            // For the other nodes too, where the user may log in next. If the store is too slow, this node stores it later.
            let cleared = this.limits.clear_in_store(&changed.username);
            drop(this.environment.clock.timeout(CLEAR_WAIT_MAX, cleared).await);
            Ok(())
        });
        changed.await
    }
}
