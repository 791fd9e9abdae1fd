//! Verifies access tokens with the published keys, and on request also by introspection.
//!
//! Guarantees that a token that is not verified never reaches a handler, and that fetches of keys are limited, whatever
//! tokens clients send. Does not know refresh tokens or passwords.

mod fetch;
mod identity;
mod key_cache;
mod key_set;
mod verifier;
mod verifier_builder;
mod verify_error;
mod verify_layer;

pub use self::{
    identity::Identity,
    verifier::Verifier,
    verifier_builder::VerifierBuilder,
    verify_error::VerifyError,
    verify_layer::{Verify, VerifyLayer},
};
