//! Stores sessions that begin: those of one user that begin together are stored together.
//!
//! A user's list of sessions is changed by compare-and-set, so many logins of one user would be in each other's way, and
//! most of them would find no end of it. So on one node the first of them stores for all that have come by
//! then, in a task of its own, so that a caller who leaves takes nobody's session with him.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::oneshot;

use super::{
    Replace, SESSIONS_MAX, Session, SessionListEntry, Store, StoreError, User, UserId, change_user::CAS_ATTEMPTS_MAX,
    introspection_cache::IntrospectionCache,
};

/// The sessions that wait to be stored; as many as there are logins under way.
pub(super) struct SessionWriter {
    store: Arc<dyn Store>,
    introspection_cache: Arc<IntrospectionCache>,
    /// Whoever has an entry here is being stored for.
    waiting: Mutex<HashMap<UserId, Vec<PendingSession>>>,
}

/// A session, the user as the login knew him, and who waits.
struct PendingSession {
    user: User,
    session: Session,
    answer: oneshot::Sender<Result<(), StoreError>>,
}

/// The task that stores for one user; nobody waits for it when it has ended, however that was.
struct Round {
    all: Arc<SessionWriter>,
    user: UserId,
    /// Nobody waited any more.
    ended: bool,
}

impl SessionWriter {
    pub(super) fn new(store: Arc<dyn Store>, introspection_cache: Arc<IntrospectionCache>) -> Self {
        Self { store, introspection_cache, waiting: Mutex::default() }
    }

    /// Stores a session and its place in the list; the oldest ones beyond the limit end.
    pub(super) async fn store(self: &Arc<Self>, user: &User, session: &Session) -> Result<(), StoreError> {
        let (answer, answered) = oneshot::channel();
        let beginning = PendingSession { user: user.clone(), session: session.clone(), answer };
        let is_first = {
            let mut waiting = self.waiting();
            let is_first = !waiting.contains_key(&user.id);
            waiting.entry(user.id).or_default().push(beginning);
            is_first
        };
        if is_first {
            tokio::spawn(Round { all: self.clone(), user: user.id, ended: false }.run());
        }
        answered.await.unwrap_or(Err(StoreError::OutcomeUnknown))
    }

    /// Stores sessions of one user.
    async fn store_together(&self, together: &[PendingSession]) -> Result<(), StoreError> {
        let sessions = || together.iter().map(|beginning| &beginning.session);
        let newest = together.iter().map(|beginning| &beginning.user).max_by_key(|user| user.epoch);
        let Some(user) = newest else { return Ok(()) };
        let begun: Vec<SessionListEntry> = sessions().map(Session::list_entry).collect();
        for _ in 0..CAS_ATTEMPTS_MAX {
            let seen = self.store.sessions(user.id).await?;
            let list_entry = seen.iter().flat_map(|seen| &seen.value).copied();
            // What the epoch has ended takes nobody's place. The newest last.
            let others = list_entry.filter(|list_entry| !begun.contains(list_entry) && !list_entry.is_past(user));
            let list: Vec<_> = others.chain(begun.iter().copied()).collect();
            let (over, kept) = list.split_at(list.len().saturating_sub(SESSIONS_MAX));
            let over: Vec<_> = over.iter().map(|list_entry| list_entry.id).collect();
            let revision = seen.as_ref().map(|seen| &seen.revision);
            // Of more than the limit at once the first have ended before they began.
            let living: Vec<_> = sessions().filter(|session| !over.contains(&session.id)).cloned().collect();
            let changed = self.store.change_sessions(user.id, &living, &over, revision, kept).await;
            over.iter().for_each(|ended| self.introspection_cache.session_ended(*ended));
            if changed? == Replace::Replaced {
                return Ok(());
            }
        }
        // Other nodes were always faster. The sessions that were stored are nobody's: their tokens were never given.
        Err(StoreError::Unavailable)
    }

    fn waiting(&self) -> MutexGuard<'_, HashMap<UserId, Vec<PendingSession>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Round {
    async fn run(mut self) {
        while let Some(together) = self.next() {
            let stored = self.all.store_together(&together).await;
            for beginning in together {
                // Whoever has left does not hear it.
                drop(beginning.answer.send(stored.clone()));
            }
        }
    }

    /// Those that wait now, no more than a user may have; ends the round, under the same lock, when nobody does.
    fn next(&mut self) -> Option<Vec<PendingSession>> {
        let mut all = self.all.waiting();
        let waiting = all.get_mut(&self.user)?;
        // Whoever has left wants no session, and must not push another one out.
        waiting.retain(|beginning| !beginning.answer.is_closed());
        let together: Vec<_> = waiting.drain(..waiting.len().min(SESSIONS_MAX)).collect();
        if together.is_empty() {
            all.remove(&self.user);
            self.ended = true;
            return None;
        }
        Some(together)
    }
}

impl Drop for Round {
    fn drop(&mut self) {
        // A panic, or the end of the runtime: otherwise the entry is gone, or already the next round's.
        if !self.ended {
            self.all.waiting().remove(&self.user);
        }
    }
}
