//! Says whose call it is: reads the token, and asks whether its session lives.

use super::{
    Auth, Bearer, CallContext, Claims, Ended, Error, Event, Session, SessionId, Stored, User, UserId,
    introspection_cache::Owner,
};

/// Who calls: a user and the session that the call belongs to.
pub(super) struct AuthenticatedSession {
    pub(super) user: Stored<User>,
    pub(super) session: Stored<Session>,
}

impl Auth {
    /// Says whose call it is.
    pub(super) async fn authenticate(&self, context: &CallContext) -> Result<AuthenticatedSession, Error> {
        let claims = self.claims(context).await?;
        match self.live(claims.session_id).await? {
            Ok(authenticate) => {
                self.must_belong(context, &claims, authenticate.user.value.id)?;
                Ok(authenticate)
            }
            Err(ended) => self.refuse_ended(context, ended),
        }
    }

    /// The same for whoever only passes it on. The store may have been asked before (`recent.rs`).
    pub(super) async fn bearer(&self, context: &CallContext) -> Result<(Owner, Claims), Error> {
        let claims = self.claims(context).await?;
        match self.owner(claims.session_id).await? {
            Ok(owner) => {
                self.must_belong(context, &claims, owner.user_id)?;
                Ok((owner, claims))
            }
            Err(ended) => self.refuse_ended(context, ended),
        }
    }

    /// What the access token of a call says; whether its session lives is not asked.
    pub(super) async fn claims(&self, context: &CallContext) -> Result<Claims, Error> {
        let token = match &context.bearer {
            Bearer::Token(token) => token,
            Bearer::Missing => return Err(Error::TokenMissing),
            Bearer::Malformed => return self.refuse_token(context, "malformed", Error::TokenInvalid),
        };
        let ring = self.ring().await?;
        let Some(claims) = ring.read_access(&self.tokens, token) else {
            return self.refuse_token(context, "not_ours", Error::TokenInvalid);
        };
        if claims.is_expired(self.store.now()) {
            return self.refuse_token(context, "expired", Error::TokenExpired);
        }
        Ok(claims)
    }

    fn must_belong(&self, context: &CallContext, claims: &Claims, user: UserId) -> Result<(), Error> {
        if claims.user_id == user {
            return Ok(());
        }
        self.refuse_token(context, "session_of_another", Error::TokenInvalid)
    }

    fn refuse_ended<T>(&self, context: &CallContext, ended: Ended) -> Result<T, Error> {
        match ended {
            Ended::Expired => self.refuse_token(context, "session_expired", Error::TokenExpired),
            Ended::Revoked => self.refuse_token(context, "session_ended", Error::TokenRevoked),
        }
    }

    /// Whose session it is. The store may have been asked before (`recent.rs`).
    pub(super) async fn owner(&self, id: SessionId) -> Result<Result<Owner, Ended>, Error> {
        let asked = self.clock().monotonic();
        if let Some(owner) = self.introspection_cache.recall(id, self.store.now()) {
            return Ok(Ok(owner));
        }
        let (user, session) = match self.live_and_watched(id).await? {
            Ok(AuthenticatedSession { user, session }) => (user.value, session.value),
            Err(ended) => return Ok(Err(ended)),
        };
        let owner = Owner { user_id: user.id, username: user.username };
        self.introspection_cache.remember(id, &owner, asked, session.idle_end(&self.tokens.lifetimes));
        Ok(Ok(owner))
    }

    pub(super) fn refuse_token<T>(&self, context: &CallContext, why: &'static str, error: Error) -> Result<T, Error> {
        self.note(&Event::TokenRefused { context, why });
        Err(error)
    }

    /// Reads a session and its user, and says whether it lives.
    pub(super) async fn live(&self, id: SessionId) -> Result<Result<AuthenticatedSession, Ended>, Error> {
        let session = self.store.session(id).await.map_err(|error| self.store_error(error))?;
        let Some(session) = session else { return Ok(Err(self.ended(id, Ended::Revoked))) };
        let user = self.store.user(&session.value.username).await.map_err(|error| self.store_error(error))?;
        Ok(self.judge(session, user))
    }

    /// The same for a check that is kept.
    async fn live_and_watched(&self, id: SessionId) -> Result<Result<AuthenticatedSession, Ended>, Error> {
        let session = self.store.watched_session(id).await.map_err(|error| self.store_error(error))?;
        let Some(session) = session else { return Ok(Err(self.ended(id, Ended::Revoked))) };
        let user = self.store.watched_user(&session.value.username).await.map_err(|error| self.store_error(error))?;
        Ok(self.judge(session, user))
    }

    fn judge(&self, session: Stored<Session>, user: Option<Stored<User>>) -> Result<AuthenticatedSession, Ended> {
        let checked =
            session.value.check(user.as_ref().map(|user| &user.value), self.store.now(), &self.tokens.lifetimes);
        match (checked, user) {
            (Ok(()), Some(user)) => Ok(AuthenticatedSession { user, session }),
            (Ok(()), None) => Err(self.ended(session.value.id, Ended::Revoked)),
            (Err(ended), _) => Err(self.ended(session.value.id, ended)),
        }
    }

    /// Whoever ended it, nobody is told from now on that it lives.
    fn ended(&self, id: SessionId, how: Ended) -> Ended {
        self.introspection_cache.session_ended(id);
        how
    }
}
