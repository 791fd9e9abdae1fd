//! Says whether a token counts, as the store knows it (RFC 7662).
//!
//! A bad token is an answer, not an error, and the answer says nothing else. When the store cannot be asked, there is no
//! answer at all, but for access tokens that it vouched for a moment ago (`recent.rs`).

use std::time::{Duration, SystemTime};

use super::{
    Auth, CallContext, Claims, Error, Event, SessionId, UserId, Username, authenticate::AuthenticatedSession,
    introspection_cache::Owner,
};

/// What a token counts for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Introspection {
    /// Whose it is.
    pub user_id: UserId,
    /// The user's canonical name.
    pub username: Username,
    /// Which session it belongs to.
    pub session_id: SessionId,
    /// What it is for.
    pub token_use: TokenUse,
    /// Since when it counts.
    pub issue_time: SystemTime,
    /// Until when.
    pub expire_time: SystemTime,
    /// Who made it.
    pub issuer: String,
    /// For whom.
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

impl Auth {
    /// Says that a service was refused that asked about tokens.
    pub fn client_refused(&self, context: &CallContext) {
        self.note(&Event::ClientRefused { context });
    }

    /// Looks at a token of either kind; `None` when it does not count.
    ///
    /// # Errors
    /// `StoreUnavailable`, `CorruptRecord`: nobody knows.
    pub async fn introspect_token(&self, token: &str) -> Result<Option<Introspection>, Error> {
        let ring = self.ring().await?;
        if let Some(claims) = ring.read_access(&self.tokens, token) {
            return self.introspect_access(&claims).await;
        }
        let Some(refresh) = ring.read_refresh(token) else { return Ok(None) };
        let Ok(AuthenticatedSession { user, session }) = self.live(refresh.session).await? else { return Ok(None) };
        let session = session.value;
        if (refresh.generation, refresh.secret_hash()) != (session.generation, session.secret_hash) {
            return Ok(None);
        }
        let (since, until) = (session.refresh_time, session.idle_end(&self.tokens.lifetimes));
        Ok(Some(self.introspection(user.value.id, user.value.username, session.id, TokenUse::Refresh, since, until)))
    }

    async fn introspect_access(&self, claims: &Claims) -> Result<Option<Introspection>, Error> {
        if claims.is_expired(self.store.now()) {
            return Ok(None);
        }
        let Ok(owner) = self.owner(claims.session_id).await? else { return Ok(None) };
        Ok(Some(self.access_introspection(owner, claims)))
    }

    /// What an access token counts for whose session lives.
    pub(super) fn access_introspection(&self, owner: Owner, claims: &Claims) -> Introspection {
        let [since, until] =
            [claims.issued_at, claims.expires_at].map(|at| SystemTime::UNIX_EPOCH + Duration::from_secs(at));
        self.introspection(owner.user_id, owner.username, claims.session_id, TokenUse::Access, since, until)
    }

    fn introspection(
        &self,
        user_id: UserId,
        username: Username,
        session_id: SessionId,
        token_use: TokenUse,
        issue_time: SystemTime,
        expire_time: SystemTime,
    ) -> Introspection {
        let super::Names { issuer, audience } = self.tokens.names.clone();
        Introspection { user_id, username, session_id, token_use, issue_time, expire_time, issuer, audience }
    }
}
