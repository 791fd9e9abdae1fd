//! Registers a user, once for each request id.
//!
//! A taken name is told before any hash. After the claim was sent nothing but the store's word counts: no
//! acknowledgement before the user is stored, and a lost race is answered like a name that was taken before.

use std::sync::Arc;

use super::{
    Auth, CallContext, ChallengePurpose, Check, Claim, Error, Event, Password, Purpose, RequestId, Rules, Stored, User,
    UserData, Username, guess::Lock, password::QueuePermit,
};

/// A user to register; every part is acceptable.
#[derive(Debug)]
pub struct Registration {
    username: Username,
    password: Password,
    data: UserData,
    request_id: Option<RequestId>,
    /// A proof of work; empty when none came.
    solution: String,
}

impl Registration {
    /// Parses a request, or names all its violations at once.
    pub fn parse(
        rules: &Rules,
        username: &str,
        password: String,
        data: String,
        request_id: &str,
    ) -> Result<Self, Error> {
        let mut check = Check::default();
        let username = check.field(Username::parse(username));
        let password = check.field(Password::parse(password));
        if let Some(password) = &password {
            check.field(rules.password_policy.check(password, username.as_ref()));
        }
        let data = check.field(UserData::parse(data, rules.data_bytes_max));
        let request_id = check.field(RequestId::parse(request_id));
        check.done_with_new_password("password")?;
        match (username, password, data, request_id) {
            (Some(username), Some(password), Some(data), Some(request_id)) => {
                Ok(Self { username, password, data, request_id, solution: String::new() })
            }
            _ => unreachable!("a part is missing only after a violation"),
        }
    }

    /// The same with a proof of work; an empty one is none.
    pub fn with_solution(self, solution: String) -> Self {
        Self { solution, ..self }
    }
}

impl Auth {
    /// Stores a new user.
    ///
    /// # Errors
    /// `UserAlreadyExists`; `ChallengeRequired`, `ChallengeInvalid`, `Overloaded`, `Draining`, `StoreUnavailable`: nothing was stored; `OutcomeUnknown`;
    /// `DeadlineExceeded`; `CorruptRecord`.
    pub async fn register(self: &Arc<Self>, context: &CallContext, wanted: Registration) -> Result<User, Error> {
        self.count_registration(context)?;
        // Nothing tells whether a name exists until it is paid for.
        let room = self.present_challenge(context, ChallengePurpose::Register, &wanted.solution).await?;
        let existing = self.store.user(&wanted.username).await.map_err(|error| self.store_error(error))?;
        if let Some(existing) = existing {
            return self.repeat(context, &wanted, existing, room).await;
        }

        let permit = room.map_or_else(|| self.admit(context, Purpose::Registration), Ok)?;
        let password = permit.hash(wanted.password.clone()).await?;
        let (username, data) = (wanted.username.clone(), wanted.data.clone());
        let user = User::new(username, password, data, self.store.now(), &*self.environment.entropy);
        let known_addresses = self.address_hash(context, Some(user.id)).await?.into_iter().collect();
        let user = User { request_id: wanted.request_id, known_addresses, ..user };

        let claimed = self.run_to_completion(context, |auth, context| async move {
            let claim = auth.store.claim(&user).await.map_err(|error| auth.store_error(error))?;
            if let Claim::Claimed = claim {
                auth.note(&Event::Registered { context: &context, user: user.id });
                // Whoever guessed at the name before it was somebody's has guessed at nothing.
                auth.forget_failures(&user.username).await;
            }
            Ok((claim, user))
        });
        let (claim, user) = claimed.await?;
        match claim {
            Claim::Claimed => Ok(user),
            Claim::Taken(existing) => self.repeat(context, &wanted, *existing, None).await,
        }
    }

    /// Answers the first success again when this is the same request, and that the name is taken otherwise.
    ///
    /// The password must verify too: a request id is no secret, and the answer holds the user's data.
    async fn repeat(
        &self,
        context: &CallContext,
        wanted: &Registration,
        existing: Stored<User>,
        room: Option<QueuePermit>,
    ) -> Result<User, Error> {
        let user = existing.value;
        let is_repeated = wanted.request_id.is_some() && wanted.request_id == user.request_id;
        if is_repeated && !user.disabled {
            // A way to try passwords, though one must know the id.
            let mut guess = self.guess(context, &user.username, None).await?;
            if room.is_none() {
                self.at_account(context, &mut guess).await?;
            }
            let failures = self.failures_of(&guess).await?;
            let lock =
                self.let_in(context, &mut guess, Some(&user), failures, room.is_some(), ChallengePurpose::Register);
            let lock = lock.await?;
            let permit = room.map_or_else(|| self.admit(context, Purpose::Registration), Ok)?;
            let matches = guess.verify(permit, wanted.password.clone(), self.hash_to_try(Some(&user))).await?;
            if matches && lock == Lock::Open {
                self.guessed_right(guess);
                self.note(&Event::RegistrationRepeated { context, user: user.id });
                return Ok(user);
            }
            self.guessed_wrong(context, guess, Some(user.id));
        }
        self.note(&Event::NameTaken { context });
        Err(Error::UserAlreadyExists)
    }
}
