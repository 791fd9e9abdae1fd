//! One attempt to authenticate, step by step. The picture is in `authn/mod.rs`.
//!
//! Every way to try a factor is here: logins over all APIs, a registration that is sent again, reauthentication before a
//! password change or a deletion, and reset codes. An attempt that is dropped before it settles counts nowhere, except after
//! an invalid proof of work, and while a hash runs: then it counts as failed.

use std::{sync::Arc, time::Duration};

use super::{
    Credentials, Outcome,
    factor::{Factor, Failure, NoPermit, PasswordFactor, Subject},
};
use crate::domain::{
    abuse::{AttemptCost, AttemptLimits, LimitHold, Lock, ProofOfWork, Proven, pool_purpose},
    context::CallContext,
    error::Error,
    event::Event,
    model::{ChallengeFault, ChallengePurpose, FailedAttempts, SessionId, Solution, User, Username},
    password::{HashPool, QueuePermit},
    ports::{Environment, Sleep, Store, StoreResult, Stored},
};

/// Reading a user and reading none differ by microseconds. Where no hash hides that, a refusal is answered no sooner than
/// this after the attempt began.
const REFUSAL_TIME_MIN: Duration = Duration::from_millis(10);

/// The parts that the pipeline needs.
pub(in crate::domain) struct Authenticator {
    pub(in crate::domain) store: Arc<dyn Store>,
    pub(in crate::domain) environment: Environment,
    pub(in crate::domain) limits: Arc<AttemptLimits>,
    pub(in crate::domain) proof_of_work: Arc<ProofOfWork>,
    pub(in crate::domain) pool: Arc<HashPool>,
}

/// What an attempt is made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::domain) enum AttemptKind {
    Login,
    /// An authenticated user shows the password again.
    Reauthentication(SessionId),
    /// A registration that was sent before, which shows the password to prove it.
    RepeatedRegistration,
}

/// What all steps of an attempt carry.
struct Attempt<'a> {
    pipeline: &'a Authenticator,
    context: &'a CallContext,
    username: Username,
    challenge: ChallengePurpose,
    hold: LimitHold,
    /// A sleep until a refusal may be answered.
    refusal_time: Sleep,
}

/// The limit of the client's address was asked.
#[must_use]
pub(in crate::domain) struct Begun<'a>(Attempt<'a>);

/// The attempt has proof of work, or is within the limit of its source at the account; or its factor has no limit before it
/// is verified.
#[must_use]
pub(in crate::domain) struct Limited<'a> {
    attempt: Attempt<'a>,
    /// The valid proof of work that came with it.
    proven: Option<Proven>,
}

/// The user and the failed attempts were read.
#[must_use]
pub(in crate::domain) struct Loaded<'a> {
    attempt: Attempt<'a>,
    proven: Option<Proven>,
    user: Option<Stored<User>>,
    failed_attempts: Option<Stored<FailedAttempts>>,
    /// Whether the pipeline itself looked for the user, whose existence no answer may tell.
    is_existence_secret: bool,
}

/// The limit of the account was asked, unless the factor has none, and the permit of the factor is there.
#[must_use]
pub(in crate::domain) struct Admitted<'a, P> {
    attempt: Attempt<'a>,
    user: Option<Stored<User>>,
    lock: Lock,
    permit: P,
}

/// The factor decided. The attempt counts when it settles.
#[must_use]
pub(in crate::domain) struct Verified<'a, F: Factor> {
    attempt: Attempt<'a>,
    user: Option<Stored<User>>,
    refusal: Option<F::Refusal>,
}

impl Authenticator {
    /// The attempt of a login: authenticates a user by a password.
    ///
    /// # Errors
    /// `InvalidCredentials`; `RateLimited`, `ChallengeRequired`, `ChallengeInvalid`, `Overloaded`, `Draining`,
    /// `StoreUnavailable`, `OutcomeUnknown`: nothing was verified; `DeadlineExceeded`; `CorruptRecord`.
    pub(in crate::domain) async fn log_in(
        &self,
        context: &CallContext,
        credentials: Credentials,
    ) -> Result<Stored<User>, Error> {
        let Credentials { username, password, solution } = credentials;
        let attempt = self.begin(context, &username, AttemptKind::Login).await?;
        let attempt = attempt.prove(solution.as_ref()).await?.load().await?.admit().await?;
        match attempt.verify(PasswordFactor(password)).await?.settle().await? {
            Outcome::Succeeded(user) => Ok(*user),
            Outcome::Failed(why) => {
                self.environment.note(&Event::LoginRefused { context, why });
                Err(Error::InvalidCredentials)
            }
        }
    }

    /// Begins an attempt with a password.
    ///
    /// # Errors
    /// `RateLimited`, `Overloaded`; `StoreUnavailable`.
    pub(in crate::domain) async fn begin<'a>(
        &'a self,
        context: &'a CallContext,
        username: &Username,
        kind: AttemptKind,
    ) -> Result<Begun<'a>, Error> {
        let refusal_time = self.environment.clock.sleep(REFUSAL_TIME_MIN);
        let (session, challenge) = match kind {
            AttemptKind::Login => (None, ChallengePurpose::Login),
            AttemptKind::Reauthentication(session) => (Some(session), ChallengePurpose::Login),
            AttemptKind::RepeatedRegistration => (None, ChallengePurpose::Register),
        };
        let hold = self.limits.begin(context, username, session).await?;
        let username = username.clone();
        Ok(Begun(Attempt { pipeline: self, context, username, challenge, hold, refusal_time }))
    }

    /// Begins an attempt with a reset code. No limit applies before the code is verified: 128 random bits exclude brute
    /// force, and an attacker must not keep the user of the right code out. Wrong codes count when the attempt settles.
    pub(in crate::domain) fn begin_with_code<'a>(
        &'a self,
        context: &'a CallContext,
        username: &Username,
    ) -> Limited<'a> {
        let refusal_time = self.environment.clock.sleep(REFUSAL_TIME_MIN);
        let (username, challenge, hold) = (username.clone(), ChallengePurpose::Login, LimitHold::none());
        Limited { attempt: Attempt { pipeline: self, context, username, challenge, hold, refusal_time }, proven: None }
    }
}

impl<'a> Begun<'a> {
    /// Checks the proof of work that came with the call. Without one the limit of the attempt's source at the account is
    /// asked instead.
    ///
    /// # Errors
    /// `ChallengeRequired`, `ChallengeInvalid`; `RateLimited`, `Overloaded`, `Draining`, `DeadlineExceeded`,
    /// `StoreUnavailable`, `OutcomeUnknown`.
    pub(in crate::domain) async fn prove(mut self, solution: Option<&Solution>) -> Result<Limited<'a>, Error> {
        let Attempt { pipeline, context, username, challenge, hold, .. } = &mut self.0;
        // These cost this node a write or a key, and the client nothing. A client that goes away during the check may have
        // caused the write. The other faults cost microseconds.
        if solution.is_some() {
            hold.set_cost(AttemptCost::Solution);
        }
        let presented = pipeline.proof_of_work.present(context, *challenge, Some(username), solution).await;
        let is_costly = match &presented {
            Err(Error::ChallengeInvalid { fault, .. }) => {
                matches!(fault, ChallengeFault::Spent | ChallengeFault::Unsolved)
            }
            Ok(_) | Err(_) => false,
        };
        if !is_costly {
            hold.set_cost(AttemptCost::Nothing);
        }
        let limited = self.with_proof(presented?).await?;
        if limited.proven.is_none() {
            let Attempt { pipeline, context, challenge, .. } = &limited.attempt;
            // Dropped at once: this only asks whether a permit is available before the store is read. `admit` takes it.
            drop(pipeline.pool.admit_call(context, pool_purpose(*challenge))?);
        }
        Ok(limited)
    }

    /// The same, with the proof of work that the call showed before the attempt began.
    ///
    /// # Errors
    /// `RateLimited`; `ChallengeRequired`.
    pub(in crate::domain) async fn with_proof(mut self, proven: Option<Proven>) -> Result<Limited<'a>, Error> {
        let Attempt { pipeline, context, challenge, hold, .. } = &mut self.0;
        if proven.is_none() && !pipeline.limits.reserve_at_account(context, hold).await? {
            return Err(pipeline.proof_of_work.required(context, *challenge));
        }
        Ok(Limited { attempt: self.0, proven })
    }
}

impl<'a> Limited<'a> {
    /// Reads the user and the failed attempts.
    ///
    /// # Errors
    /// `StoreUnavailable`; `CorruptRecord`.
    pub(in crate::domain) async fn load(self) -> Result<Loaded<'a>, Error> {
        let Self { attempt, proven } = self;
        let pipeline = attempt.pipeline;
        let user = pipeline.store.user(&attempt.username);
        let (user, failed_attempts) = tokio::join!(user, pipeline.limits.failed_attempts(&attempt.hold));
        let (user, failed_attempts) = (user.or_report(&pipeline.environment)?, failed_attempts?);
        Ok(Loaded { attempt, proven, user, failed_attempts, is_existence_secret: true })
    }

    /// Reads the failed attempts, for a user that the caller has read.
    ///
    /// # Errors
    /// `StoreUnavailable`.
    pub(in crate::domain) async fn with_user(self, user: Stored<User>) -> Result<Loaded<'a>, Error> {
        let Self { attempt, proven } = self;
        let failed_attempts = attempt.pipeline.limits.failed_attempts(&attempt.hold).await?;
        Ok(Loaded { attempt, proven, user: Some(user), failed_attempts, is_existence_secret: false })
    }
}

impl<'a> Loaded<'a> {
    /// Asks the limit of the account, and for a permit of the hash pool.
    ///
    /// # Errors
    /// `RateLimited`; `ChallengeRequired` when the account is locked; `Overloaded`, `Draining`, `DeadlineExceeded`;
    /// `StoreUnavailable`; `CorruptRecord`.
    pub(in crate::domain) async fn admit(self) -> Result<Admitted<'a, QueuePermit>, Error> {
        let (attempt, user, lock, proven) = self.within_limits().await?;
        let permit = match proven {
            Some(proven) => proven.permit,
            None => attempt.pipeline.pool.admit_call(attempt.context, pool_purpose(attempt.challenge))?,
        };
        Ok(Admitted { attempt, user, lock, permit })
    }

    /// The same for a factor that needs no permit. A reset code, which 128 random bits protect, began without a limit, so
    /// none is asked.
    ///
    /// # Errors
    /// `RateLimited`, `Overloaded`; `ChallengeRequired` when the account is locked; `StoreUnavailable`; `CorruptRecord`.
    pub(in crate::domain) async fn admit_without_permit(self) -> Result<Admitted<'a, NoPermit>, Error> {
        let (attempt, user, lock, _) = self.within_limits().await?;
        Ok(Admitted { attempt, user, lock, permit: NoPermit })
    }

    async fn within_limits(self) -> Result<(Attempt<'a>, Option<Stored<User>>, Lock, Option<Proven>), Error> {
        let Self { mut attempt, proven, user, failed_attempts, is_existence_secret } = self;
        let admitted = attempt.admit(user.as_ref(), failed_attempts, proven.as_ref().map(|proven| proven.price)).await;
        if admitted.is_err() && is_existence_secret {
            attempt.refusal_time.as_mut().await;
        }
        Ok((attempt, user, admitted?, proven))
    }
}

impl Attempt<'_> {
    async fn admit(
        &mut self,
        user: Option<&Stored<User>>,
        failed_attempts: Option<Stored<FailedAttempts>>,
        price: Option<u8>,
    ) -> Result<Lock, Error> {
        let Self { pipeline, context, challenge, hold, .. } = self;
        let user = user.map(|stored| &stored.value);
        let lock = pipeline.limits.admit(context, hold, user, failed_attempts, price).await?;
        lock.ok_or_else(|| pipeline.proof_of_work.required(context, *challenge))
    }
}

impl<'a, P> Admitted<'a, P> {
    /// Verifies the factor.
    ///
    /// # Errors
    /// `Overloaded`, `DeadlineExceeded`: nothing was verified.
    pub(in crate::domain) async fn verify<F: Factor<Permit = P>>(self, factor: F) -> Result<Verified<'a, F>, Error> {
        let Self { mut attempt, user, lock, permit } = self;
        // A client that disconnects from now on has cost one hash once that has begun, and gets no answer.
        if let Some(begun) = F::hash_begun(&permit) {
            attempt.hold.set_cost(AttemptCost::Hash(begun));
        }
        let pipeline = attempt.pipeline;
        let found = user.as_ref().map(|stored| &stored.value);
        let subject = Subject { user: found, lock, now: pipeline.store.now(), pool: &pipeline.pool };
        let verified = factor.verify(permit, subject).await;
        if verified.is_err() {
            attempt.hold.set_cost(AttemptCost::Nothing);
        }
        Ok(Verified { attempt, user, refusal: verified? })
    }
}

impl<F: Factor> Verified<'_, F> {
    /// Counts the attempt, once: failed, or succeeded.
    ///
    /// # Errors
    /// `RateLimited`, `Overloaded`, `StoreUnavailable`, `CorruptRecord` when a factor is limited after it was verified.
    pub(in crate::domain) async fn settle(self) -> Result<Outcome<F::Refusal>, Error> {
        let Self { attempt, user, refusal } = self;
        let Attempt { pipeline, context, username, hold, refusal_time, .. } = attempt;
        match (refusal, user) {
            (None, Some(user)) => {
                pipeline.limits.succeeded(hold);
                Ok(Outcome::Succeeded(Box::new(user)))
            }
            (None, None) => unreachable!("a factor refuses where there is no user"),
            (Some(refusal), _) => {
                let (limits, environment, username) = (&*pipeline.limits, &pipeline.environment, &username);
                let failure = Failure { limits, environment, context, username, refusal };
                F::count_failure(failure, hold, refusal_time).await?;
                Ok(Outcome::Failed(refusal))
            }
        }
    }
}
