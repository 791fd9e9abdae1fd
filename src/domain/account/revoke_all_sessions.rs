//! Ends all sessions of a user at once, by raising the epoch in the user record.

use std::sync::Arc;

use super::Accounts;
use crate::domain::{context::CallContext, error::Error, event::Event, session::AuthenticatedSession};

impl Accounts {
    /// Ends all sessions of the user of this call, or all but the present one; answers how many were known.
    ///
    /// # Errors
    /// Those of an access token; `Conflict`; `RateLimited`; `StoreUnavailable`, `OutcomeUnknown`: try again.
    pub(in crate::domain) async fn revoke_all_sessions(
        self: &Arc<Self>,
        context: &CallContext,
        keep_current: bool,
    ) -> Result<usize, Error> {
        let AuthenticatedSession { user, session } = self.sessions.authenticate(context).await?;
        self.limits.count_change(context, session.value.id)?;
        // Only for the count: a failure here must not keep sessions alive.
        let known = self.sessions.sessions_of(&user.value).await.map_or(0, |sessions| sessions.len());
        let keep = keep_current.then(|| session.value.list_entry());
        let (this, context) = (self.clone(), context.clone());
        let raised = self.completion.run(async move {
            let raised = this.users.change(user, |user| user.end_sessions(keep)).await?;
            this.environment.note(&Event::AllSessionsEnded { context: &context, user: raised.id });
            Ok::<_, Error>(())
        });
        raised.await?;
        Ok(known.saturating_sub(usize::from(keep_current)))
    }
}
