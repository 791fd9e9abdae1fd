//! What users do with their own account: read it, change its data and its password, delete it.

use std::sync::Arc;

use super::{
    Auth, CallContext, ChallengePurpose, Check, Error, Event, Password, Purpose, Replace, Rules, SessionId, Stored,
    Tokens, User, UserData,
    authenticate::AuthenticatedSession,
    change_user::{CAS_ATTEMPTS_MAX, has_same_credentials},
    guess::Lock,
    password::policy,
};

/// New data for a user.
#[derive(Debug)]
pub struct DataChange {
    data: UserData,
    /// What the data must be now, if that matters.
    etag: Option<String>,
}

/// A new password for a user.
#[derive(Debug)]
pub struct PasswordChange {
    current: Password,
    new: Password,
}

impl DataChange {
    /// Parses a request; an empty etag is none.
    pub fn parse(rules: &Rules, data: String, etag: String) -> Result<Self, Error> {
        let data = UserData::parse(data, rules.data_bytes_max)?;
        Ok(Self { data, etag: (!etag.is_empty()).then_some(etag) })
    }
}

impl PasswordChange {
    /// Parses a request, or names all its violations at once.
    pub fn parse(rules: &Rules, current: String, new: String) -> Result<Self, Error> {
        let mut check = Check::default();
        let current = check.field(Password::parse(current).map_err(|fault| fault.of("current_password")));
        let new = check.field(Password::parse(new).map_err(|fault| fault.of("new_password")));
        if let Some(new) = &new {
            let policy = rules.password_policy.check(new, None);
            check.field(policy.map_err(|fault| fault.of("new_password")));
        }
        check.done_with_new_password("new_password")?;
        match (current, new) {
            (Some(current), Some(new)) => Ok(Self { current, new }),
            _ => unreachable!("a part is missing only after a violation"),
        }
    }
}

impl Auth {
    /// The user whose call it is.
    ///
    /// # Errors
    /// Those of a bearer token; `StoreUnavailable`.
    pub async fn get_user(&self, context: &CallContext) -> Result<User, Error> {
        Ok(self.authenticate(context).await?.user.value)
    }

    /// Replaces the user's data.
    ///
    /// # Errors
    /// Those of a bearer token; `Conflict` when the etag is another one; `StoreUnavailable`, `OutcomeUnknown`.
    pub async fn update_user_data(self: &Arc<Self>, context: &CallContext, change: DataChange) -> Result<User, Error> {
        // One after the other: a crowd of them would always be faster than what ends their session.
        let turn = self.user_locks.of(self.claims(context).await?.user_id).await;
        let AuthenticatedSession { user, .. } = self.authenticate(context).await?;
        let now = self.store.now();
        let DataChange { data, etag } = change;
        let fits = move |user: &User| etag.as_ref().is_none_or(|etag| *etag == user.data.etag());
        if !fits(&user.value) {
            return Err(Error::Conflict);
        }
        let changed = self.run_to_completion(context, |auth, context| async move {
            let changed = auth.change_user_if(
                user,
                |again, before| again.epoch == before.epoch && fits(again),
                |user| {
                    user.data = data.clone();
                    user.update_time = now;
                },
            );
            let changed = changed.await?;
            drop(turn);
            auth.note(&Event::UserChanged { context: &context, user: changed.id });
            Ok(changed)
        });
        changed.await
    }

    /// Replaces the user's password, ends all sessions and begins a new one.
    ///
    /// # Errors
    /// Those of a bearer token; `InvalidCredentials` when the current password is another one; `PasswordPolicy`;
    /// `Conflict`; `Overloaded`, `Draining`, `StoreUnavailable`: nothing was changed; `OutcomeUnknown`.
    pub async fn change_password(
        self: &Arc<Self>,
        context: &CallContext,
        change: PasswordChange,
    ) -> Result<Tokens, Error> {
        let AuthenticatedSession { user, session } = self.authenticate(context).await?;
        let named = policy::check_name(&change.new, &user.value.username);
        named.map_err(|fault| Error::PasswordPolicy(fault.of("new_password").into()))?;
        // Whatever can fail without harm fails before the change.
        self.ring().await?;
        self.reauthenticate(context, &user, session.value.id, change.current).await?;
        let password = self.admit(context, Purpose::Account)?.hash(change.new).await?;
        let address = self.address_hash(context, Some(user.value.id)).await?;
        let now = self.store.now();
        let changed = self.run_to_completion(context, |auth, context| async move {
            let changed = auth.change_user(user, |user| {
                user.set_password(password.clone());
                address.into_iter().for_each(|address| user.learn(address));
                user.update_time = now;
            });
            let changed = changed.await?;
            auth.note(&Event::PasswordChanged { context: &context, user: changed.id });
            auth.forget_failures(&changed.username).await;
            Ok(changed)
        });
        let changed = changed.await?;
        // The password is changed: an answer that nothing was would be a lie.
        self.begin_session(context, &changed).await.map_err(|_| Error::OutcomeUnknown)
    }

    /// Forgets the user and ends all sessions.
    ///
    /// # Errors
    /// As for `change_password`.
    pub async fn delete_user(self: &Arc<Self>, context: &CallContext, current: Password) -> Result<(), Error> {
        let AuthenticatedSession { user, session } = self.authenticate(context).await?;
        self.reauthenticate(context, &user, session.value.id, current).await?;
        let removed = self.run_to_completion(context, |auth, context| async move {
            let mut seen = user;
            for _ in 0..CAS_ATTEMPTS_MAX {
                let removed = auth.store.remove(&seen.revision, &seen.value).await;
                auth.introspection_cache.user_changed(&seen.value.username);
                if removed.map_err(|error| auth.store_error(error))? == Replace::Replaced {
                    auth.note(&Event::UserDeleted { context: &context, user: seen.value.id });
                    return Ok(());
                }
                // New data, or the hour of a login; not another password.
                let again = auth.store.user(&seen.value.username).await.map_err(|error| auth.store_error(error))?;
                match again {
                    Some(again) if has_same_credentials(&again.value, &seen.value) => seen = again,
                    Some(_) | None => return Err(Error::Conflict),
                }
            }
            Err(Error::Conflict)
        });
        removed.await
    }

    /// Asks for the password once more, as before everything that cannot be undone (ASVS 7.5.1).
    async fn reauthenticate(
        &self,
        context: &CallContext,
        user: &Stored<User>,
        session: SessionId,
        current: Password,
    ) -> Result<(), Error> {
        let user = &user.value;
        let mut guess = self.guess(context, &user.username, Some(session)).await?;
        self.at_account(context, &mut guess).await?;
        let failures = self.failures_of(&guess).await?;
        let lock = self.let_in(context, &mut guess, Some(user), failures, false, ChallengePurpose::Login).await?;
        let permit = self.admit(context, Purpose::Account)?;
        let matches = guess.verify(permit, current, self.hash_to_try(Some(user))).await?;
        if matches && lock == Lock::Open {
            self.guessed_right(guess);
            return Ok(());
        }
        self.guessed_wrong(context, guess, Some(user.id));
        self.note(&Event::ReauthenticationFailed { context, user: user.id });
        Err(Error::InvalidCredentials)
    }
}
