//! Begins sessions, and lists and ends them.
//!
//! A session is stored before it is listed, so the list is a hint that is repaired when it is read. What ends all sessions
//! at once raises the user's epoch, in the one record that every check reads: no race leaves a session alive.

use std::sync::Arc;

use super::{
    Auth, CallContext, Error, Event, Replace, Session, SessionId, StoreError, Tokens, User, UserId,
    authenticate::AuthenticatedSession, change_user::CAS_ATTEMPTS_MAX, session::shortened,
};

/// Sessions of a user, the newest first.
#[derive(Debug)]
pub struct SessionPage {
    /// The page.
    pub sessions: Vec<Session>,
    /// The session that the call belongs to.
    pub current: SessionId,
    /// Behind which session the next page begins, if there is one.
    pub next: Option<SessionId>,
}

impl Auth {
    /// Makes a session of a user whose password was just checked.
    pub(super) async fn begin_session(&self, context: &CallContext, user: &User) -> Result<Tokens, Error> {
        let ring = self.ring().await?;
        let (now, entropy) = (self.store.now(), &*self.environment.entropy);
        let id = SessionId::new(now, entropy);
        let refresh = ring.first_refresh(id, entropy);
        let session = Session {
            id,
            user_id: user.id,
            username: user.username.clone(),
            epoch: user.epoch,
            generation: 0,
            secret_hash: refresh.secret_hash(),
            create_time: now,
            refresh_time: now,
            expire_time: now + self.tokens.lifetimes.absolute,
            user_agent: shortened(&context.user_agent),
            client_address: context.address().to_string(),
        };
        self.session_writer.store(user, &session).await.map_err(|error| match error {
            // A session whose tokens nobody has is as good as none: trying again is safe.
            StoreError::OutcomeUnknown => {
                self.note(&Event::StoreFailed { error: &error });
                Error::StoreUnavailable
            }
            other => self.store_error(other),
        })?;
        Ok(ring.tokens(&self.tokens, &session, &refresh, now, entropy))
    }

    /// Ends one session, whatever state it is in, and takes it off its user's list.
    pub(super) async fn forget_session(&self, user: UserId, id: SessionId) -> Result<(), StoreError> {
        for _ in 0..CAS_ATTEMPTS_MAX {
            let seen = self.store.sessions(user).await?;
            let list_entry = seen.iter().flat_map(|seen| &seen.value).copied();
            let kept: Vec<_> = list_entry.filter(|list_entry| list_entry.id != id).collect();
            let revision = seen.as_ref().map(|seen| &seen.revision);
            let changed = self.store.change_sessions(user, &[], &[id], revision, &kept).await;
            self.introspection_cache.session_ended(id);
            if changed? == Replace::Replaced {
                return Ok(());
            }
        }
        // It has ended; only the list was always faster, and a list is a hint.
        Ok(())
    }

    /// Ends one session of a user who wants it ended.
    pub(super) async fn end_session(
        self: &Arc<Self>,
        context: &CallContext,
        user: UserId,
        id: SessionId,
    ) -> Result<(), Error> {
        let ended = self.run_to_completion(context, move |auth, context| async move {
            auth.forget_session(user, id).await.map_err(|error| auth.store_error(error))?;
            auth.note(&Event::SessionEnded { context: &context, user, session: id });
            Ok(())
        });
        ended.await
    }

    /// Lists the caller's sessions, the newest first: those behind `after`, at most `size` of them.
    ///
    /// # Errors
    /// Those of a bearer token; `StoreUnavailable`.
    pub async fn list_sessions(
        &self,
        context: &CallContext,
        after: Option<SessionId>,
        size: usize,
    ) -> Result<SessionPage, Error> {
        let AuthenticatedSession { user, session } = self.authenticate(context).await?;
        let mut sessions = self.sessions_of(&user.value).await?;
        if let Some(after) = after {
            // One that has ended since is no landmark any more; ids sort by time, to the millisecond.
            let known = sessions.iter().position(|session| session.id == after);
            let from = known.map(|at| at + 1).or_else(|| sessions.iter().position(|session| session.id < after));
            sessions.drain(..from.unwrap_or(sessions.len()));
        }
        let next = (sessions.len() > size).then(|| sessions[size - 1].id);
        sessions.truncate(size);
        Ok(SessionPage { sessions, current: session.value.id, next })
    }

    /// The living sessions of a user, the newest first. Takes what is dead off the list; one that cannot be read is left
    /// out, and left alone.
    async fn sessions_of(&self, user: &User) -> Result<Vec<Session>, Error> {
        let list = self.store.sessions(user.id).await.map_err(|error| self.store_error(error))?;
        let Some(list) = list else { return Ok(Vec::new()) };
        let read = list.value.iter().map(|list_entry| self.store.session(list_entry.id));
        let read = futures_util::future::join_all(read).await;
        let (now, lifetimes) = (self.store.now(), &self.tokens.lifetimes);
        let (mut living, mut kept) = (Vec::new(), Vec::new());
        for (list_entry, session) in list.value.iter().zip(read) {
            let session = match session {
                Ok(session) => session,
                Err(StoreError::Corrupt(_)) => {
                    kept.push(*list_entry);
                    continue;
                }
                Err(error) => return Err(self.store_error(error)),
            };
            let Some(session) = session.map(|stored| stored.value) else { continue };
            if session.check(Some(user), now, lifetimes).is_ok() {
                kept.push(*list_entry);
                living.push(session);
            } else if !list_entry.is_past(user) && now < session.idle_end(lifetimes) {
                // Begun in an epoch that came after `user` was read.
                kept.push(*list_entry);
            }
        }
        if kept.len() < list.value.len() {
            // Whoever reads it next may repair it too.
            drop(self.store.change_sessions(user.id, &[], &[], Some(&list.revision), &kept).await);
        }
        living.reverse();
        Ok(living)
    }

    /// Ends one of the caller's sessions. One that is not there, or is somebody else's, is left as it is.
    ///
    /// # Errors
    /// Those of a bearer token; `StoreUnavailable`, `OutcomeUnknown`: try again.
    pub async fn revoke_session(self: &Arc<Self>, context: &CallContext, id: SessionId) -> Result<(), Error> {
        let AuthenticatedSession { user, .. } = self.authenticate(context).await?;
        let wanted = self.store.session(id).await.map_err(|error| self.store_error(error))?;
        self.introspection_cache.session_ended(id);
        if wanted.is_some_and(|session| session.value.user_id == user.value.id) {
            self.end_session(context, user.value.id, id).await?;
        }
        Ok(())
    }

    /// Ends all of the caller's sessions, or all but the one of this call; answers how many were known.
    ///
    /// # Errors
    /// Those of a bearer token; `Conflict`; `StoreUnavailable`, `OutcomeUnknown`: try again.
    pub async fn revoke_all_sessions(
        self: &Arc<Self>,
        context: &CallContext,
        keep_current: bool,
    ) -> Result<usize, Error> {
        let AuthenticatedSession { user, session } = self.authenticate(context).await?;
        // Only to say how many: whatever goes wrong here must not keep them alive.
        let known = self.sessions_of(&user.value).await.map_or(0, |sessions| sessions.len());
        let keep = keep_current.then(|| session.value.list_entry());
        let raised = self.run_to_completion(context, move |auth, context| async move {
            let raised = auth.change_user(user, |user| user.end_sessions(keep)).await?;
            auth.note(&Event::AllSessionsEnded { context: &context, user: raised.id });
            Ok(())
        });
        raised.await?;
        Ok(known.saturating_sub(usize::from(keep_current)))
    }
}
