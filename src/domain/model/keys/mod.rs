//! The key ring as values: signing keys, secrets, and the keyed hashes that are made with them.
//!
//! Pure values; times and random bytes are arguments. `token/` has the ring at work.

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
