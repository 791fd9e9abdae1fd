//! The key ring at work: signs, verifies, and derives the keys for other purposes.

use std::time::{Duration, SystemTime};

use aws_lc_rs::hmac;

use super::{
    Claims, RefreshToken, TokenSettings, Tokens, jwt, refresh::RefreshKey, verified_cache::VerifiedTokenCache,
};
use crate::{
    common::{bearer, time::unix_seconds},
    domain::{
        error::{CorruptRecord, StoreError},
        model::{
            AddressHash, IpPrefix, KeyRing, PublicKey, Session, SessionId, Signer, UserId, Username, UsernameHash,
            new_uuid,
        },
        ports::Entropy,
    },
};

/// Keys that are ready to use.
pub(in crate::domain) struct ActiveKeyRing {
    refresh: RefreshKey,
    usernames: hmac::Key,
    addresses: hmac::Key,
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
        Ok(Self {
            refresh: RefreshKey::new(&*stored.refresh),
            usernames: stored.key_for("names"),
            addresses: stored.key_for("addresses"),
            signers,
            verified: VerifiedTokenCache::default(),
            stored: stored.clone(),
        })
    }

    /// The ring as it is stored.
    pub(super) fn stored(&self) -> &KeyRing {
        &self.stored
    }

    /// A key for another purpose than tokens.
    pub(in crate::domain) fn key_for(&self, purpose: &str) -> hmac::Key {
        self.stored.key_for(purpose)
    }

    /// The keyed hash under which failed attempts of a username are counted.
    pub(in crate::domain) fn username_hash(&self, username: &Username) -> UsernameHash {
        UsernameHash::new(&self.usernames, username)
    }

    /// The keyed hash of an address of a user.
    pub(in crate::domain) fn address_hash(&self, user: Option<UserId>, address: IpPrefix) -> AddressHash {
        AddressHash::new(&self.addresses, user, address)
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
            access: jwt::write(self.signer(now), &settings.names, &claims, &token_id),
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
    pub(in crate::domain) fn first_refresh(&self, session: SessionId, entropy: &dyn Entropy) -> RefreshToken {
        self.refresh.first(session, entropy.bytes())
    }

    /// The refresh token after `token`; always the same one.
    pub(in crate::domain) fn successor(&self, token: &RefreshToken) -> RefreshToken {
        self.refresh.successor(token)
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
