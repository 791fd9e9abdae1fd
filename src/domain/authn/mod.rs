//! The authentication pipeline: the one path of every attempt to prove an identity, with whatever factor.
//!
//! ```text
//! begin ──> Begun ──prove──> Limited ──load──> Loaded ──admit──> Admitted ──verify──> Verified ──settle──> Outcome
//!            │                 │                 │                  │                    │
//!            └── dropped: abandoned, nothing counts, but an ─────────┴── during a hash:   └── counted once: failed
//!                invalid proof of work at the address                  counts as failed     or succeeded
//! ```
//!
//! Each step takes what the step before returned, so a step that is left out or swapped does not compile (`attempt.rs`).
//! The limits of the address, and of the address at the account, are asked before a user is looked for; the account's own
//! after it, alike with and without a user. Every path costs one hash where a password is verified: no answer and no time
//! tells which usernames exist (ASVS 5.0 6.3.8).
//!
//! A second factor has its place already: `settle` answers an [`Outcome`]. A factor that is not enough alone adds a variant
//! `FurtherFactorRequired` there, with the state that the next call shows, and every use of `Outcome` decides about it. The
//! second factor is one file in `factor/`, and its attempt begins like any other, under the same limits and lockout. TOTP
//! and passkeys need no permit of the hash pool (`Permit = NoPermit`, `admit_without_permit`); OPAQUE needs one. Does not
//! know sessions or tokens.

mod attempt;
mod credentials;
mod factor;
mod outcome;

pub use self::credentials::{Credentials, CurrentPassword};
pub(in crate::domain) use self::{
    attempt::{AttemptKind, Authenticator},
    factor::{PasswordFactor, PresentedCode, ResetCodeFactor},
    outcome::Outcome,
};
