//! Authenticates a call by its access token: reads the token, and asks whether its session is active.

use super::{Sessions, introspection_cache::SessionOwner};
use crate::domain::{
    context::{Bearer, CallContext},
    error::Error,
    event::Event,
    model::{Session, SessionEnd, SessionId, User, UserId},
    ports::{StoreResult, Stored},
    token::Claims,
};

/// The user of a call, and the session that the call belongs to.
pub(in crate::domain) struct AuthenticatedSession {
    pub(in crate::domain) user: Stored<User>,
    pub(in crate::domain) session: Stored<Session>,
}

impl Sessions {
    /// Authenticates a call. The store is always asked.
    ///
    /// # Errors
    /// `TokenMissing`, `TokenInvalid`, `TokenExpired`, `TokenRevoked`; `StoreUnavailable`; `CorruptRecord`.
    pub(in crate::domain) async fn authenticate(&self, context: &CallContext) -> Result<AuthenticatedSession, Error> {
        let claims = self.claims(context).await?;
        match self.active(claims.session_id).await? {
            Ok(active) => {
                self.require_owner(context, &claims, active.user.value.id)?;
                Ok(active)
            }
            Err(end) => self.refuse_ended(context, end),
        }
    }

    /// The same for a call that only passes the identity on; the introspection cache may answer.
    ///
    /// # Errors
    /// As for `authenticate`.
    pub(super) async fn authenticate_cached(&self, context: &CallContext) -> Result<(SessionOwner, Claims), Error> {
        let claims = self.claims(context).await?;
        match self.owner(claims.session_id).await? {
            Ok(owner) => {
                self.require_owner(context, &claims, owner.user_id)?;
                Ok((owner, claims))
            }
            Err(end) => self.refuse_ended(context, end),
        }
    }

    /// The claims of a call's access token; whether its session is active is not asked.
    ///
    /// # Errors
    /// `TokenMissing`, `TokenInvalid`, `TokenExpired`; `StoreUnavailable`.
    pub(in crate::domain) async fn claims(&self, context: &CallContext) -> Result<Claims, Error> {
        let token = match &context.bearer {
            Bearer::Token(token) => token,
            Bearer::Missing | Bearer::OtherScheme => return Err(Error::TokenMissing),
            Bearer::Malformed => return self.refuse_token(context, "malformed", Error::TokenInvalid),
        };
        let ring = self.keys.key_ring_for(token).await?;
        let Some(claims) = ring.read_access(&self.settings, token) else {
            return self.refuse_token(context, "not_ours", Error::TokenInvalid);
        };
        let now = self.store.now();
        if claims.is_expired(now) {
            return self.refuse_token(context, "expired", Error::TokenExpired);
        }
        if !claims.is_credible(now) {
            return self.refuse_token(context, "issued_in_the_future", Error::TokenInvalid);
        }
        Ok(claims)
    }

    fn require_owner(&self, context: &CallContext, claims: &Claims, user: UserId) -> Result<(), Error> {
        if claims.user_id == user {
            return Ok(());
        }
        self.refuse_token(context, "session_of_another", Error::TokenInvalid)
    }

    fn refuse_ended<T>(&self, context: &CallContext, end: SessionEnd) -> Result<T, Error> {
        match end {
            SessionEnd::Expired => self.refuse_token(context, "session_expired", Error::TokenExpired),
            SessionEnd::Revoked => self.refuse_token(context, "session_ended", Error::TokenRevoked),
        }
    }

    pub(super) fn refuse_token<T>(&self, context: &CallContext, why: &'static str, error: Error) -> Result<T, Error> {
        self.environment.note(&Event::TokenRefused { context, why });
        Err(error)
    }

    /// The owner of an active session, from the introspection cache or the store.
    pub(super) async fn owner(&self, id: SessionId) -> Result<Result<SessionOwner, SessionEnd>, Error> {
        let asked = self.environment.clock.monotonic();
        if let Some(owner) = self.cache.get(id, self.store.now())
            && owner.session_epoch >= self.keys.key_ring().await?.session_epoch()
        {
            return Ok(Ok(owner));
        }
        let (user, session) = match self.active_and_watched(id).await? {
            Ok(AuthenticatedSession { user, session }) => (user.value, session.value),
            Err(end) => return Ok(Err(end)),
        };
        let owner = SessionOwner {
            user_id: user.id,
            username: user.username,
            client_id: session.client_id.clone(),
            session_epoch: session.session_epoch,
        };
        self.cache.insert(id, &owner, asked, session.idle_end(&self.settings.lifetimes));
        Ok(Ok(owner))
    }

    /// Reads a session and its user, and checks that it is active.
    pub(super) async fn active(&self, id: SessionId) -> Result<Result<AuthenticatedSession, SessionEnd>, Error> {
        let session = self.store.session(id).await.or_report(&self.environment)?;
        let Some(session) = session else { return Ok(Err(self.evict(id, SessionEnd::Revoked))) };
        let user = self.store.user(&session.value.username).await.or_report(&self.environment)?;
        self.check(session, user).await
    }

    /// The same for a check that is cached: the store reports when one of the two changes.
    async fn active_and_watched(&self, id: SessionId) -> Result<Result<AuthenticatedSession, SessionEnd>, Error> {
        let session = self.store.watched_session(id).await.or_report(&self.environment)?;
        let Some(session) = session else { return Ok(Err(self.evict(id, SessionEnd::Revoked))) };
        let user = self.store.watched_user(&session.value.username).await.or_report(&self.environment)?;
        self.check(session, user).await
    }

    async fn check(
        &self,
        session: Stored<Session>,
        user: Option<Stored<User>>,
    ) -> Result<Result<AuthenticatedSession, SessionEnd>, Error> {
        let session_epoch = self.keys.key_ring().await?.session_epoch();
        let (now, lifetimes) = (self.store.now(), &self.settings.lifetimes);
        let checked = session.value.check(user.as_ref().map(|user| &user.value), session_epoch, now, lifetimes);
        Ok(match (checked, user) {
            (Ok(()), Some(user)) => Ok(AuthenticatedSession { user, session }),
            (Ok(()), None) => Err(self.evict(session.value.id, SessionEnd::Revoked)),
            (Err(end), _) => Err(self.evict(session.value.id, end)),
        })
    }

    /// Takes an ended session out of the cache, whichever node ended it.
    fn evict(&self, id: SessionId, end: SessionEnd) -> SessionEnd {
        self.cache.evict_session(id);
        end
    }
}
