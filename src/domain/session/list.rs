//! Lists the sessions of a user.
//!
//! A session is stored before it is listed, so the list is a hint: it is repaired when it is read.

use super::{AuthenticatedSession, Sessions};
use crate::domain::{
    context::CallContext,
    error::{CorruptRecord, Error, StoreError},
    model::{Session, SessionId, User},
    ports::StoreResult,
};

/// Sessions of a user, newest first.
#[derive(Debug)]
pub struct SessionPage {
    /// The page.
    pub sessions: Vec<Session>,
    /// The session that the call belongs to.
    pub current: SessionId,
    /// The session after which the next page begins, if there is one.
    pub next: Option<SessionId>,
}

impl Sessions {
    /// Lists the sessions of the user of this call, newest first: those after `after`, at most `size`.
    ///
    /// # Errors
    /// Those of an access token; `StoreUnavailable`.
    pub(in crate::domain) async fn list(
        &self,
        context: &CallContext,
        after: Option<SessionId>,
        size: usize,
    ) -> Result<SessionPage, Error> {
        let AuthenticatedSession { user, session } = self.authenticate(context).await?;
        let mut sessions = self.sessions_of(&user.value).await?;
        if let Some(after) = after {
            // `after` may have ended since; ids sort by time, to the millisecond.
            let known = sessions.iter().position(|session| session.id == after);
            let from = known.map(|at| at + 1).or_else(|| sessions.iter().position(|session| session.id < after));
            sessions.drain(..from.unwrap_or(sessions.len()));
        }
        let next = (sessions.len() > size).then(|| sessions[size - 1].id);
        sessions.truncate(size);
        Ok(SessionPage { sessions, current: session.value.id, next })
    }

    /// The active sessions of a user, newest first. Takes ended ones off the list; one that cannot be read is left out, and
    /// stays on the list.
    pub(in crate::domain) async fn sessions_of(&self, user: &User) -> Result<Vec<Session>, Error> {
        let list = self.store.sessions(user.id).await.or_report(&self.environment)?;
        let Some(list) = list else { return Ok(Vec::new()) };
        let read = list.value.iter().map(|entry| self.store.session(entry.id));
        let read = futures_util::future::join_all(read).await;
        let session_epoch = self.keys.key_ring().await?.session_epoch();
        let (now, lifetimes) = (self.store.now(), &self.settings.lifetimes);
        let (mut active, mut kept) = (Vec::new(), Vec::new());
        for (entry, session) in list.value.iter().zip(read) {
            let session = match session {
                Ok(session) => session,
                Err(StoreError::Corrupt(CorruptRecord { record, cause })) => {
                    tracing::warn!(record, cause, "a session cannot be read and is left out of the list");
                    kept.push(*entry);
                    continue;
                }
                Err(error) => return Err(self.environment.store_error(error)),
            };
            let Some(session) = session.map(|stored| stored.value) else { continue };
            if session.check(Some(user), session_epoch, now, lifetimes).is_ok() {
                kept.push(*entry);
                active.push(session);
            } else if !user.has_ended(*entry)
                && session.session_epoch >= session_epoch
                && now < session.idle_end(lifetimes)
            {
                // Created in an epoch after `user` was read.
                kept.push(*entry);
            }
        }
        if kept.len() < list.value.len() {
            // A repair that fails is made by the next reader.
            drop(self.store.change_sessions(user.id, &[], &[], Some(&list.revision), &kept).await);
        }
        active.reverse();
        Ok(active)
    }
}
