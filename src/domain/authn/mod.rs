//! The authentication pipeline: the one path of every attempt to prove an identity, with whatever factor.
//!
//! ```text
//! begin ──> Begun ──prove──> Limited ──load──> Loaded ──admit──> Admitted ──verify──> Verified ──settle──> Outcome
//!            │                 │                 │                  │                    │
//!            └── dropped: abandoned, nothing counts ────────────────┴── during a hash:   └── counted once: failed
//!                                                                       counts at the        or succeeded
//!                                                                       client's address
//! ```
//!
//! Each step takes what the step before returned, so a step that is left out or swapped does not compile (`attempt.rs`).
//! Rate limits by address and account are asked before a user is looked for, and every path costs one hash where a password
//! is verified: no answer and no time tells which usernames exist (ASVS 5.0 6.3.8).
//!
//! A second factor has its place already: `settle` answers an [`Outcome`]. A factor that is not enough alone adds a variant
//! `FurtherFactorRequired` there, with the state that the next call shows; the second factor is one file in `factor/`, and
//! its attempt begins like any other. TOTP and passkeys need no permit of the hash pool (`Permit = NoPermit`); OPAQUE needs
//! one. Does not know sessions or tokens.

mod attempt;
mod credentials;
mod factor;
mod outcome;

pub use self::credentials::Credentials;
pub(in crate::domain) use self::{
    attempt::{AttemptKind, Authenticator},
    factor::{PasswordFactor, PresentedCode, ResetCodeFactor},
    outcome::Outcome,
};
