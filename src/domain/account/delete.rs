//! Deletes a user.

use std::sync::Arc;

use super::Accounts;
use crate::domain::{
    authn::CurrentPassword, context::CallContext, error::Error, event::Event, session::AuthenticatedSession,
};

impl Accounts {
    /// Deletes the user of this call and ends all sessions.
    ///
    /// # Errors
    /// As for `change_password`.
    pub(in crate::domain) async fn delete(
        self: &Arc<Self>,
        context: &CallContext,
        current: CurrentPassword,
    ) -> Result<(), Error> {
        let AuthenticatedSession { user, session } = self.sessions.authenticate(context).await?;
        let user = self.reauthenticate(context, user, session.value.id, current).await?;
        let (this, context) = (self.clone(), context.clone());
        let removed = self.completion.run(async move {
            let id = user.value.id;
            this.users.remove(user).await?;
            this.environment.note(&Event::UserDeleted { context: &context, user: id });
            Ok(())
        });
        removed.await
    }
}
