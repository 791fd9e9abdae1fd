//! Access tokens whose signature was verified before: verifying a signature costs more than the rest of a token check.
//!
//! Belongs to one key ring and is dropped with it. A token is known by its SHA-256, so no other token can pass for it; only
//! tokens with a valid signature enter.

use std::{collections::HashMap, sync::RwLock};

use super::Claims;
use crate::common::{generations::Generations, lock, sha256::sha256};

/// Tokens in each generation: about 4 MiB in all.
const TOKENS_MAX: usize = 16_384;

#[derive(Default)]
pub(super) struct VerifiedTokenCache(RwLock<Generations<HashMap<[u8; 32], Claims>>>);

impl VerifiedTokenCache {
    /// The claims of a token, verified now or before.
    pub(super) fn claims(&self, token: &str, verify: impl FnOnce() -> Option<Claims>) -> Option<Claims> {
        let hash = sha256(token.as_bytes());
        if let Some(claims) = lock::read(&self.0).find(|tokens| tokens.get(&hash)) {
            return Some(claims.clone());
        }
        let claims = verify()?;
        let mut tokens = lock::write(&self.0);
        if tokens.young.len() >= TOKENS_MAX {
            tokens.begin();
        }
        tokens.young.insert(hash, claims.clone());
        Some(claims)
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::domain::model::{SessionId, UserId};

    fn claims(number: u64) -> Claims {
        let id = Uuid::from_u128(number.into());
        let user_id = UserId::parse(&id.to_string()).unwrap();
        Claims { user_id, session_id: SessionId(id), issued_at: number, expires_at: number }
    }

    #[test]
    fn valid_token_is_verified_once_and_invalid_token_every_time() {
        let verified = VerifiedTokenCache::default();
        assert_eq!(verified.claims("bad", || None), None);
        assert_eq!(verified.claims("bad", || Some(claims(1))), Some(claims(1)));
        assert_eq!(verified.claims("bad", || unreachable!("it is known")), Some(claims(1)));
        assert_eq!(verified.claims("bad ", || None), None);
    }

    #[test]
    fn cache_size_is_bounded_and_latest_tokens_stay() {
        let verified = VerifiedTokenCache::default();
        let last = 3 * TOKENS_MAX as u64;
        for number in 0..=last {
            verified.claims(&number.to_string(), || Some(claims(number)));
        }
        let tokens = verified.0.read().unwrap();
        assert!(tokens.young.len() <= TOKENS_MAX && tokens.old.len() <= TOKENS_MAX);
        drop(tokens);
        assert_eq!(
            verified.claims(&(last - TOKENS_MAX as u64 / 2).to_string(), || None).map(|c| c.issued_at),
            Some(last - TOKENS_MAX as u64 / 2)
        );
        assert_eq!(verified.claims("0", || None), None);
    }
}
