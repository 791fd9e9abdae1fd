//! Registers a user, once for each request id.
//!
//! A taken username is refused before any hash. After the claim was sent only the store's answer counts: no acknowledgement
//! before the user is stored, and a lost race is answered like a username that was taken before.

use std::sync::Arc;

use super::{Accounts, Rules};
use crate::domain::{
    abuse::Proven,
    authn::{AttemptKind, Outcome, PasswordFactor},
    context::CallContext,
    error::{Check, Error},
    event::Event,
    model::{ChallengePurpose, Password, RequestId, Solution, User, UserData, Username},
    password::{Purpose, QueuePermit},
    ports::{Claim, StoreResult, Stored},
};

/// A user to register; every part is acceptable.
#[derive(Debug)]
pub struct Registration {
    username: Username,
    password: Password,
    data: UserData,
    request_id: Option<RequestId>,
    /// A proof of work, if one came.
    solution: Option<Solution>,
}

impl Registration {
    /// Parses a request, or names all its violations at once.
    pub fn parse(
        rules: &Rules,
        username: &str,
        password: String,
        data: String,
        request_id: &str,
        solution: Option<Solution>,
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
                Ok(Self { username, password, data, request_id, solution })
            }
            _ => unreachable!("a part is missing only after a violation"),
        }
    }
}

impl Accounts {
    /// Stores a new user.
    ///
    /// # Errors
    /// `UserAlreadyExists`; `RateLimited`, `ChallengeRequired`, `ChallengeInvalid`, `Overloaded`, `Draining`,
    /// `StoreUnavailable`: nothing was stored; `OutcomeUnknown`; `DeadlineExceeded`; `CorruptRecord`.
    pub(in crate::domain) async fn register(
        self: &Arc<Self>,
        context: &CallContext,
        wanted: Registration,
    ) -> Result<User, Error> {
        // No answer tells whether a username exists before the proof of work is shown.
        let purpose = ChallengePurpose::Register;
        if wanted.solution.is_some() {
            self.limits.count_solution(context)?;
        }
        let proven = self.proof_of_work.present(context, purpose, None, wanted.solution.as_ref()).await?;
        if !self.limits.count_registration(context, proven.is_some())? {
            return Err(self.proof_of_work.required(context, purpose));
        }
        let existing = self.store.user(&wanted.username).await.or_report(&self.environment)?;
        if let Some(existing) = existing {
            return self.repeat(context, &wanted, existing, proven).await;
        }
        let permit = match proven {
            Some(proven) => proven.permit,
            None => self.pool.admit_call(context, Purpose::Registration)?,
        };
        let user = self.new_user(context, &wanted, permit).await?;
        match self.claim(context, user).await? {
            (Claim::Claimed, user) => Ok(user),
            (Claim::Taken(existing), _) => self.repeat(context, &wanted, *existing, None).await,
        }
    }

    async fn new_user(&self, context: &CallContext, wanted: &Registration, permit: QueuePermit) -> Result<User, Error> {
        let password = permit.hash(wanted.password.clone()).await?;
        let (username, data) = (wanted.username.clone(), wanted.data.clone());
        let user = User::new(username, password, data, self.store.now(), self.environment.entropy.bytes());
        let known_addresses = self.keys.address_hash(context, Some(user.id)).await?.into_iter().collect();
        Ok(User { request_id: wanted.request_id, known_addresses, ..user })
    }

    async fn claim(self: &Arc<Self>, context: &CallContext, user: User) -> Result<(Claim<User>, User), Error> {
        let (this, context) = (self.clone(), context.clone());
        let claimed = self.completion.run(async move {
            let claim = this.store.claim(&user).await.or_report(&this.environment)?;
            if let Claim::Claimed = claim {
                this.environment.note(&Event::Registered { context: &context, user: user.id });
                // Attempts at the username before it had a user count nothing.
                this.limits.clear(&user.username).await;
            }
            Ok((claim, user))
        });
        claimed.await
    }

    /// Answers the first success again when this is the same request, and otherwise that the username is taken.
    ///
    /// The password must verify too: a request id is no secret, and the answer holds the user's data.
    async fn repeat(
        &self,
        context: &CallContext,
        wanted: &Registration,
        existing: Stored<User>,
        proven: Option<Proven>,
    ) -> Result<User, Error> {
        let user = &existing.value;
        let is_repeated = wanted.request_id.is_some() && wanted.request_id == user.request_id;
        if is_repeated && !user.disabled {
            let attempt = self.authenticator.begin(context, &user.username, AttemptKind::RepeatedRegistration).await?;
            let attempt = attempt.with_proof(proven).await?.with_user(existing).await?.admit().await?;
            let password = PasswordFactor(wanted.password.clone());
            match attempt.verify(password).await?.settle().await? {
                Outcome::Succeeded(user) => {
                    self.environment.note(&Event::RegistrationRepeated { context, user: user.value.id });
                    return Ok(user.value);
                }
                Outcome::Failed(_) => {}
            }
        }
        self.environment.note(&Event::NameTaken { context });
        Err(Error::UserAlreadyExists)
    }
}
