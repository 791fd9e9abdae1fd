//! Signs a user in.
//!
//! Cheap refusals come first. Past the admission every path costs exactly one hash at the current parameters, so
//! time does not tell whether a name exists (ASVS 6.3.8), and every refusal is the same `InvalidCredentials`.

use std::time::{Duration, SystemTime};

use super::{Auth, Caller, Check, Error, Event, Password, Purpose, Refusal, Replace, Stored, Tokens, User, Username};

/// `last_login_time` is kept to this, so that a user costs at most one write in it.
const LAST_LOGIN_GRAIN: Duration = Duration::from_secs(3_600);

/// How long a login waits for that write.
const TOUCH_WAIT_MAX: Duration = Duration::from_millis(500);

/// A name and a password to check. The password policy is not asked: it may have been laxer once.
#[derive(Debug)]
pub struct Attempt {
    username: Username,
    password: Password,
}

impl Attempt {
    /// Parses a request, or names all its violations at once.
    pub fn parse(username: &str, password: String) -> Result<Self, Error> {
        let mut check = Check::default();
        let username = check.field(Username::parse(username));
        let password = check.field(Password::parse(password));
        check.done()?;
        match (username, password) {
            (Some(username), Some(password)) => Ok(Self { username, password }),
            _ => unreachable!("a part is missing only after a violation"),
        }
    }
}

impl Auth {
    /// Checks a password and begins a session.
    ///
    /// # Errors
    /// `InvalidCredentials`; `Overloaded`, `Draining`, `StoreUnavailable`: nothing was checked; `DeadlineExceeded`;
    /// `CorruptRecord`.
    pub async fn login(&self, caller: &Caller, attempt: Attempt) -> Result<(User, Tokens), Error> {
        let stored = self.check(caller, attempt).await?;
        // The epoch as it was before the hash: whatever ended sessions meanwhile has ended this one too.
        let (tokens, user) = tokio::join!(self.begin_session(caller, &stored.value), self.touch(stored.clone()));
        let tokens = tokens?;
        self.note(&Event::LoggedIn { caller, user: user.id, session: Some(tokens.session.id) });
        Ok((user, tokens))
    }

    /// Checks a password and answers the user, for callers who can do nothing with tokens.
    ///
    /// # Errors
    /// As for `login`.
    pub async fn check_password(&self, caller: &Caller, attempt: Attempt) -> Result<User, Error> {
        let stored = self.check(caller, attempt).await?;
        self.note(&Event::LoggedIn { caller, user: stored.value.id, session: None });
        Ok(self.touch(stored).await)
    }

    async fn check(&self, caller: &Caller, attempt: Attempt) -> Result<Stored<User>, Error> {
        let slot = self.admit(caller, Purpose::Account)?;
        let stored = self.store.user(&attempt.username).await.map_err(|error| self.store_error(error))?;
        let hash = stored.as_ref().map_or_else(|| self.passwords.decoy(), |stored| stored.value.password.clone());
        let matches = slot.verify(attempt.password, hash).await?;

        let Some(stored) = stored else { return self.refuse(caller, Refusal::UnknownUser) };
        if stored.value.disabled {
            return self.refuse(caller, Refusal::Disabled(stored.value.id));
        }
        if !matches {
            return self.refuse(caller, Refusal::WrongPassword(stored.value.id));
        }
        Ok(stored)
    }

    fn refuse<T>(&self, caller: &Caller, why: Refusal) -> Result<T, Error> {
        self.note(&Event::LoginRefused { caller, why });
        Err(Error::InvalidCredentials)
    }

    /// Remembers the hour of the login. It is a convenience, so no failure of it fails the login.
    async fn touch(&self, stored: Stored<User>) -> User {
        let Stored { value: mut user, revision } = stored;
        let hour = to_the_hour(self.store.now());
        if user.last_login_time.is_some_and(|last| last >= hour) {
            return user;
        }
        user.last_login_time = Some(hour);
        match tokio::time::timeout(TOUCH_WAIT_MAX, self.store.replace(&revision, &user)).await {
            // Changed: somebody else logged in or changed the user in this moment; their write stands.
            Ok(Ok(Replace::Replaced | Replace::Changed)) => {}
            Err(_) => tracing::warn!("the store was too slow to note the time of a login"),
            // The store says by itself what is wrong with it, and not for every login.
            Ok(Err(error)) => tracing::debug!(?error, "the time of a login was not stored"),
        }
        user
    }
}

fn to_the_hour(time: SystemTime) -> SystemTime {
    let since_1970 = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let past_the_hour = since_1970.as_secs() % LAST_LOGIN_GRAIN.as_secs();
    SystemTime::UNIX_EPOCH + Duration::from_secs(since_1970.as_secs() - past_the_hour)
}
