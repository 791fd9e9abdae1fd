//! Stores new sessions: those of one user that are created together are stored in one batch.
//!
//! The list of a user's sessions is changed by compare-and-set, so many logins of one user would delay each other without
//! end. On one node the first of them stores the sessions of all that have arrived by then, in a task of its own, so that a
//! client that disconnects takes no other session with it.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard},
};

use tokio::sync::oneshot;

use super::IntrospectionCache;
use crate::{
    common::lock::lock,
    domain::{
        error::StoreError,
        model::{SESSIONS_MAX, Session, SessionListEntry, User, UserId},
        ports::{Replace, Store, cas_attempts},
    },
};

/// The sessions that wait to be stored; as many as there are logins under way.
pub(in crate::domain) struct SessionWriter {
    store: Arc<dyn Store>,
    cache: Arc<IntrospectionCache>,
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
struct BatchTask {
    all: Arc<SessionWriter>,
    user: UserId,
    /// Nobody waited any more.
    ended: bool,
}

impl SessionWriter {
    pub(in crate::domain) fn new(store: Arc<dyn Store>, cache: Arc<IntrospectionCache>) -> Self {
        Self { store, cache, waiting: Mutex::default() }
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
            tokio::spawn(BatchTask { all: self.clone(), user: user.id, ended: false }.run());
        }
        answered.await.unwrap_or(Err(StoreError::OutcomeUnknown))
    }

    /// Stores sessions of one user.
    async fn store_together(&self, together: &[PendingSession]) -> Result<(), StoreError> {
        let sessions = || together.iter().map(|beginning| &beginning.session);
        let newest = together.iter().map(|beginning| &beginning.user).max_by_key(|user| user.epoch);
        let Some(user) = newest else { return Ok(()) };
        let created: Vec<SessionListEntry> = sessions().map(Session::list_entry).collect();
        for () in cas_attempts() {
            let seen = self.store.sessions(user.id).await?;
            let entries = seen.iter().flat_map(|seen| &seen.value).copied();
            // Sessions that the epoch has ended take no place. The newest last.
            let others = entries.filter(|entry| !created.contains(entry) && !user.has_ended(*entry));
            let list: Vec<_> = others.chain(created.iter().copied()).collect();
            let (over, kept) = list.split_at(list.len().saturating_sub(SESSIONS_MAX));
            let over: Vec<_> = over.iter().map(|entry| entry.id).collect();
            let revision = seen.as_ref().map(|seen| &seen.revision);
            // Of a batch above the limit the first sessions end before they are stored.
            let active: Vec<_> = sessions().filter(|session| !over.contains(&session.id)).cloned().collect();
            let changed = self.store.change_sessions(user.id, &active, &over, revision, kept).await;
            over.iter().for_each(|ended| self.cache.evict_session(*ended));
            if changed? == Replace::Replaced {
                return Ok(());
            }
        }
        // Other nodes were always faster. The sessions that were stored are unusable: their tokens were never answered.
        Err(StoreError::Unavailable)
    }

    fn waiting(&self) -> MutexGuard<'_, HashMap<UserId, Vec<PendingSession>>> {
        lock(&self.waiting)
    }
}

impl BatchTask {
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

impl Drop for BatchTask {
    fn drop(&mut self) {
        // A panic, or the end of the runtime: otherwise the entry is gone, or already the next round's.
        if !self.ended {
            self.all.waiting().remove(&self.user);
        }
    }
}
