//! Creates a session for a user who has just authenticated.

use super::Sessions;
use crate::domain::{
    context::CallContext,
    error::{Error, StoreError},
    event::Event,
    model::{Repeats, Session, SessionId, User},
    token::Tokens,
};

impl Sessions {
    /// Stores a session and answers its tokens. `user` is as it was before the authentication: what ended sessions
    /// meanwhile has ended this one too.
    ///
    /// # Errors
    /// `StoreUnavailable`; `CorruptRecord`.
    pub(in crate::domain) async fn create(&self, context: &CallContext, user: &User) -> Result<Tokens, Error> {
        let ring = self.keys.key_ring().await?;
        let (now, entropy) = (self.store.now(), &*self.environment.entropy);
        let id = SessionId::new(now, entropy.bytes());
        let refresh = ring.first_refresh(id, now, entropy);
        let session = Session {
            id,
            user_id: user.id,
            username: user.username.clone(),
            epoch: user.epoch,
            session_epoch: ring.session_epoch(),
            generation: 0,
            secret_hash: refresh.secret_hash(),
            refresh_nonce: [0; 16],
            create_time: now,
            refresh_time: now,
            refreshed_by: None,
            repeats: Repeats::default(),
            is_contested: false,
            expire_time: now + self.settings.lifetimes.absolute,
            client_id: self.settings.client_id.clone(),
            user_agent: context.user_agent.clone(),
            client_address: context.address().to_string(),
        };
        self.writer.store(user, &session).await.map_err(|error| match error {
            // A session without known tokens does no harm, so the login can be tried again.
            StoreError::OutcomeUnknown => {
                self.environment.note(&Event::StoreFailed { error: &error });
                Error::StoreUnavailable
            }
            other => self.environment.store_error(other),
        })?;
        Ok(ring.tokens(&self.settings, &session, &refresh, now, entropy))
    }
}
