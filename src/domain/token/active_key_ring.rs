//! The key ring at work: signs, verifies, and derives the keys for other purposes.

use std::time::{Duration, SystemTime};

use aws_lc_rs::hmac;

use super::{
    Claims, RefreshToken, TokenSettings, Tokens, jwt, refresh::RefreshKeys, verified_cache::VerifiedTokenCache,
};
use crate::{
    common::{bearer, time::unix_seconds},
    domain::{
        error::{CorruptRecord, StoreError},
        model::{
            AddressHash, IpPrefix, KeyRing, PublicKey, Session, SessionId, Signer, StoredSecret, UserId, Username,
            UsernameHash, new_uuid,
        },
        ports::Entropy,
    },
};

/// Keys that are ready to use.
pub(in crate::domain) struct ActiveKeyRing {
    refresh: RefreshKeys,
    /// The keys of keyed hashes, that of the newest secret first.
    usernames: Vec<hmac::Key>,
    addresses: Vec<hmac::Key>,
    signers: Vec<Signer>,
    verified: VerifiedTokenCache,
    stored: KeyRing,
}

impl ActiveKeyRing {
    pub(super) fn new(stored: &KeyRing) -> Result<Self, StoreError> {
        let signers: Option<Vec<_>> = stored.signing.iter().map(Signer::new).collect();
        let signers = signers.filter(|signers| !signers.is_empty());
        let signers = signers.ok_or_else(|| {
            let (record, cause) = ("keys".into(), "a signing key cannot be read".into());
            StoreError::Corrupt(CorruptRecord { record, cause })
        })?;
        let hash_keys = |purpose| stored.hashes.iter().rev().map(|secret| secret.key_for(purpose)).collect();
        Ok(Self {
            refresh: RefreshKeys::new(&stored.refresh),
            usernames: hash_keys("names"),
            addresses: hash_keys("addresses"),
            signers,
            verified: VerifiedTokenCache::default(),
            stored: stored.clone(),
        })
    }

    /// The session epoch. Sessions of an earlier one have ended.
    pub(in crate::domain) fn session_epoch(&self) -> u64 {
        self.stored.session_epoch
    }

    /// The ring as it is stored.
    pub(super) fn stored(&self) -> &KeyRing {
        &self.stored
    }

    /// The key that signs challenges, derived for one purpose such as a day.
    pub(in crate::domain) fn challenge_key(&self, purpose: &str, now: SystemTime) -> hmac::Key {
        let in_use = StoredSecret::in_use(&self.stored.challenges, now);
        in_use.expect("each ring has a secret that is not exposed").key_for(purpose)
    }

    /// The keys that may have signed a challenge, derived for one purpose.
    pub(in crate::domain) fn challenge_keys(&self, purpose: &str) -> impl Iterator<Item = hmac::Key> {
        self.stored.challenges.iter().map(move |secret| secret.key_for(purpose))
    }

    /// The keyed hash under which failed attempts of a username are counted.
    pub(in crate::domain) fn username_hash(&self, username: &Username) -> UsernameHash {
        UsernameHash::new(&self.usernames[0], username)
    }

    /// The keyed hashes under which they were counted before an attacker may have known the secret, newest first.
    pub(in crate::domain) fn former_username_hashes(&self, username: &Username) -> Vec<UsernameHash> {
        self.usernames[1..].iter().map(|key| UsernameHash::new(key, username)).collect()
    }

    /// The keyed hash of an address of a user.
    pub(in crate::domain) fn address_hash(&self, user: Option<UserId>, address: IpPrefix) -> AddressHash {
        AddressHash::new(&self.addresses[0], user, address)
    }

    /// The keyed hashes that an address of a user has and had, newest first.
    pub(in crate::domain) fn address_hashes(&self, user: Option<UserId>, address: IpPrefix) -> Vec<AddressHash> {
        self.addresses.iter().map(|key| AddressHash::new(key, user, address)).collect()
    }

    /// The key that signs now: the newest that all nodes and services had time to read.
    fn signer(&self, now: SystemTime) -> &Signer {
        let in_use = self.signers.iter().filter(|signer| signer.use_time <= now).max_by_key(|signer| signer.use_time);
        in_use.unwrap_or(&self.signers[0])
    }

    /// Tokens of a session; `refresh` is its present refresh token.
    pub(in crate::domain) fn tokens(
        &self,
        settings: &TokenSettings,
        session: &Session,
        refresh: &RefreshToken,
        now: SystemTime,
        entropy: &dyn Entropy,
    ) -> Tokens {
        let refresh_expire_time = session.idle_end(&settings.lifetimes);
        // An access token does not outlive its session.
        let expire_time = (now + settings.lifetimes.access).min(refresh_expire_time);
        let claims = Claims {
            user_id: session.user_id,
            session_id: session.id,
            issued_at: unix_seconds(now),
            expires_at: unix_seconds(expire_time),
        };
        let token_id = new_uuid(now, entropy.bytes()).to_string();
        Tokens {
            access: jwt::write(self.signer(now), &settings.names, &session.client_id, &claims, &token_id),
            expire_time: SystemTime::UNIX_EPOCH + Duration::from_secs(claims.expires_at),
            refresh: self.refresh.write(refresh),
            refresh_expire_time,
            session: session.clone(),
        }
    }

    /// What other services need to verify access tokens; keys that sign later are included.
    pub(in crate::domain) fn public_keys(&self) -> Vec<PublicKey> {
        self.signers.iter().map(Signer::public).collect()
    }

    /// The first refresh token of a session.
    pub(in crate::domain) fn first_refresh(
        &self,
        session: SessionId,
        now: SystemTime,
        entropy: &dyn Entropy,
    ) -> RefreshToken {
        self.refresh.first(session, entropy.bytes(), now)
    }

    /// The refresh token after `token` in this session, and the nonce that it is derived with: the one that the session
    /// has, if it follows `token`, and otherwise the one that it gets.
    pub(in crate::domain) fn successor(
        &self,
        token: &RefreshToken,
        session: &Session,
        now: SystemTime,
        entropy: &dyn Entropy,
    ) -> (RefreshToken, [u8; 16]) {
        match self.refresh.known_successor(token, &session.refresh_nonce, &session.secret_hash) {
            Some(known) => (known, session.refresh_nonce),
            None => {
                let nonce = entropy.bytes();
                (self.refresh.new_successor(token, &nonce, now), nonce)
            }
        }
    }

    /// Whether a token of either kind names a key that this ring lacks. A newer ring may have it.
    pub(in crate::domain) fn lacks_key_of(&self, token: &str) -> bool {
        let is_ours =
            || token.split_once('.').is_some_and(|(head, _)| self.signers.iter().any(|key| key.header == head));
        !is_ours() && (bearer::header_of(token).is_some() || self.refresh.lacks_key_of(token))
    }

    /// Reads a refresh token; `None` unless a node with this key ring made it.
    pub(in crate::domain) fn read_refresh(&self, text: &str) -> Option<RefreshToken> {
        self.refresh.parse(text)
    }

    /// Reads an access token; `None` unless a key of this ring signed it, for these names. An expired token is read too.
    pub(in crate::domain) fn read_access(&self, settings: &TokenSettings, text: &str) -> Option<Claims> {
        // Longer text is refused before it is hashed.
        if text.len() > bearer::ACCESS_BYTES_MAX {
            return None;
        }
        self.verified.claims(text, || jwt::read(&self.signers, &settings.names, text))
    }
}
