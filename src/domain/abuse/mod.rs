//! Defences against brute force, credential stuffing and mass registration.
//!
//! Rate limits by address and account (`rate_limit/`), the durable count of failed attempts and the lockout that follows
//! from it (`failure_counter.rs`), and proof of work. Usernames without a user are treated like all others, so that no limit
//! tells which names exist. Does not know how a factor is verified.

mod attempt_limits;
mod failure_counter;
mod other_limits;
mod pending_attempts;
mod price;
mod proof_of_work;
mod rate_limit;

pub(in crate::domain) use self::{
    attempt_limits::{AttemptCost, AttemptLimits, LimitHold, Lock},
    proof_of_work::{ProofOfWork, Proven, pool_purpose},
};
pub use self::{
    proof_of_work::ChallengeRules,
    rate_limit::{Rate, RateLimitSettings},
};
