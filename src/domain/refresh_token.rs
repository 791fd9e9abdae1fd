//! Gives new tokens for a refresh token, once.
//!
//! Each refresh replaces the token (RFC 9700 4.14.2). The same token sent again within seconds gets the same answer, as
//! long as nobody used that: answers are lost, and tabs race. Anything older that was ours was stolen or kept: its session
//! ends.

use std::{sync::Arc, time::Duration};

use super::{
    Auth, CallContext, Ended, Error, Event, Replace, Session, Tokens, authenticate::AuthenticatedSession,
    change_user::CAS_ATTEMPTS_MAX,
};

/// How long the last token may be sent again.
const AGAIN_WITHIN: Duration = Duration::from_secs(10);

impl Auth {
    /// Replaces a refresh token.
    ///
    /// # Errors
    /// `TokenInvalid`, `TokenExpired`, `TokenRevoked`; `StoreUnavailable`, `OutcomeUnknown`: send the same token again.
    pub async fn refresh_token(self: &Arc<Self>, context: &CallContext, text: &str) -> Result<Tokens, Error> {
        let ring = self.ring().await?;
        let Some(token) = ring.read_refresh(text) else {
            return self.refuse_token(context, "not_ours", Error::TokenInvalid);
        };
        let (successor, entropy) = (ring.successor(&token), &*self.environment.entropy);
        for _ in 0..CAS_ATTEMPTS_MAX {
            let AuthenticatedSession { user, session } = match self.live(token.session).await? {
                Ok(authenticate) => authenticate,
                Err(Ended::Expired) => return self.refuse_token(context, "session_expired", Error::TokenExpired),
                Err(Ended::Revoked) => return self.refuse_token(context, "session_ended", Error::TokenRevoked),
            };
            let (now, present, user) = (self.store.now(), session.value, user.value.id);
            let is_present = token.generation == present.generation && token.secret_hash() == present.secret_hash;
            // Unused: a use would have made yet another generation.
            let is_last = successor.generation == present.generation && successor.secret_hash() == present.secret_hash;
            if is_last && now < present.refresh_time + AGAIN_WITHIN {
                self.note(&Event::TokenRefreshed { context, user, session: present.id, again: true });
                return Ok(ring.tokens(&self.tokens, &present, &successor, now, entropy));
            }
            if !is_present {
                let ended = self.run_to_completion(context, move |auth, context| async move {
                    auth.forget_session(user, present.id).await.map_err(|error| auth.store_error(error))?;
                    auth.note(&Event::TokenReused { context: &context, user, session: present.id });
                    Err(Error::TokenRevoked)
                });
                return ended.await;
            }
            let next = Session {
                generation: successor.generation,
                secret_hash: successor.secret_hash(),
                refresh_time: now,
                ..present
            };
            let replaced = self.run_to_completion(context, |auth, context| async move {
                let replaced = auth.store.replace_session(&session.revision, &next).await;
                if replaced.map_err(|error| auth.store_error(error))? == Replace::Changed {
                    return Ok(None);
                }
                auth.note(&Event::TokenRefreshed { context: &context, user, session: next.id, again: false });
                Ok(Some(next))
            });
            if let Some(next) = replaced.await? {
                return Ok(ring.tokens(&self.tokens, &next, &successor, now, entropy));
            }
            // Somebody was faster with the same token: look what became of it.
        }
        Err(Error::StoreUnavailable)
    }
}
