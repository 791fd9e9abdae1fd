//! Exchanges a refresh token for new tokens, once.
//!
//! Each refresh replaces the token (RFC 9700 4.14.2). The same token sent again within seconds gets the same answer while
//! the successor is unused: answers are lost, and browser tabs race. An older token of the session is reuse: it was stolen or
//! kept, and the session ends.

use std::{sync::Arc, time::Duration};

use super::{AuthenticatedSession, Sessions};
use crate::domain::{
    context::CallContext,
    error::Error,
    event::Event,
    model::{Session, SessionEnd, SessionId, UserId},
    ports::{Replace, StoreResult, Stored, cas_attempts},
    token::{ActiveKeyRing, RefreshToken, Tokens},
};

/// How long the last token may be sent again.
const REPEAT_WITHIN: Duration = Duration::from_secs(10);

impl Sessions {
    /// Exchanges a refresh token.
    ///
    /// # Errors
    /// `TokenInvalid`, `TokenExpired`, `TokenRevoked`; `StoreUnavailable`, `OutcomeUnknown`: send the same token again.
    pub(in crate::domain) async fn refresh(
        self: &Arc<Self>,
        context: &CallContext,
        text: &str,
    ) -> Result<Tokens, Error> {
        let ring = self.keys.key_ring_for(text).await?;
        let Some(token) = ring.read_refresh(text) else {
            return self.refuse_token(context, "not_ours", Error::TokenInvalid);
        };
        for () in cas_attempts() {
            let AuthenticatedSession { user, session } = match self.active(token.session).await? {
                Ok(active) => active,
                Err(SessionEnd::Expired) => {
                    return self.refuse_token(context, "session_expired", Error::TokenExpired);
                }
                Err(SessionEnd::Revoked) => return self.refuse_token(context, "session_ended", Error::TokenRevoked),
            };
            let exchanged = self.exchange(context, &ring, &token, user.value.id, session).await?;
            if let Some(tokens) = exchanged {
                return Ok(tokens);
            }
            // Another call exchanged the same token meanwhile, so look at the session again.
        }
        Err(Error::StoreUnavailable)
    }

    async fn exchange(
        self: &Arc<Self>,
        context: &CallContext,
        ring: &ActiveKeyRing,
        token: &RefreshToken,
        user: UserId,
        session: Stored<Session>,
    ) -> Result<Option<Tokens>, Error> {
        let (now, present) = (self.store.now(), &session.value);
        let (successor, refresh_nonce) = &ring.successor(token, present, now, &*self.environment.entropy);
        let tokens =
            |session: &Session| ring.tokens(&self.settings, session, successor, now, &*self.environment.entropy);
        // The successor is unused: a use would have made another generation.
        let is_repeat = is_current(successor, present) && now < present.refresh_time + REPEAT_WITHIN;
        if is_repeat {
            self.environment.note(&Event::TokenRefreshed { context, user, session: present.id, again: true });
            return Ok(Some(tokens(present)));
        }
        if !is_current(token, present) {
            if token.is_exposed {
                // An attacker may have made it: it must not end the session.
                return self.refuse_token(context, "dropped_key", Error::TokenInvalid);
            }
            return self.end_reused(context, user, present.id).await;
        }
        let next = Session {
            generation: successor.generation,
            secret_hash: successor.secret_hash(),
            refresh_nonce: *refresh_nonce,
            refresh_time: now,
            ..session.value.clone()
        };
        let next = self.replace(context, user, session, next).await?;
        Ok(next.as_ref().map(tokens))
    }

    /// Stores the next generation; `None` when another call was faster.
    async fn replace(
        self: &Arc<Self>,
        context: &CallContext,
        user: UserId,
        seen: Stored<Session>,
        next: Session,
    ) -> Result<Option<Session>, Error> {
        let (this, context) = (self.clone(), context.clone());
        let replaced = self.completion.run(async move {
            let replaced = this.store.replace_session(&seen.revision, &next).await;
            if replaced.or_report(&this.environment)? == Replace::Changed {
                return Ok(None);
            }
            let event = Event::TokenRefreshed { context: &context, user, session: next.id, again: false };
            this.environment.note(&event);
            Ok(Some(next))
        });
        replaced.await
    }

    /// Ends the session of a refresh token that was used again.
    async fn end_reused<T>(
        self: &Arc<Self>,
        context: &CallContext,
        user: UserId,
        session: SessionId,
    ) -> Result<T, Error> {
        let (this, context) = (self.clone(), context.clone());
        let ended = self.completion.run(async move {
            this.remove(user, session).await.or_report(&this.environment)?;
            this.environment.note(&Event::TokenReused { context: &context, user, session });
            Ok::<_, Error>(())
        });
        ended.await?;
        Err(Error::TokenRevoked)
    }
}

/// Whether `token` is the session's present refresh token.
pub(super) fn is_current(token: &RefreshToken, session: &Session) -> bool {
    token.generation == session.generation && token.secret_hash() == session.secret_hash
}
