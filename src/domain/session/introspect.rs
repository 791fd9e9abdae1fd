//! Answers whether a token is active, and its claims (RFC 7662).
//!
//! A refresh token is active only with the hint `refresh_token`, so that no service accepts one as an access token, and only
//! for a caller who may ask: an authenticated OAuth client, or a caller on the node's machine. To all others the answer would
//! tell when the token was exchanged, which is what the thief of a copy waits for.
//!
//! A token that is not active is an answer and no error, and the answer says nothing else. While the store cannot be asked,
//! only the introspection cache answers.

use std::time::SystemTime;

use super::{AuthenticatedSession, Sessions, introspection_cache::SessionOwner, repeat::is_current};
use crate::{
    common::time::from_unix_seconds,
    domain::{
        context::{Api, CallContext, Peer},
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

/// What a caller takes a token for: `token_type_hint` of RFC 7662 section 2.1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenTypeHint {
    /// An access token, or not said.
    Access,
    /// A refresh token.
    Refresh,
}

impl TokenTypeHint {
    /// Reads the text form. A value that is not known is no hint (RFC 7009 section 2.1).
    pub fn parse(text: &str) -> Self {
        if text == "refresh_token" { TokenTypeHint::Refresh } else { TokenTypeHint::Access }
    }
}

/// Whether the caller may introspect refresh tokens. A call that a proxy forwards is the call of its client: a client behind
/// a trusted proxy on this machine counts by its own address.
fn may_ask_for_refresh_tokens(context: &CallContext) -> bool {
    match context.api {
        // Its clients have authenticated.
        Api::OAuth => true,
        Api::Grpc | Api::Admin | Api::Legacy | Api::Altcha => {
            let is_here = |peer| match peer {
                Peer::Ip(address) => address.is_loopback(),
                Peer::Local { .. } => true,
            };
            is_here(context.peer) && is_here(context.address())
        }
    }
}

impl Sessions {
    /// Introspects a token; `None` when it is not active, and for a refresh token without the hint or the right to ask.
    ///
    /// # Errors
    /// `StoreUnavailable`, `CorruptRecord`: not known.
    pub(in crate::domain) async fn introspect(
        &self,
        context: &CallContext,
        token: &str,
        hint: TokenTypeHint,
    ) -> Result<Option<Introspection>, Error> {
        let ring = self.keys.key_ring_for(token).await?;
        if let Some(claims) = ring.read_access(&self.settings, token) {
            return self.introspect_access(&claims).await;
        }
        if hint != TokenTypeHint::Refresh || !may_ask_for_refresh_tokens(context) {
            return Ok(None);
        }
        let Some(refresh) = ring.read_refresh(token) else { return Ok(None) };
        let Ok(AuthenticatedSession { user, session }) = self.active(refresh.session).await? else { return Ok(None) };
        let (user, session) = (user.value, session.value);
        if !is_current(&refresh, &session) {
            return Ok(None);
        }
        let Names { issuer, audience } = self.settings.names.clone();
        Ok(Some(Introspection {
            user_id: user.id,
            username: user.username,
            session_id: session.id,
            client_id: session.client_id.clone(),
            token_use: TokenUse::Refresh,
            issue_time: session.shown_refresh_time(),
            expire_time: session.shown_idle_end(&self.settings.lifetimes),
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
