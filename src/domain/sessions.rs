//! Begins sessions, says whose call it is, and lists and ends sessions.
//!
//! A session is stored before it is listed, so the list is a hint that is repaired when it is read. What ends all sessions
//! at once raises the user's epoch, in the one record that every check reads: no race leaves a session alive.

use super::{
    Auth, Bearer, Caller, Ended, Error, Event, Replace, SESSIONS_MAX, Session, SessionId, StoreError, Stored, Tokens,
    User, session::shortened,
};

/// How often a change is tried again that somebody else was faster with.
pub(super) const TRIES_MAX: usize = 16;

/// Who calls: a user and the session that the call belongs to.
pub(super) struct SignedIn {
    pub(super) user: Stored<User>,
    pub(super) session: Stored<Session>,
}

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
    pub(super) async fn begin_session(&self, caller: &Caller, user: &User) -> Result<Tokens, Error> {
        let ring = self.ring().await?;
        let (now, entropy) = (self.store.now(), &*self.world.entropy);
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
            user_agent: shortened(&caller.user_agent),
            client_address: caller.peer.to_string(),
        };
        self.list_session(&session).await.map_err(|error| match error {
            // A session whose tokens nobody has is as good as none: trying again is safe.
            StoreError::OutcomeUnknown => Error::StoreUnavailable,
            other => self.store_error(other),
        })?;
        Ok(ring.tokens(&self.tokens, &session, &refresh, now, entropy))
    }

    /// Stores a session and its place in the list; the oldest ones beyond the limit end.
    async fn list_session(&self, session: &Session) -> Result<(), StoreError> {
        for _ in 0..TRIES_MAX {
            let seen = self.store.sessions(session.user_id).await?;
            let listed = seen.iter().flat_map(|seen| &seen.value).copied();
            // The newest last.
            let list: Vec<_> = listed.filter(|id| *id != session.id).chain([session.id]).collect();
            let (over, kept) = list.split_at(list.len().saturating_sub(SESSIONS_MAX));
            let revision = seen.as_ref().map(|seen| &seen.revision);
            if self.store.begin_session(session, revision, kept, over).await? == Replace::Replaced {
                return Ok(());
            }
        }
        // So many logins of one user at once: the session lives all the same, and a refresh does not need the list.
        tracing::debug!(user = %session.user_id, "a session was not listed");
        Ok(())
    }

    /// Says whose call it is.
    pub(super) async fn signed_in(&self, caller: &Caller) -> Result<SignedIn, Error> {
        let token = match &caller.bearer {
            Bearer::Token(token) => token,
            Bearer::Missing => return Err(Error::TokenMissing),
            Bearer::Malformed => return self.refuse_token(caller, "malformed", Error::TokenInvalid),
        };
        let ring = self.ring().await?;
        let Some(claims) = ring.read_access(&self.tokens, token) else {
            return self.refuse_token(caller, "not ours", Error::TokenInvalid);
        };
        if claims.is_expired(self.store.now()) {
            return self.refuse_token(caller, "expired", Error::TokenExpired);
        }
        match self.live(claims.session_id).await? {
            Ok(signed_in) => Ok(signed_in),
            Err(Ended::Expired) => self.refuse_token(caller, "session expired", Error::TokenExpired),
            Err(Ended::Revoked) => self.refuse_token(caller, "session ended", Error::TokenRevoked),
        }
    }

    pub(super) fn refuse_token<T>(&self, caller: &Caller, why: &'static str, error: Error) -> Result<T, Error> {
        self.note(&Event::TokenRefused { caller, why });
        Err(error)
    }

    /// Reads a session and its user, and says whether it lives.
    pub(super) async fn live(&self, id: SessionId) -> Result<Result<SignedIn, Ended>, Error> {
        let session = self.store.session(id).await.map_err(|error| self.store_error(error))?;
        let Some(session) = session else { return Ok(Err(Ended::Revoked)) };
        let user = self.store.user(&session.value.username).await.map_err(|error| self.store_error(error))?;
        let checked =
            session.value.check(user.as_ref().map(|user| &user.value), self.store.now(), &self.tokens.lifetimes);
        Ok(match (checked, user) {
            (Ok(()), Some(user)) => Ok(SignedIn { user, session }),
            (Ok(()), None) => Err(Ended::Revoked),
            (Err(ended), _) => Err(ended),
        })
    }

    /// Ends one session, whatever state it is in.
    pub(super) async fn forget_session(&self, id: SessionId) -> Result<(), StoreError> {
        for _ in 0..TRIES_MAX {
            let Some(session) = self.store.session(id).await? else { return Ok(()) };
            if self.store.end_session(&session.revision, id).await? == Replace::Replaced {
                return Ok(());
            }
        }
        Err(StoreError::Unavailable)
    }

    /// Lists the caller's sessions, the newest first: those behind `after`, at most `size` of them.
    ///
    /// # Errors
    /// Those of a bearer token; `StoreUnavailable`.
    pub async fn list_sessions(
        &self,
        caller: &Caller,
        after: Option<SessionId>,
        size: usize,
    ) -> Result<SessionPage, Error> {
        let SignedIn { user, session } = self.signed_in(caller).await?;
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

    /// The living sessions of a user, the newest first. Takes what is dead off the list.
    async fn sessions_of(&self, user: &User) -> Result<Vec<Session>, Error> {
        let list = self.store.sessions(user.id).await.map_err(|error| self.store_error(error))?;
        let Some(list) = list else { return Ok(Vec::new()) };
        let read = list.value.iter().map(|id| self.store.session(*id));
        let read = futures_util::future::try_join_all(read).await.map_err(|error| self.store_error(error))?;
        let (now, lifetimes) = (self.store.now(), &self.tokens.lifetimes);
        let lives = |session: &Session| session.check(Some(user), now, lifetimes).is_ok();
        let mut living: Vec<_> = read.into_iter().flatten().map(|stored| stored.value).filter(lives).collect();
        if living.len() < list.value.len() {
            let ids: Vec<_> = living.iter().map(|session| session.id).collect();
            // The list is a hint: whoever reads it next may repair it too.
            drop(self.store.replace_sessions(user.id, &list.revision, &ids).await);
        }
        living.reverse();
        Ok(living)
    }

    /// Ends one of the caller's sessions. One that is not there, or is somebody else's, is left as it is.
    ///
    /// # Errors
    /// Those of a bearer token; `StoreUnavailable`, `OutcomeUnknown`: try again.
    pub async fn revoke_session(&self, caller: &Caller, id: SessionId) -> Result<(), Error> {
        let SignedIn { user, .. } = self.signed_in(caller).await?;
        let wanted = self.store.session(id).await.map_err(|error| self.store_error(error))?;
        if wanted.is_some_and(|session| session.value.user_id == user.value.id) {
            self.forget_session(id).await.map_err(|error| self.store_error(error))?;
            self.note(&Event::SessionEnded { caller, user: user.value.id, session: id });
        }
        Ok(())
    }

    /// Ends all of the caller's sessions, or all but the one of this call; answers how many were known.
    ///
    /// # Errors
    /// Those of a bearer token; `Conflict`; `StoreUnavailable`, `OutcomeUnknown`: try again.
    pub async fn revoke_all_sessions(&self, caller: &Caller, keep_current: bool) -> Result<usize, Error> {
        let SignedIn { user, session } = self.signed_in(caller).await?;
        let known = self.sessions_of(&user.value).await?.len();
        let raised = self.change_user(user, |user| user.epoch += 1).await?;
        self.note(&Event::AllSessionsEnded { caller, user: raised.id });
        if !keep_current {
            return Ok(known);
        }
        let kept = Session { epoch: raised.epoch, ..session.value.clone() };
        match self.store.replace_session(&session.revision, &kept).await.map_err(|error| self.store_error(error))? {
            Replace::Replaced => Ok(known.saturating_sub(1)),
            // It was refreshed or ended in this moment.
            Replace::Changed => Err(Error::Conflict),
        }
    }

    /// Changes a user's record, over whatever others change in it meanwhile but its password and epoch.
    pub(super) async fn change_user(&self, seen: Stored<User>, change: impl Fn(&mut User)) -> Result<User, Error> {
        let mut stored = seen;
        for _ in 0..TRIES_MAX {
            let mut user = stored.value.clone();
            change(&mut user);
            let replaced = self.store.replace(&stored.revision, &user).await;
            if replaced.map_err(|error| self.store_error(error))? == Replace::Replaced {
                return Ok(user);
            }
            let again = self.store.user(&user.username).await.map_err(|error| self.store_error(error))?;
            let same = |again: &Stored<User>| {
                let (one, other) = (&again.value, &stored.value);
                (one.id, one.epoch, &one.password) == (other.id, other.epoch, &other.password)
            };
            match again {
                Some(again) if same(&again) => stored = again,
                Some(_) | None => return Err(Error::Conflict),
            }
        }
        Err(Error::Conflict)
    }
}
