//! Ends the session of a token of either kind (RFC 7009). What is no token is nothing to end.

use std::sync::Arc;

use super::{Auth, CallContext, Error, SessionId};

impl Auth {
    /// Ends the token's session.
    ///
    /// # Errors
    /// `StoreUnavailable`, `OutcomeUnknown`: try again.
    pub async fn revoke_token(self: &Arc<Self>, context: &CallContext, token: &str) -> Result<(), Error> {
        let ring = self.ring().await?;
        // An expired token still names its session, whose owner wants it ended.
        let access = ring.read_access(&self.tokens, token).map(|claims| claims.session_id);
        let Some(id) = access.or_else(|| ring.read_refresh(token).map(|refresh| refresh.session)) else {
            return Ok(());
        };
        self.end(context, id).await
    }

    async fn end(self: &Arc<Self>, context: &CallContext, id: SessionId) -> Result<(), Error> {
        let session = self.store.session(id).await.map_err(|error| self.store_error(error))?;
        // It may have been ended elsewhere, or by a call whose caller did not wait for the answer.
        self.introspection_cache.session_ended(id);
        let Some(session) = session else { return Ok(()) };
        self.end_session(context, session.value.user_id, id).await
    }
}
