//! The key ring as values: signing keys, secrets, and the keyed hashes that are made with them.
//!
//! Guarantees that a ring always has one of each in use, and that nothing new is made with what an attacker may know. Times
//! and random bytes are arguments. Does not know the store, nor tokens: `token/` has the ring at work.

mod key_ring;
mod keyed_hash;
mod secret;
mod signing_key;

pub(in crate::domain) use self::signing_key::Signer;
pub use self::{
    key_ring::KeyRing,
    keyed_hash::{AddressHash, IpPrefix, UsernameHash},
    secret::StoredSecret,
    signing_key::{PublicKey, StoredKey},
};
