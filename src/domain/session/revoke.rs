//! Ends sessions: one by its token (RFC 7009), one by its id, or all of a user.

use std::sync::Arc;

use super::{AuthenticatedSession, Sessions, repeat::is_current};
use crate::domain::{
    context::CallContext,
    error::{Error, StoreError},
    event::Event,
    model::{SessionId, UserId},
    ports::{Replace, StoreResult, cas_attempts},
};

impl Sessions {
    /// Ends the session of a token of either kind. Text that is no token has no session to end. A `client` that
    /// authenticated ends only its own sessions (RFC 7009 section 2.1).
    ///
    /// # Errors
    /// `CallerNotAllowed`; `StoreUnavailable`, `OutcomeUnknown`: try again.
    pub(in crate::domain) async fn revoke_token(
        self: &Arc<Self>,
        context: &CallContext,
        client: Option<&str>,
        token: &str,
    ) -> Result<(), Error> {
        let ring = self.keys.key_ring_for(token).await?;
        // An expired access token still names the session that its owner wants to end.
        let access = ring.read_access(&self.settings, token).map(|claims| claims.session_id);
        let refresh = ring.read_refresh(token);
        let Some(id) = access.or(refresh.as_ref().map(|refresh| refresh.session)) else { return Ok(()) };
        let session = self.store.session(id).await.or_report(&self.environment)?;
        // Another node may have ended it, or a call that did not wait for its answer.
        self.cache.evict_session(id);
        let Some(session) = session else { return Ok(()) };
        if client.is_some_and(|client| client != session.value.client_id) {
            return self.refuse_token(context, "session_of_another_client", Error::CallerNotAllowed);
        }
        if refresh.is_some_and(|refresh| refresh.is_exposed && !is_current(&refresh, &session.value)) {
            // An attacker may have made it.
            return Ok(());
        }
        self.end(context, session.value.user_id, id).await
    }

    /// Ends one session of the user of this call. A session of another user is left as it is.
    ///
    /// # Errors
    /// Those of an access token; `RateLimited`; `StoreUnavailable`, `OutcomeUnknown`: try again.
    pub(in crate::domain) async fn revoke_session(
        self: &Arc<Self>,
        context: &CallContext,
        id: SessionId,
    ) -> Result<(), Error> {
        let AuthenticatedSession { user, session } = self.authenticate(context).await?;
        self.limits.count_change(context, session.value.id)?;
        let wanted = self.store.session(id).await.or_report(&self.environment)?;
        self.cache.evict_session(id);
        if wanted.is_some_and(|session| session.value.user_id == user.value.id) {
            self.end(context, user.value.id, id).await?;
        }
        Ok(())
    }

    async fn end(self: &Arc<Self>, context: &CallContext, user: UserId, id: SessionId) -> Result<(), Error> {
        let (this, context) = (self.clone(), context.clone());
        let ended = self.completion.run(async move {
            this.remove(user, id).await.or_report(&this.environment)?;
            this.environment.note(&Event::SessionEnded { context: &context, user, session: id });
            Ok(())
        });
        ended.await
    }

    /// Removes one session, whatever its state, and takes it off the list of its user.
    pub(super) async fn remove(&self, user: UserId, id: SessionId) -> Result<(), StoreError> {
        for () in cas_attempts() {
            let seen = self.store.sessions(user).await?;
            let entries = seen.iter().flat_map(|seen| &seen.value).copied();
            let kept: Vec<_> = entries.filter(|entry| entry.id != id).collect();
            let revision = seen.as_ref().map(|seen| &seen.revision);
            let changed = self.store.change_sessions(user, &[], &[id], revision, &kept).await;
            self.cache.evict_session(id);
            if changed? == Replace::Replaced {
                return Ok(());
            }
        }
        // The session is gone even when the list was always changed meanwhile: a list is a hint.
        Ok(())
    }
}
