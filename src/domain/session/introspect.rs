//! Answers whether a token is active, and its claims (RFC 7662).
//!
//! A token that is not active is an answer and no error, and the answer says nothing else. While the store cannot be asked,
//! only the introspection cache answers.

use std::time::SystemTime;

use super::{AuthenticatedSession, Sessions, introspection_cache::SessionOwner};
use crate::{
    common::time::from_unix_seconds,
    domain::{
        context::CallContext,
        error::Error,
        model::{SessionId, UserId, Username},
        token::{Claims, Names},
    },
};

/// What an active token says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Introspection {
    /// The user.
    pub user_id: UserId,
    /// The user's canonical name.
    pub username: Username,
    /// Which session it belongs to.
    pub session_id: SessionId,
    /// The client that its session belongs to (`client_id`).
    pub client_id: String,
    /// What it is for.
    pub token_use: TokenUse,
    /// When it was issued.
    pub issue_time: SystemTime,
    /// When it expires.
    pub expire_time: SystemTime,
    /// `iss`
    pub issuer: String,
    /// `aud`
    pub audience: String,
}

/// What a token is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenUse {
    /// Calls.
    Access,
    /// New access tokens.
    Refresh,
}

impl Sessions {
    /// Introspects a token of either kind; `None` when it is not active.
    ///
    /// # Errors
    /// `StoreUnavailable`, `CorruptRecord`: not known.
    pub(in crate::domain) async fn introspect(&self, token: &str) -> Result<Option<Introspection>, Error> {
        let ring = self.keys.key_ring_for(token).await?;
        if let Some(claims) = ring.read_access(&self.settings, token) {
            return self.introspect_access(&claims).await;
        }
        let Some(refresh) = ring.read_refresh(token) else { return Ok(None) };
        let Ok(AuthenticatedSession { user, session }) = self.active(refresh.session).await? else { return Ok(None) };
        let (user, session) = (user.value, session.value);
        if (refresh.generation, refresh.secret_hash()) != (session.generation, session.secret_hash) {
            return Ok(None);
        }
        let Names { issuer, audience } = self.settings.names.clone();
        Ok(Some(Introspection {
            user_id: user.id,
            username: user.username,
            session_id: session.id,
            client_id: session.client_id.clone(),
            token_use: TokenUse::Refresh,
            issue_time: session.refresh_time,
            expire_time: session.idle_end(&self.settings.lifetimes),
            issuer,
            audience,
        }))
    }

    /// Introspects the access token of a call.
    ///
    /// # Errors
    /// As for [`Self::authenticate`].
    pub(in crate::domain) async fn introspect_bearer(&self, context: &CallContext) -> Result<Introspection, Error> {
        let (owner, claims) = self.authenticate_cached(context).await?;
        Ok(self.access_introspection(owner, &claims))
    }

    async fn introspect_access(&self, claims: &Claims) -> Result<Option<Introspection>, Error> {
        let now = self.store.now();
        if claims.is_expired(now) || !claims.is_credible(now) {
            return Ok(None);
        }
        let Ok(owner) = self.owner(claims.session_id).await? else { return Ok(None) };
        Ok(Some(self.access_introspection(owner, claims)))
    }

    fn access_introspection(&self, owner: SessionOwner, claims: &Claims) -> Introspection {
        let Names { issuer, audience } = self.settings.names.clone();
        Introspection {
            user_id: owner.user_id,
            username: owner.username,
            session_id: claims.session_id,
            client_id: owner.client_id,
            token_use: TokenUse::Access,
            issue_time: from_unix_seconds(claims.issued_at),
            expire_time: from_unix_seconds(claims.expires_at),
            issuer,
            audience,
        }
    }
}
