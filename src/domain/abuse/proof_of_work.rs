//! Proof of work (ALTCHA, version 2): computation that costs a person nothing noticeable and a bot much.
//!
//! A challenge is signed and not stored: creating one takes microseconds, so a flood of requests for challenges gains
//! nothing. It is spent by its first presentation, right or wrong, on all nodes that share the store. A solution is
//! checked in the order of what that costs: form, signature, time, purpose; then the store; the key last, in the hash
//! pool. So a made-up challenge costs neither a write nor a key derivation, and a signed one no more computation than
//! the settings say. The text form is `common/altcha.rs`.

use std::{sync::Arc, time::Duration};

use super::price;
use crate::{
    common::{
        altcha::{self, ChallengeContents, SignedSolution, Unreadable, UnverifiedSolution, Work},
        time::{CLOCK_TOLERANCE, from_unix_seconds, unix_seconds},
    },
    domain::{
        context::CallContext,
        error::Error,
        event::Event,
        model::{ChallengeFault, ChallengePurpose, NewChallenge, Solution, Username, WantedChallenge},
        password::{HashPool, Purpose, QueuePermit},
        ports::{Environment, Store, StoreResult},
        token::{ActiveKeyRing, KeyRingCache},
    },
};

/// How long a spent challenge is remembered after that, in case the clock of a node or of the store is late.
const REMEMBERED_AFTER: Duration = Duration::from_secs(60);

/// A signing key is used for one day (UTC) and accepted on the next one too: longer than any challenge is valid.
const DAY: Duration = Duration::from_secs(86_400);

/// Where proof of work is asked for, and how much.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChallengeRules {
    /// Whether every registration needs a solution.
    pub register: bool,
    /// Whether every login does.
    pub login: bool,
    /// What a challenge asks for.
    pub work: Work,
}

impl ChallengeRules {
    fn requires(&self, purpose: ChallengePurpose) -> bool {
        match purpose {
            ChallengePurpose::Register => self.register,
            ChallengePurpose::Login => self.login,
        }
    }
}

/// Creates challenges and checks solutions.
pub(in crate::domain) struct ProofOfWork {
    store: Arc<dyn Store>,
    keys: Arc<KeyRingCache>,
    pool: Arc<HashPool>,
    environment: Environment,
    rules: ChallengeRules,
}

/// A valid proof of work.
pub(in crate::domain) struct Proven {
    /// The permit for the hash of the call, so that no client has computed in vain.
    pub(in crate::domain) permit: QueuePermit,
    /// How many times the work was doubled.
    pub(in crate::domain) price: u8,
}

impl ProofOfWork {
    pub(in crate::domain) fn new(
        store: Arc<dyn Store>,
        keys: Arc<KeyRingCache>,
        pool: Arc<HashPool>,
        environment: Environment,
        rules: ChallengeRules,
    ) -> Self {
        Self { store, keys, pool, environment, rules }
    }

    /// Creates a challenge of this price for one presentation, for a username if there is one. It is valid for five minutes,
    /// and longer where solving it can take a minute.
    ///
    /// # Errors
    /// `StoreUnavailable` when the key ring was never read.
    pub(in crate::domain) async fn create(
        &self,
        context: &CallContext,
        wanted: &WantedChallenge,
        price: u8,
    ) -> Result<NewChallenge, Error> {
        let ring = self.keys.last_key_ring().await?;
        let time = self.store.now();
        let now = unix_seconds(time);
        let [nonce, salt] = [self.environment.entropy.bytes(), self.environment.entropy.bytes()];
        let expires_at = now + price::lifetime(price).as_secs();
        let purpose = wanted.purpose();
        let account = match wanted {
            WantedChallenge::Register | WantedChallenge::Login(None) => None,
            WantedChallenge::Login(Some(username)) => Some(ring.username_hash(username).0),
        };
        let contents = ChallengeContents { purpose: purpose.name(), account, expires_at, nonce, salt };
        let key = ring.challenge_key(&signing_purpose(day(now)), time);
        let text = altcha::issue(&self.rules.work.doubled(price), &contents, &key);
        self.environment.note(&Event::ChallengeCreated { context, purpose });
        Ok(NewChallenge { text, expire_time: from_unix_seconds(expires_at) })
    }

    /// Checks the solution that came with a call, at this username if there is one. `None`: no solution came, and none is
    /// required.
    ///
    /// # Errors
    /// `ChallengeRequired`; `ChallengeInvalid`; `StoreUnavailable`, `OutcomeUnknown`: whether it was spent is not known, so
    /// it is not accepted; `Overloaded`, `Draining`, `DeadlineExceeded`.
    pub(in crate::domain) async fn present(
        &self,
        context: &CallContext,
        purpose: ChallengePurpose,
        username: Option<&Username>,
        solution: Option<&Solution>,
    ) -> Result<Option<Proven>, Error> {
        let Some(solution) = solution else {
            return if self.rules.requires(purpose) { Err(self.required(context, purpose)) } else { Ok(None) };
        };
        let spent = match self.signed_challenge(purpose, username, solution).await? {
            Ok(signed) => self.spend(context, purpose, signed).await?,
            Err(fault) => Err(fault),
        };
        match spent {
            Ok(proven) => {
                self.environment.note(&Event::ChallengeAccepted { context, purpose });
                Ok(Some(proven))
            }
            Err(fault) => {
                self.environment.note(&Event::ChallengeRefused { context, purpose, why: fault });
                Err(Error::ChallengeInvalid { purpose, fault })
            }
        }
    }

    /// The refusal of a call that came without a solution.
    pub(in crate::domain) fn required(&self, context: &CallContext, purpose: ChallengePurpose) -> Error {
        self.environment.note(&Event::ChallengeMissing { context, purpose });
        Error::ChallengeRequired { purpose }
    }

    /// Reads the challenge in a solution; an error unless it is signed, unexpired and for this purpose.
    async fn signed_challenge(
        &self,
        purpose: ChallengePurpose,
        username: Option<&Username>,
        solution: &Solution,
    ) -> Result<Result<SignedSolution, ChallengeFault>, Error> {
        let mut presented = match UnverifiedSolution::parse(solution.as_str()) {
            Ok(presented) => presented,
            Err(Unreadable::TooLong) => return Ok(Err(ChallengeFault::TooLong)),
            Err(Unreadable::Malformed) => return Ok(Err(ChallengeFault::Malformed)),
        };
        // A made-up challenge is refused whether or not the store answers.
        let last = self.keys.last_key_ring().await?;
        if self.signed_by(&last, &mut presented).is_none() {
            return Ok(Err(ChallengeFault::Forged));
        }
        let ring = self.keys.key_ring().await?;
        let Some(signed) = self.signed_by(&ring, &mut presented) else { return Ok(Err(ChallengeFault::Forged)) };
        let now = self.store.now();
        // One that a node issued while a clock was wrong is valid no longer than others.
        let is_credible =
            signed.expires_at() <= unix_seconds(now + price::lifetime(signed.doublings()) + CLOCK_TOLERANCE);
        Ok(if unix_seconds(now) >= signed.expires_at() || !is_credible {
            Err(ChallengeFault::Expired)
        } else if signed.purpose() != purpose.name() {
            Err(ChallengeFault::OtherPurpose)
        } else if !signed.is_for(username.map(|username| ring.username_hash(username).0)) {
            Err(ChallengeFault::OtherAccount)
        } else {
            Ok(signed)
        })
    }

    /// The solution, if a key of this ring signed its challenge today or yesterday.
    fn signed_by(&self, ring: &ActiveKeyRing, presented: &mut UnverifiedSolution) -> Option<SignedSolution> {
        let today = day(unix_seconds(self.store.now()));
        let purposes = [today, today.saturating_sub(1)].map(signing_purpose);
        let keys: Vec<_> = purposes.iter().flat_map(|purpose| ring.challenge_keys(purpose)).collect();
        presented.signed_by(&self.rules.work, price::STEPS_MAX, &keys)
    }

    /// Spends the challenge, then checks the solution.
    async fn spend(
        &self,
        context: &CallContext,
        purpose: ChallengePurpose,
        signed: SignedSolution,
    ) -> Result<Result<Proven, ChallengeFault>, Error> {
        // Before it is spent: a client that is refused here can send the same solution again.
        let permit = self.pool.admit_call(context, pool_purpose(purpose))?;
        let until = from_unix_seconds(signed.expires_at()) + REMEMBERED_AFTER;
        if !self.store.spend(&signed.fingerprint(), until).await.or_report(&self.environment)? {
            return Ok(Err(ChallengeFault::Spent));
        }
        self.environment.note(&Event::ChallengeSpent { context, purpose });
        let price = signed.doublings();
        let (is_solved, permit) = permit.check(move || signed.is_solved()).await?;
        Ok(if is_solved { Ok(Proven { permit, price }) } else { Err(ChallengeFault::Unsolved) })
    }
}

/// Which calls yield in the hash pool.
pub(in crate::domain) fn pool_purpose(purpose: ChallengePurpose) -> Purpose {
    match purpose {
        ChallengePurpose::Register => Purpose::Registration,
        ChallengePurpose::Login => Purpose::Account,
    }
}

/// What the key that signs challenges on a day, counted from 1970, is derived for.
fn signing_purpose(day: u64) -> String {
    format!("challenge {day}")
}

fn day(seconds: u64) -> u64 {
    seconds / DAY.as_secs()
}
