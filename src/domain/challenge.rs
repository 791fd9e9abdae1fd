//! Proof of work: what a robot pays for an attempt, and a person does not notice (ALTCHA, version 2).
//!
//! A challenge is signed and kept nowhere: making one costs microseconds, so a flood of requests for them buys nothing.
//! It is spent by its first presentation, right or wrong, on all nodes that share the store. What comes is looked at in
//! the order of what that costs us: form, signature, time, purpose; then the store; the key last, in the hash pool. So
//! whoever made a challenge up costs neither a write nor a key. How challenges look is `puzzle.rs`.

use std::time::{Duration, SystemTime};

use aws_lc_rs::hmac;

use super::{
    Auth, CallContext, Error, Event,
    password::{Purpose, QueuePermit},
    token::ActiveKeyRing,
};
use crate::common::altcha::{self, Presented, Signed, Terms, Unreadable, Work};

/// How long a challenge is good for.
const GOOD_FOR: Duration = Duration::from_secs(300);

/// How long a spent one is remembered after that, should a node or a store think that it is earlier.
const REMEMBERED_AFTER: Duration = Duration::from_secs(60);

/// A signing key is used for a day of UTC, and counts on the next one too: longer than any challenge is good for.
const DAY: Duration = Duration::from_secs(86_400);

/// What a challenge is good for; for nothing else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChallengePurpose {
    /// A registration.
    Register,
    /// A login.
    Login,
}

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

/// A challenge to solve.
#[derive(Debug)]
pub struct NewChallenge {
    /// The JSON that ALTCHA's widget and libraries take.
    pub text: String,
    /// From then on it is no longer good.
    pub expire_time: SystemTime,
}

/// Why a solution does not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChallengeFault {
    /// More than 4 KiB.
    TooLong,
    /// Not what ALTCHA's widget, version 2 of the protocol, sends for a challenge of ours.
    Malformed,
    /// We did not sign the challenge, or somebody changed it.
    Forged,
    /// Its time is over.
    Expired,
    /// The challenge was made for something else.
    OtherPurpose,
    /// It was presented before.
    Spent,
    /// The key is not the one of the counter, or does not begin as it must.
    Unsolved,
}

impl Auth {
    /// Makes a challenge; it is good for five minutes and one presentation.
    ///
    /// # Errors
    /// `StoreUnavailable` when the keys were never read.
    pub async fn create_challenge(
        &self,
        context: &CallContext,
        purpose: ChallengePurpose,
    ) -> Result<NewChallenge, Error> {
        let ring = self.ring().await?;
        let now = seconds(self.store.now());
        let (mut nonce, mut salt) = ([0; 16], [0; 16]);
        self.environment.entropy.fill(&mut nonce);
        self.environment.entropy.fill(&mut salt);
        let expires_at = now + GOOD_FOR.as_secs();
        let terms = Terms { purpose: purpose.name(), expires_at, nonce, salt };
        let text = altcha::issue(&self.rules.challenges.work, &terms, &key_of(&ring, day(now)));
        self.note(&Event::ChallengeCreated { context, purpose });
        Ok(NewChallenge { text, expire_time: time(expires_at) })
    }

    /// The room for a hash of a call that came with a solution which counts, so that nobody has paid in vain; no solution is
    /// fine where none is asked for.
    ///
    /// # Errors
    /// `ChallengeRequired`; `ChallengeInvalid`; `StoreUnavailable`, `OutcomeUnknown`: nobody knows whether it was spent, so
    /// it does not count; `Overloaded`, `Draining`, `DeadlineExceeded`.
    pub(super) async fn present_challenge(
        &self,
        context: &CallContext,
        purpose: ChallengePurpose,
        solution: &str,
    ) -> Result<Option<QueuePermit>, Error> {
        if solution.is_empty() {
            if !self.rules.challenges.asks(purpose) {
                return Ok(None);
            }
            return Err(self.challenge_required(context, purpose));
        }
        let spent = match self.signed_challenge(purpose, solution).await? {
            Ok(signed) => self.spend_challenge(context, purpose, signed).await?,
            Err(fault) => Err(fault),
        };
        match spent {
            Ok(permit) => {
                self.note(&Event::ChallengeAccepted { context, purpose });
                Ok(Some(permit))
            }
            Err(fault) => {
                self.note(&Event::ChallengeRefused { context, purpose, why: fault });
                Err(Error::ChallengeInvalid { purpose, fault })
            }
        }
    }

    /// The refusal of a call that came without a solution.
    pub(super) fn challenge_required(&self, context: &CallContext, purpose: ChallengePurpose) -> Error {
        self.note(&Event::ChallengeMissing { context, purpose });
        Error::ChallengeRequired { purpose }
    }

    /// The challenge of ours in what came, while it is good for this.
    async fn signed_challenge(
        &self,
        purpose: ChallengePurpose,
        solution: &str,
    ) -> Result<Result<Signed, ChallengeFault>, Error> {
        let presented = match Presented::read(solution) {
            Ok(presented) => presented,
            Err(Unreadable::TooLong) => return Ok(Err(ChallengeFault::TooLong)),
            Err(Unreadable::Malformed) => return Ok(Err(ChallengeFault::Malformed)),
        };
        let ring = self.ring().await?;
        let now = seconds(self.store.now());
        let today = day(now);
        let keys = [today, today.saturating_sub(1)].map(|day| key_of(&ring, day));
        let Some(signed) = presented.signed_by(&keys) else { return Ok(Err(ChallengeFault::Forged)) };
        Ok(if now >= signed.expires_at() {
            Err(ChallengeFault::Expired)
        } else if signed.purpose() != purpose.name() {
            Err(ChallengeFault::OtherPurpose)
        } else {
            Ok(signed)
        })
    }

    /// Spends the challenge, and then looks whether the solution is right.
    async fn spend_challenge(
        &self,
        context: &CallContext,
        purpose: ChallengePurpose,
        signed: Signed,
    ) -> Result<Result<QueuePermit, ChallengeFault>, Error> {
        // Before it is spent: whoever is turned away here can send it again.
        let permit = self.admit(context, purpose.of_hash())?;
        let until = time(signed.expires_at()) + REMEMBERED_AFTER;
        let is_first = self.store.spend(&signed.fingerprint(), until).await.map_err(|error| self.store_error(error))?;
        if !is_first {
            return Ok(Err(ChallengeFault::Spent));
        }
        self.note(&Event::ChallengeSpent { context, purpose });
        let (is_solved, permit) = permit.check(move || signed.is_solved()).await?;
        Ok(if is_solved { Ok(permit) } else { Err(ChallengeFault::Unsolved) })
    }
}

impl ChallengeRules {
    fn asks(&self, purpose: ChallengePurpose) -> bool {
        match purpose {
            ChallengePurpose::Register => self.register,
            ChallengePurpose::Login => self.login,
        }
    }
}

impl ChallengePurpose {
    /// The purpose's name in a challenge, and in errors.
    pub fn name(self) -> &'static str {
        match self {
            ChallengePurpose::Register => "register",
            ChallengePurpose::Login => "login",
        }
    }

    /// The purpose of that name.
    pub fn parse(name: &str) -> Option<Self> {
        [ChallengePurpose::Register, ChallengePurpose::Login].into_iter().find(|purpose| purpose.name() == name)
    }

    /// Who yields in the hash pool.
    fn of_hash(self) -> Purpose {
        match self {
            ChallengePurpose::Register => Purpose::Registration,
            ChallengePurpose::Login => Purpose::Account,
        }
    }
}

impl ChallengeFault {
    /// The fault's name in logs and counters.
    pub fn name(self) -> &'static str {
        match self {
            ChallengeFault::TooLong => "too_long",
            ChallengeFault::Malformed => "malformed",
            ChallengeFault::Forged => "forged",
            ChallengeFault::Expired => "expired",
            ChallengeFault::OtherPurpose => "other_purpose",
            ChallengeFault::Spent => "spent",
            ChallengeFault::Unsolved => "unsolved",
        }
    }
}

/// The key that signs on that day, counted from 1970.
fn key_of(ring: &ActiveKeyRing, day: u64) -> hmac::Key {
    ring.key_for(&format!("challenge {day}"))
}

fn day(seconds: u64) -> u64 {
    seconds / DAY.as_secs()
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
}

fn time(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
}
