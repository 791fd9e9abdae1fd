//! Replaces the data of a user.

use std::sync::Arc;

use super::{Accounts, Rules};
use crate::domain::{
    context::CallContext,
    error::Error,
    event::Event,
    model::{User, UserData},
    session::AuthenticatedSession,
};

/// New data for a user.
#[derive(Debug)]
pub struct DataChange {
    data: UserData,
    /// The etag that the present data must have, if the client sent one.
    etag: Option<String>,
}

impl DataChange {
    /// Parses a request; an empty etag is none.
    pub fn parse(rules: &Rules, data: String, etag: String) -> Result<Self, Error> {
        let data = UserData::parse(data, rules.data_bytes_max)?;
        Ok(Self { data, etag: (!etag.is_empty()).then_some(etag) })
    }
}

impl Accounts {
    /// Replaces the data of the user of this call.
    ///
    /// # Errors
    /// Those of an access token; `Conflict` when the etag is another one; `RateLimited`; `StoreUnavailable`,
    /// `OutcomeUnknown`.
    pub(in crate::domain) async fn update_data(
        self: &Arc<Self>,
        context: &CallContext,
        change: DataChange,
    ) -> Result<User, Error> {
        // Under the user's lock: many such calls at once would always be faster than what ends their session.
        let lock = self.user_locks.lock(self.sessions.claims(context).await?.user_id).await;
        let AuthenticatedSession { user, session } = self.sessions.authenticate(context).await?;
        self.limits.count_change(context, session.value.id)?;
        let now = self.store.now();
        let DataChange { data, etag } = change;
        let matches = move |user: &User| etag.as_ref().is_none_or(|etag| *etag == user.data.etag());
        if !matches(&user.value) {
            return Err(Error::Conflict);
        }
        let (this, context) = (self.clone(), context.clone());
        let changed = self.completion.run(async move {
            let changed = this.users.change_if(
                user,
                |again, before| again.epoch == before.epoch && matches(again),
                |user| {
                    user.data = data.clone();
                    user.update_time = now;
                },
            );
            let changed = changed.await?;
            drop(lock);
            this.environment.note(&Event::UserChanged { context: &context, user: changed.id });
            Ok(changed)
        });
        changed.await
    }
}
