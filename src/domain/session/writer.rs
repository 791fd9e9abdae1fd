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

/// The session writer: holds the sessions that wait, one for each running login.
pub(in crate::domain) struct SessionWriter {
    store: Arc<dyn Store>,
    cache: Arc<IntrospectionCache>,
    /// The waiting sessions. While a user has an entry, a task stores them.
    waiting: Mutex<HashMap<UserId, Vec<PendingSession>>>,
}

/// A session, the user as the login has read it, and the channel of the login.
struct PendingSession {
    user: User,
    session: Session,
    answer: oneshot::Sender<Result<(), StoreError>>,
}

/// The task that stores the sessions of one user. Dropping it removes the entry of the user, also after a panic.
struct BatchTask {
    writer: Arc<SessionWriter>,
    user: UserId,
    /// Whether the entry of the user was removed.
    ended: bool,
}

impl SessionWriter {
    pub(in crate::domain) fn new(store: Arc<dyn Store>, cache: Arc<IntrospectionCache>) -> Self {
        Self { store, cache, waiting: Mutex::default() }
    }

    /// Stores a session and its list entry. The oldest sessions beyond the limit end.
    pub(super) async fn store(self: &Arc<Self>, user: &User, session: &Session) -> Result<(), StoreError> {
        let (answer, received) = oneshot::channel();
        let pending = PendingSession { user: user.clone(), session: session.clone(), answer };
        let is_first = {
            let mut waiting = self.waiting();
            let is_first = !waiting.contains_key(&user.id);
            waiting.entry(user.id).or_default().push(pending);
            is_first
        };
        if is_first {
            tokio::spawn(BatchTask { writer: self.clone(), user: user.id, ended: false }.run());
        }
        received.await.unwrap_or(Err(StoreError::OutcomeUnknown))
    }

    /// Stores a batch of sessions of one user.
    async fn store_batch(&self, batch: &[PendingSession]) -> Result<(), StoreError> {
        let sessions = || batch.iter().map(|pending| &pending.session);
        let newest = batch.iter().map(|pending| &pending.user).max_by_key(|user| user.epoch);
        let Some(user) = newest else { return Ok(()) };
        let created: Vec<SessionListEntry> = sessions().map(Session::list_entry).collect();
        for () in cas_attempts() {
            let seen = self.store.sessions(user.id).await?;
            let entries = seen.iter().flat_map(|seen| &seen.value).copied();
            // Without the sessions that the epoch has ended. Newest last.
            let others = entries.filter(|entry| !created.contains(entry) && !user.has_ended(*entry));
            let list: Vec<_> = others.chain(created.iter().copied()).collect();
            let (excess, kept) = list.split_at(list.len().saturating_sub(SESSIONS_MAX));
            let excess: Vec<_> = excess.iter().map(|entry| entry.id).collect();
            let revision = seen.as_ref().map(|seen| &seen.revision);
            // If the batch alone exceeds the limit, its first sessions are not stored.
            let active: Vec<_> = sessions().filter(|session| !excess.contains(&session.id)).cloned().collect();
            let changed = self.store.change_sessions(user.id, &active, &excess, revision, kept).await;
            excess.iter().for_each(|ended| self.cache.evict_session(*ended));
            if changed? == Replace::Replaced {
                return Ok(());
            }
        }
        // Other nodes were always faster. The stored sessions are unusable, because their tokens were never returned.
        Err(StoreError::Unavailable)
    }

    fn waiting(&self) -> MutexGuard<'_, HashMap<UserId, Vec<PendingSession>>> {
        lock(&self.waiting)
    }
}

impl BatchTask {
    async fn run(mut self) {
        while let Some(batch) = self.next_batch() {
            let stored = self.writer.store_batch(&batch).await;
            for pending in batch {
                // An error says that the login has gone.
                drop(pending.answer.send(stored.clone()));
            }
        }
    }

    /// The sessions that wait now, at most as many as a user may have. If none waits, removes the entry under the same lock.
    fn next_batch(&mut self) -> Option<Vec<PendingSession>> {
        let mut all = self.writer.waiting();
        let waiting = all.get_mut(&self.user)?;
        // A login whose caller has gone needs no session, and must not displace another one.
        waiting.retain(|pending| !pending.answer.is_closed());
        let batch: Vec<_> = waiting.drain(..waiting.len().min(SESSIONS_MAX)).collect();
        if batch.is_empty() {
            all.remove(&self.user);
            self.ended = true;
            return None;
        }
        Some(batch)
    }
}

impl Drop for BatchTask {
    fn drop(&mut self) {
        // After a panic or the end of the runtime. Otherwise the entry is removed, or belongs to a newer task.
        if !self.ended {
            self.writer.waiting().remove(&self.user);
        }
    }
}
