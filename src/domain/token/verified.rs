//! Access tokens whose signature was verified before: a signature costs more than all the rest of a check.
//!
//! Belongs to one ring of keys and goes with it. A token is known by its SHA-256, so nobody can make another one that
//! passes for it; only tokens with a good signature get in.

use std::{
    collections::HashMap,
    mem,
    sync::{PoisonError, RwLock},
};

use aws_lc_rs::digest::{SHA256, digest};

use super::Claims;

/// Tokens in each half: about 4 MiB in all. When the young half is full it becomes the old one.
const TOKENS_MAX: usize = 16_384;

#[derive(Default)]
pub(super) struct Verified(RwLock<Halves>);

#[derive(Default)]
struct Halves {
    young: HashMap<[u8; 32], Claims>,
    old: HashMap<[u8; 32], Claims>,
}

impl Verified {
    /// The claims of a token, verified now or before.
    pub(super) fn claims(&self, token: &str, verify: impl FnOnce() -> Option<Claims>) -> Option<Claims> {
        let hash: [u8; 32] = digest(&SHA256, token.as_bytes()).as_ref().try_into().expect("SHA-256 has 32 bytes");
        if let Some(claims) = self.0.read().unwrap_or_else(PoisonError::into_inner).find(&hash) {
            return Some(claims.clone());
        }
        let claims = verify()?;
        self.0.write().unwrap_or_else(PoisonError::into_inner).add(hash, claims.clone());
        Some(claims)
    }
}

impl Halves {
    fn find(&self, hash: &[u8; 32]) -> Option<&Claims> {
        self.young.get(hash).or_else(|| self.old.get(hash))
    }

    fn add(&mut self, hash: [u8; 32], claims: Claims) {
        if self.young.len() >= TOKENS_MAX {
            self.old = mem::take(&mut self.young);
        }
        self.young.insert(hash, claims);
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::domain::{SessionId, UserId};

    fn claims(number: u64) -> Claims {
        let id = Uuid::from_u128(number.into());
        let user_id = UserId::parse(&id.to_string()).unwrap();
        Claims { user_id, session_id: SessionId(id), issued_at: number, expires_at: number }
    }

    #[test]
    fn a_token_is_verified_once_and_a_bad_one_every_time() {
        let verified = Verified::default();
        assert_eq!(verified.claims("bad", || None), None);
        assert_eq!(verified.claims("bad", || Some(claims(1))), Some(claims(1)));
        assert_eq!(verified.claims("bad", || unreachable!("it is known")), Some(claims(1)));
        assert_eq!(verified.claims("bad ", || None), None);
    }

    #[test]
    fn many_tokens_take_no_more_memory_and_the_latest_stay() {
        let verified = Verified::default();
        let last = 3 * TOKENS_MAX as u64;
        for number in 0..=last {
            verified.claims(&number.to_string(), || Some(claims(number)));
        }
        let halves = verified.0.read().unwrap();
        assert!(halves.young.len() <= TOKENS_MAX && halves.old.len() <= TOKENS_MAX);
        drop(halves);
        assert_eq!(
            verified.claims(&(last - TOKENS_MAX as u64 / 2).to_string(), || None).map(|c| c.issued_at),
            Some(last - TOKENS_MAX as u64 / 2)
        );
        assert_eq!(verified.claims("0", || None), None);
    }
}
