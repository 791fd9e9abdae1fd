//! Replaces the password of an authenticated user; and the reauthentication that this and other irreversible calls ask for.

use std::sync::Arc;

use super::{Accounts, Rules};
use crate::domain::{
    authn::{AttemptKind, CurrentPassword, Outcome, PasswordFactor},
    context::CallContext,
    error::{Check, Error},
    event::Event,
    model::{Password, SessionId, Solution, User},
    password::{Policy, Purpose, check_differs},
    ports::Stored,
    session::AuthenticatedSession,
    token::Tokens,
};

/// A new password for a user.
#[derive(Debug)]
pub struct PasswordChange {
    current: CurrentPassword,
    new: Password,
    /// For the part that needs the username, which only the access token tells.
    policy: Policy,
}

impl PasswordChange {
    /// Parses a request, or names all its violations at once.
    pub fn parse(rules: &Rules, current: String, new: String, solution: Option<Solution>) -> Result<Self, Error> {
        let mut check = Check::default();
        let current = check.field(CurrentPassword::parse(current, solution));
        let new = check.field(Password::parse(new).map_err(|fault| fault.of("new_password")));
        if let Some(new) = &new {
            let policy = rules.password_policy.check(new, None);
            let is_current = current.as_ref().is_some_and(|current| new.as_str() == current.password.as_str());
            check.field(policy.and(check_differs(is_current)).map_err(|fault| fault.of("new_password")));
        }
        check.done_with_new_password("new_password")?;
        match (current, new) {
            (Some(current), Some(new)) => Ok(Self { current, new, policy: rules.password_policy.clone() }),
            _ => unreachable!("a part is missing only after a violation"),
        }
    }
}

impl Accounts {
    /// Replaces the password of the user of this call, ends all sessions and creates a new one.
    ///
    /// # Errors
    /// Those of an access token; `InvalidCredentials` when the current password is another one; `PasswordPolicy`;
    /// `Conflict`; `Overloaded`, `Draining`, `StoreUnavailable`: nothing was changed; `OutcomeUnknown`.
    pub(in crate::domain) async fn change_password(
        self: &Arc<Self>,
        context: &CallContext,
        change: PasswordChange,
    ) -> Result<Tokens, Error> {
        let AuthenticatedSession { user, session } = self.sessions.authenticate(context).await?;
        let named = change.policy.check_name(&change.new, &user.value.username);
        named.map_err(|fault| Error::PasswordPolicy(fault.of("new_password").into()))?;
        // What can fail without harm fails before the change.
        self.keys.key_ring().await?;
        let user = self.reauthenticate(context, user, session.value.id, change.current).await?;
        let password = self.pool.admit_call(context, Purpose::Account)?.hash(change.new).await?;
        let address = self.keys.address_hash(context, Some(user.value.id)).await?;
        let now = self.store.now();
        let (this, context_of_task) = (self.clone(), context.clone());
        let changed = self.completion.run(async move {
            let changed = this.users.change(user, |user| {
                user.set_password(password.clone());
                address.into_iter().for_each(|address| user.learn(address));
                user.update_time = now;
            });
            let changed = changed.await?;
            this.environment.note(&Event::PasswordChanged { context: &context_of_task, user: changed.id });
            this.limits.clear(&changed.username).await;
            Ok::<_, Error>(changed)
        });
        let changed = changed.await?;
        // The password is changed: an answer that nothing was changed would be wrong.
        self.sessions.create(context, &changed).await.map_err(|_| Error::OutcomeUnknown)
    }

    /// Asks the user of this call for the password again, as before everything that cannot be undone (ASVS 7.5.1).
    ///
    /// # Errors
    /// `InvalidCredentials`; `RateLimited`, `ChallengeRequired`, `ChallengeInvalid`; `Overloaded`, `Draining`,
    /// `StoreUnavailable`.
    pub(super) async fn reauthenticate(
        &self,
        context: &CallContext,
        user: Stored<User>,
        session: SessionId,
        current: CurrentPassword,
    ) -> Result<Stored<User>, Error> {
        let id = user.value.id;
        let kind = AttemptKind::Reauthentication(session);
        let attempt = self.authenticator.begin(context, &user.value.username, kind).await?;
        let attempt = match &current.solution {
            // `--challenge login` asks for one only at the login that created the session.
            None => attempt.with_proof(None).await?,
            Some(solution) => attempt.prove(Some(solution)).await?,
        };
        let attempt = attempt.with_user(user).await?.admit().await?;
        match attempt.verify(PasswordFactor(current.password)).await?.settle().await? {
            Outcome::Succeeded(user) => Ok(*user),
            Outcome::Failed(_) => {
                self.environment.note(&Event::ReauthenticationFailed { context, user: id });
                Err(Error::InvalidCredentials)
            }
        }
    }
}
