//! Signs a user in.
//!
//! Cheap refusals come first. Past the admission every path costs exactly one hash at the current parameters, so
//! time does not tell whether a name exists (ASVS 6.3.8), and every refusal is the same `InvalidCredentials`.

use std::time::{Duration, SystemTime};

use super::{
    Auth, CallContext, ChallengePurpose, Check, Error, Event, Password, Purpose, Refusal, Replace, Stored, Tokens,
    User, Username, guess::Lock, limits::REFUSAL_TIME_MIN,
};

/// `last_login_time` is kept to this, so that a user costs at most one write in it.
const LAST_LOGIN_GRAIN: Duration = Duration::from_secs(3_600);

/// How long a login waits for that write.
const TOUCH_WAIT_MAX: Duration = Duration::from_millis(500);

/// A name and a password to check. The password policy is not asked: it may have been laxer once.
#[derive(Debug)]
pub struct Attempt {
    username: Username,
    password: Password,
    /// A proof of work; empty when none came.
    solution: String,
}

impl Attempt {
    /// Parses a request, or names all its violations at once.
    pub fn parse(username: &str, password: String) -> Result<Self, Error> {
        let mut check = Check::default();
        let username = check.field(Username::parse(username));
        let password = check.field(Password::parse(password));
        check.done()?;
        match (username, password) {
            (Some(username), Some(password)) => Ok(Self { username, password, solution: String::new() }),
            _ => unreachable!("a part is missing only after a violation"),
        }
    }

    /// The same with a proof of work; an empty one is none.
    pub fn with_solution(self, solution: String) -> Self {
        Self { solution, ..self }
    }
}

impl Auth {
    /// Checks a password and begins a session.
    ///
    /// # Errors
    /// `InvalidCredentials`; `ChallengeRequired`, `ChallengeInvalid`, `Overloaded`, `Draining`, `StoreUnavailable`: nothing was checked; `DeadlineExceeded`;
    /// `CorruptRecord`.
    pub async fn login(&self, context: &CallContext, attempt: Attempt) -> Result<(User, Tokens), Error> {
        let password = attempt.password.clone();
        let stored = self.check(context, attempt).await?;
        // The epoch as it was before the hash: whatever ended sessions meanwhile has ended this one too.
        let (tokens, user) =
            tokio::join!(self.begin_session(context, &stored.value), self.touch(context, stored.clone()));
        let tokens = tokens?;
        self.note(&Event::LoggedIn { context, user: user.id, session: Some(tokens.session.id) });
        self.rehash(&user, password);
        Ok((user, tokens))
    }

    /// Checks a password and answers the user, for callers who can do nothing with tokens.
    ///
    /// # Errors
    /// As for `login`.
    pub async fn check_password(&self, context: &CallContext, attempt: Attempt) -> Result<User, Error> {
        let password = attempt.password.clone();
        let stored = self.check(context, attempt).await?;
        self.note(&Event::LoggedIn { context, user: stored.value.id, session: None });
        let user = self.touch(context, stored).await;
        self.rehash(&user, password);
        Ok(user)
    }

    async fn check(&self, context: &CallContext, attempt: Attempt) -> Result<Stored<User>, Error> {
        // It begins now.
        let refused_after = tokio::time::sleep(REFUSAL_TIME_MIN);
        let mut guess = self.guess(context, &attempt.username, None).await?;
        // Nothing tells whether a name exists until it is paid for.
        let room = self.pay(context, &mut guess, ChallengePurpose::Login, &attempt.solution).await?;
        let is_paid = room.is_some();
        if !is_paid {
            self.at_account(context, &mut guess).await?;
            // Before the store is asked; the room itself is for those who are let in.
            drop(self.admit(context, Purpose::Account)?);
        }
        let (stored, failures) = tokio::join!(self.store.user(&attempt.username), self.failures_of(&guess));
        let stored = stored.map_err(|error| self.store_error(error))?;
        let user = stored.as_ref().map(|stored| &stored.value);
        let lock = self.let_in(context, &mut guess, user, failures?, is_paid, ChallengePurpose::Login).await;
        if lock.is_err() {
            refused_after.await;
        }
        let lock = lock?;
        let permit = room.map_or_else(|| self.admit(context, Purpose::Account), Ok)?;
        let matches = guess.verify(permit, attempt.password, self.hash_to_try(user)).await?;
        if let Some(why) = refusal(user, lock, matches) {
            self.guessed_wrong(context, guess, user.map(|user| user.id));
            self.note(&Event::LoginRefused { context, why });
            return Err(Error::InvalidCredentials);
        }
        self.guessed_right(guess);
        Ok(stored.expect("nobody's password is refused"))
    }

    /// Remembers the hour of the login, and from where. It is a convenience, so no failure of it fails the login.
    async fn touch(&self, context: &CallContext, stored: Stored<User>) -> User {
        let Stored { value: mut user, revision } = stored;
        let hour = to_the_hour(self.store.now());
        let address = self.address_hash(context, Some(user.id)).await.ok().flatten();
        let news = address.filter(|address| !user.known_addresses.contains(address));
        if user.last_login_time.is_some_and(|last| last >= hour) && news.is_none() {
            return user;
        }
        user.last_login_time = user.last_login_time.max(Some(hour));
        if let Some(address) = address {
            user.learn(address);
        }
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

/// Why a password opens nothing, if it does not.
fn refusal(user: Option<&User>, lock: Lock, matches: bool) -> Option<Refusal> {
    let Some(user) = user else { return Some(Refusal::UnknownUser) };
    if user.disabled {
        return Some(Refusal::Disabled(user.id));
    }
    if lock == Lock::Shut {
        return Some(Refusal::Locked(user.id));
    }
    if user.password.is_none() {
        return Some(Refusal::NoPassword(user.id));
    }
    (!matches).then_some(Refusal::WrongPassword(user.id))
}

fn to_the_hour(time: SystemTime) -> SystemTime {
    let since_1970 = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let past_the_hour = since_1970.as_secs() % LAST_LOGIN_GRAIN.as_secs();
    SystemTime::UNIX_EPOCH + Duration::from_secs(since_1970.as_secs() - past_the_hour)
}
