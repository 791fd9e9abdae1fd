//! Tokens: what a login answers, and what a token that comes back is worth.
//!
//! Access tokens (`jwt.rs`) can be verified by every service that knows the public keys; refresh tokens (`refresh.rs`) only
//! here. The key ring is read from the store and kept for less than a second (`key_ring_cache.rs`). Does not know whether a
//! session is active.

mod active_key_ring;
mod jwt;
mod key_ring_cache;
mod refresh;
mod verified_cache;

use std::time::{Duration, SystemTime};

pub use self::jwt::{Claims, Names};
pub(in crate::domain) use self::{active_key_ring::ActiveKeyRing, key_ring_cache::KeyRingCache, refresh::RefreshToken};
use super::model::{Lifetimes, Session};

/// What tokens say and how long they live.
#[derive(Debug, Clone)]
pub struct TokenSettings {
    /// Issuer and audience.
    pub names: Names,
    /// The client that new sessions belong to (`client_id`).
    pub client_id: String,
    /// How long they live.
    pub lifetimes: Lifetimes,
    /// How long a positive token check may be answered again, from when the store was asked.
    pub check_reuse: Duration,
    /// How long a refresh with the same request id may be repeated.
    pub refresh_repeat: Duration,
}

/// The tokens of a session, as a login or a refresh answers them.
#[derive(Clone)]
pub struct Tokens {
    /// Access token: for every call.
    pub access: String,
    /// When the access token expires.
    pub expire_time: SystemTime,
    /// Refresh token: for the next tokens.
    pub refresh: String,
    /// When the refresh token expires, unless it is used.
    pub refresh_expire_time: SystemTime,
    /// Which session they belong to.
    pub session: Session,
}

// A token is a secret.
impl std::fmt::Debug for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tokens")
    }
}
