//! Ends all sessions of a user at once, by raising the epoch in the user record.

use std::sync::Arc;

use super::Accounts;
use crate::domain::{
    authn::CurrentPassword, context::CallContext, error::Error, event::Event, session::AuthenticatedSession,
};

/// The sessions of a user that a call ends.
#[derive(Debug)]
pub enum SessionsToEnd {
    /// All, also the session of the call.
    All,
    /// All but the session of the call. Needs the password: a stolen access token must not end the sessions of its owner and
    /// keep its own (ASVS 5.0 7.5.2).
    AllOthers {
        /// The user's current password.
        current_password: CurrentPassword,
    },
}

impl Accounts {
    /// Ends sessions of the user of this call; answers how many were known.
    ///
    /// # Errors
    /// Those of an access token; `Conflict`; `StoreUnavailable`, `OutcomeUnknown`: try again. For `AllOthers` also
    /// `InvalidCredentials`, `RateLimited`, `ChallengeRequired`, `ChallengeInvalid`, `Overloaded`, `Draining`.
    pub(in crate::domain) async fn revoke_all_sessions(
        self: &Arc<Self>,
        context: &CallContext,
        which: SessionsToEnd,
    ) -> Result<usize, Error> {
        let AuthenticatedSession { user, session } = self.sessions.authenticate(context).await?;
        let (user, keep) = match which {
            SessionsToEnd::All => (user, None),
            SessionsToEnd::AllOthers { current_password } => {
                let user = self.reauthenticate(context, user, session.value.id, current_password).await?;
                (user, Some(session.value.list_entry()))
            }
        };
        // Only for the count: a failure here must not keep sessions alive.
        let known = self.sessions.sessions_of(&user.value).await.map_or(0, |sessions| sessions.len());
        let (this, context) = (self.clone(), context.clone());
        let raised = self.completion.run(async move {
            let raised = this.users.change(user, |user| user.end_sessions(keep)).await?;
            this.environment.note(&Event::AllSessionsEnded { context: &context, user: raised.id });
            Ok::<_, Error>(())
        });
        raised.await?;
        Ok(known.saturating_sub(usize::from(keep.is_some())))
    }
}
