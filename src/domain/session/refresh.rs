//! Exchanges a refresh token for new tokens, once.
//!
//! Each refresh replaces the token (RFC 9700 4.14.2). A repeat of a refresh gets the same answer while the successor is
//! unused: answers are lost, and browser tabs race. An older token of the session is reuse: it was stolen or kept, and the
//! session ends. `repeat.rs` decides which of them a call is.

use std::sync::Arc;

use super::{
    AuthenticatedSession, Sessions,
    repeat::{RefreshCall, RefreshKind, is_current, origin},
};
use crate::domain::{
    context::CallContext,
    error::Error,
    event::Event,
    model::{RefreshOrigin, RequestId, Session, SessionEnd, SessionId, UserId},
    ports::{Replace, StoreResult, Stored, cas_attempts},
    token::{ActiveKeyRing, RefreshToken, Tokens},
};

/// What a refresh writes.
enum SessionWrite {
    /// The next generation.
    Rotation(Session),
    /// The present generation, which was repeated.
    Repeat(Session),
}

impl Sessions {
    /// Exchanges a refresh token.
    ///
    /// # Errors
    /// `TokenInvalid`, `TokenExpired`, `TokenRevoked`; `RateLimited`; `StoreUnavailable`, `OutcomeUnknown`: send the same
    /// token with the same request id again.
    pub(in crate::domain) async fn refresh(
        self: &Arc<Self>,
        context: &CallContext,
        text: &str,
        request_id: Option<RequestId>,
    ) -> Result<Tokens, Error> {
        let ring = self.keys.key_ring_for(text).await?;
        let Some(token) = ring.read_refresh(text) else {
            return self.refuse_token(context, "not_ours", Error::TokenInvalid);
        };
        self.limits.count_token_use(context, token.secret_hash())?;
        let origin = origin(&token, context, request_id);
        for () in cas_attempts() {
            let AuthenticatedSession { user, session } = match self.active(token.session).await? {
                Ok(active) => active,
                Err(SessionEnd::Expired) => {
                    return self.refuse_token(context, "session_expired", Error::TokenExpired);
                }
                Err(SessionEnd::Revoked) => return self.refuse_token(context, "session_ended", Error::TokenRevoked),
            };
            let exchanged = self.exchange(context, &ring, (&token, origin), user.value.id, session).await?;
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
        (token, origin): (&RefreshToken, RefreshOrigin),
        user: UserId,
        session: Stored<Session>,
    ) -> Result<Option<Tokens>, Error> {
        let (now, present) = (self.store.now(), &session.value);
        let (successor, refresh_nonce) = &ring.successor(token, present, now, &*self.environment.entropy);
        let tokens =
            |session: &Session| ring.tokens(&self.settings, session, successor, now, &*self.environment.entropy);
        let call = RefreshCall { token, successor, origin };
        let write = match call.kind(present, now, self.settings.refresh_repeat) {
            RefreshKind::Exchange => {
                self.limits.count_refresh(context, present.id)?;
                SessionWrite::Rotation(Session {
                    generation: call.successor.generation,
                    secret_hash: call.successor.secret_hash(),
                    refresh_nonce: *refresh_nonce,
                    refresh_time: now,
                    refreshed_by: Some(call.origin),
                    repeats: present.repeats.of_next_generation(),
                    is_contested: false,
                    ..present.clone()
                })
            }
            RefreshKind::Repeat(repeats) if repeats == present.repeats => {
                self.environment.note(&Event::TokenRefreshed { context, user, session: present.id, again: true });
                return Ok(Some(tokens(present)));
            }
            RefreshKind::Repeat(repeats) => SessionWrite::Repeat(Session { repeats, ..present.clone() }),
            RefreshKind::Elsewhere => return self.contest(context, user, session).await,
            // An attacker may have made the token: it must not end the session.
            RefreshKind::Reuse(_)
                if token.is_exposed && !is_current(token, present) && !is_current(successor, present) =>
            {
                return self.refuse_token(context, "dropped_key", Error::TokenInvalid);
            }
            RefreshKind::Reuse(why) => return self.end_reused(context, user, present.id, why).await,
        };
        let next = self.replace(context, user, session, write).await?;
        Ok(next.as_ref().map(tokens))
    }

    /// Stores the session of a refresh; `None` when another call was faster.
    async fn replace(
        self: &Arc<Self>,
        context: &CallContext,
        user: UserId,
        seen: Stored<Session>,
        write: SessionWrite,
    ) -> Result<Option<Session>, Error> {
        let (this, context) = (self.clone(), context.clone());
        let (next, again) = match write {
            SessionWrite::Rotation(next) => (next, false),
            SessionWrite::Repeat(next) => (next, true),
        };
        let replaced = self.completion.run(async move {
            let replaced = this.store.replace_session(&seen.revision, &next).await;
            if replaced.or_report(&this.environment)? == Replace::Changed {
                return Ok(None);
            }
            let event = Event::TokenRefreshed { context: &context, user, session: next.id, again };
            this.environment.note(&event);
            Ok(Some(next))
        });
        replaced.await
    }

    /// Refuses a repeat from elsewhere, and notes in the session that two hold its tokens; `None` when another call was faster.
    async fn contest(
        self: &Arc<Self>,
        context: &CallContext,
        user: UserId,
        seen: Stored<Session>,
    ) -> Result<Option<Tokens>, Error> {
        let (this, context) = (self.clone(), context.clone());
        let refused = self.completion.run(async move {
            let session = seen.value.id;
            if !seen.value.is_contested {
                let contested = Session { is_contested: true, ..seen.value };
                let replaced = this.store.replace_session(&seen.revision, &contested).await;
                if replaced.or_report(&this.environment)? == Replace::Changed {
                    return Ok(None);
                }
            }
            this.environment.note(&Event::RefreshRepeatRefused { context: &context, user, session });
            Err(Error::TokenInvalid)
        });
        refused.await
    }

    /// Ends the session of a refresh token that was used again.
    async fn end_reused<T>(
        self: &Arc<Self>,
        context: &CallContext,
        user: UserId,
        session: SessionId,
        why: &'static str,
    ) -> Result<T, Error> {
        let (this, context) = (self.clone(), context.clone());
        let ended = self.completion.run(async move {
            this.remove(user, session).await.or_report(&this.environment)?;
            this.environment.note(&Event::TokenReused { context: &context, user, session, why });
            Ok::<_, Error>(())
        });
        ended.await?;
        Err(Error::TokenRevoked)
    }
}
