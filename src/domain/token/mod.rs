//! Tokens: what a login gives, and what is made of one that comes back.
//!
//! Access tokens (`access.rs`) can be checked by anybody who knows the public keys; refresh tokens (`refresh.rs`) only
//! here. The keys (`keys.rs`) are read from the store when they are first needed, and again every minute, so that a ring
//! that another node rotated is known in time.

mod access;
mod keys;
mod refresh;
mod verified;

use std::{
    sync::{Arc, PoisonError, RwLock},
    time::{Duration, Instant, SystemTime},
};

use aws_lc_rs::hmac;
use tokio::sync::watch;

pub(crate) use self::refresh::RefreshToken;
pub use self::{
    access::{Claims, Names},
    keys::{KeyRing, PublicKey, StoredKey},
};
use self::{keys::Signer, refresh::RefreshKey, verified::Verified};
use super::{
    Claim, Clock, Entropy, Lifetimes, Replace, Session, Store, StoreError, UserId, Username,
    change_user::CAS_ATTEMPTS_MAX,
    failures::UsernameHash,
    throttle::Prefix,
    user::{AddressHash, new_uuid},
};
use crate::common::bearer;

/// How often the ring is read again.
const READ_AGAIN: Duration = Duration::from_secs(60);

/// How soon it is tried again when that failed.
const RETRY: Duration = Duration::from_secs(1);

/// What tokens say and how long they live.
#[derive(Debug, Clone)]
pub struct TokenSettings {
    /// Who makes them, and for whom.
    pub names: Names,
    /// How long they live.
    pub lifetimes: Lifetimes,
    /// How long a positive check may be answered again, from when the store was asked.
    pub check_reuse: Duration,
}

/// What a caller gets to stay signed in with.
#[derive(Clone)]
pub struct Tokens {
    /// For every call.
    pub access: String,
    /// When that one expires.
    pub expire_time: SystemTime,
    /// For the next access token.
    pub refresh: String,
    /// When that one expires, unless it is used.
    pub refresh_expire_time: SystemTime,
    /// Which session they belong to.
    pub session: Session,
}

// Whoever has them is the user.
impl std::fmt::Debug for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tokens")
    }
}

/// The ring as it was last read.
pub(super) struct Keys {
    read: RwLock<Option<(Arc<ActiveKeyRing>, Instant)>>,
    /// Held by whoever reads it again; the others go on with what they have.
    reading: tokio::sync::Mutex<()>,
    /// Whether what is in the store could be read the last time.
    readable: watch::Sender<bool>,
}

/// Keys at work.
pub(super) struct ActiveKeyRing {
    refresh: RefreshKey,
    /// Makes what stands for names, and for addresses, where those shall not be read.
    names: hmac::Key,
    addresses: hmac::Key,
    signers: Vec<Signer>,
    verified: Verified,
    stored: KeyRing,
}

// === impl Keys ===

impl Keys {
    pub(super) fn unread() -> Self {
        Self { read: RwLock::new(None), reading: tokio::sync::Mutex::new(()), readable: watch::Sender::new(true) }
    }

    /// Whether the keys in the store can be read, now and whenever that changes.
    pub(super) fn readable(&self) -> watch::Receiver<bool> {
        self.readable.subscribe()
    }

    /// The ring; made when there is none, rotated when it is time.
    pub(super) async fn ring(
        &self,
        store: &dyn Store,
        clock: &dyn Clock,
        entropy: &dyn Entropy,
    ) -> Result<Arc<ActiveKeyRing>, StoreError> {
        if let Some(ring) = self.fresh(clock) {
            return Ok(ring);
        }
        let _reading = match (self.reading.try_lock(), self.last()) {
            (Ok(reading), _) => reading,
            // Somebody reads it already.
            (Err(_), Some(ring)) => return Ok(ring),
            (Err(_), None) => self.reading.lock().await,
        };
        if let Some(ring) = self.fresh(clock) {
            return Ok(ring);
        }
        let ring = current(store, entropy).await.and_then(|stored| match self.last() {
            // What it has verified stays verified.
            Some(last) if last.stored == stored => Ok(last),
            Some(_) | None => ActiveKeyRing::new(&stored).map(Arc::new),
        });
        self.readable.send_if_modified(|was| {
            let is = !matches!(ring, Err(StoreError::Corrupt(_)));
            std::mem::replace(was, is) != is
        });
        match ring {
            Ok(ring) => {
                self.keep(Some((ring.clone(), clock.monotonic())));
                Ok(ring)
            }
            // A store that is gone: whoever uses keys asks it about the session anyway.
            Err(error @ (StoreError::Unavailable | StoreError::OutcomeUnknown)) => {
                let ring = self.last().ok_or(error)?;
                let soon = clock.monotonic() + RETRY - READ_AGAIN;
                self.keep(Some((ring.clone(), soon)));
                Ok(ring)
            }
            // A ring that is there and cannot be read may be one from which a stolen key was dropped.
            Err(error @ StoreError::Corrupt(_)) => {
                self.keep(None);
                Err(error)
            }
        }
    }

    /// Changes the ring in the store, unless another node is always faster, and goes on with the changed one; answers the
    /// key that the change is about, and whether there was anything to change.
    pub(super) async fn change(
        &self,
        store: &dyn Store,
        clock: &dyn Clock,
        entropy: &dyn Entropy,
        change: impl Fn(&KeyRing, SystemTime) -> (KeyRing, StoredKey),
    ) -> Result<Option<(StoredKey, bool)>, StoreError> {
        // Until the end: whoever reads the ring meanwhile must not come back with the old one.
        let _reading = self.reading.lock().await;
        for _ in 0..CAS_ATTEMPTS_MAX {
            current(store, entropy).await?;
            let Some(seen) = store.keys().await? else { continue };
            let (ring, key) = change(&seen.value, store.now());
            if ring == seen.value {
                return Ok(Some((key, false)));
            }
            let at_work = Arc::new(ActiveKeyRing::new(&ring)?);
            // Whatever becomes of it, what was read before is no longer known to be so.
            self.keep(None);
            if store.replace_keys(&seen.revision, &ring).await? == Replace::Replaced {
                self.keep(Some((at_work, clock.monotonic())));
                return Ok(Some((key, true)));
            }
        }
        Ok(None)
    }

    fn keep(&self, read: Option<(Arc<ActiveKeyRing>, Instant)>) {
        *self.read.write().unwrap_or_else(PoisonError::into_inner) = read;
    }

    fn fresh(&self, clock: &dyn Clock) -> Option<Arc<ActiveKeyRing>> {
        let read = self.read.read().unwrap_or_else(PoisonError::into_inner);
        let (ring, at) = read.as_ref()?;
        (clock.monotonic().saturating_duration_since(*at) < READ_AGAIN).then(|| ring.clone())
    }

    fn last(&self) -> Option<Arc<ActiveKeyRing>> {
        self.read.read().unwrap_or_else(PoisonError::into_inner).as_ref().map(|(ring, _)| ring.clone())
    }
}

/// The ring that is in the store when this returns.
async fn current(store: &dyn Store, entropy: &dyn Entropy) -> Result<KeyRing, StoreError> {
    let Some(stored) = store.keys().await? else {
        let ring = KeyRing::new(store.now(), entropy);
        return Ok(match store.claim_keys(&ring).await? {
            Claim::Claimed => ring,
            Claim::Taken(theirs) => theirs.value,
        });
    };
    let Some(next) = stored.value.rotated(store.now()) else { return Ok(stored.value) };
    match store.replace_keys(&stored.revision, &next).await? {
        Replace::Replaced => {
            tracing::info!("signing keys were rotated");
            Ok(next)
        }
        // Another node did it in this moment; the next reading shows its ring.
        Replace::Changed => Ok(stored.value),
    }
}

// === impl Ring ===

impl ActiveKeyRing {
    fn new(stored: &KeyRing) -> Result<Self, StoreError> {
        let signers: Option<Vec<_>> = stored.signing.iter().map(Signer::new).collect();
        let signers = signers.filter(|signers| !signers.is_empty());
        let signers = signers.ok_or_else(|| StoreError::Corrupt("a signing key cannot be read".into()))?;
        Ok(Self {
            refresh: RefreshKey::new(&*stored.refresh),
            names: stored.key_for("names"),
            addresses: stored.key_for("addresses"),
            signers,
            verified: Verified::default(),
            stored: stored.clone(),
        })
    }

    /// A key for something else than tokens.
    pub(super) fn key_for(&self, purpose: &str) -> hmac::Key {
        self.stored.key_for(purpose)
    }

    /// What stands for a name where failures are counted.
    pub(super) fn username_hash(&self, name: &Username) -> UsernameHash {
        UsernameHash::new(&self.names, name)
    }

    /// What stands for an address among those of a user.
    pub(super) fn address_hash(&self, user: Option<UserId>, address: Prefix) -> AddressHash {
        AddressHash::new(&self.addresses, user, address)
    }

    /// The key that signs now: the newest that everybody had time to hear of.
    fn signer(&self, now: SystemTime) -> &Signer {
        let in_use = self.signers.iter().filter(|signer| signer.use_time <= now).max_by_key(|signer| signer.use_time);
        in_use.unwrap_or(&self.signers[0])
    }

    /// Tokens of a session; `refresh` is its present one.
    pub(super) fn tokens(
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
            issued_at: access::seconds(now),
            expires_at: access::seconds(expire_time),
        };
        let token_id = new_uuid(now, entropy).to_string();
        Tokens {
            access: access::write(self.signer(now), &settings.names, &claims, &token_id),
            expire_time: SystemTime::UNIX_EPOCH + Duration::from_secs(claims.expires_at),
            refresh: self.refresh.write(refresh),
            refresh_expire_time,
            session: session.clone(),
        }
    }

    /// What others need to check access tokens; keys that will sign later included.
    pub(super) fn public_keys(&self) -> Vec<PublicKey> {
        self.signers.iter().map(Signer::public).collect()
    }

    /// The first refresh token of a session.
    pub(super) fn first_refresh(&self, session: super::SessionId, entropy: &dyn Entropy) -> RefreshToken {
        let mut secret = [0; 32];
        entropy.fill(&mut secret);
        self.refresh.first(session, secret)
    }

    pub(super) fn successor(&self, token: &RefreshToken) -> RefreshToken {
        self.refresh.successor(token)
    }

    pub(super) fn read_refresh(&self, text: &str) -> Option<RefreshToken> {
        self.refresh.read(text)
    }

    pub(super) fn read_access(&self, settings: &TokenSettings, text: &str) -> Option<Claims> {
        // Before anything is made of it.
        if text.len() > bearer::ACCESS_BYTES_MAX {
            return None;
        }
        self.verified.claims(text, || access::read(&self.signers, &settings.names, text))
    }
}

impl Claims {
    /// Whether the token's time is over.
    pub(super) fn is_expired(&self, now: SystemTime) -> bool {
        access::seconds(now) >= self.expires_at
    }
}
