//! Hears from Redis what was changed of what this node has read, so that it need not ask again (client-side caching).
//!
//! Redis remembers what was read over this connection to be watched (`CLIENT TRACKING ON OPTIN`) and pushes the key of each
//! change into the same stream as its answers, at the moment of the change. So when it has answered a question, all that
//! was changed before it was asked has been heard, whoever changed it: another node, somebody with redis-cli, time,
//! FLUSHALL. That makes the question of the tending task one that vouches for all that is watched. Each change is told once:
//! a key that is of further interest is read again.
//!
//! Not BCAST, which tells every node of each login of every other: Redis keeps about 160 bytes for each key instead, so only
//! checks of tokens, behind a good signature, have it watch anything. Of more than tracking-table-max-keys it forgets some,
//! and says so as if they had changed.

use std::sync::{
    Mutex, OnceLock,
    atomic::{AtomicU32, Ordering},
};

use redis::{PushInfo, PushKind, RedisError, Value, aio::MultiplexedConnection, pipe};

use super::{Prefix, connect_error::first_sentence, identity, supervisor::lock};
use crate::{
    domain::{ChangeHandler, ChangeNotice},
    store::document_store::Key,
};

/// Connections in a row that broke when they were asked to track, after which none is asked: something in between ends
/// them for it.
const BROKEN_MAX: u32 = 3;

/// Who hears, and what Redis made of the wish.
pub(super) struct Watch {
    prefix: Prefix,
    hear: OnceLock<ChangeHandler<Key>>,
    broken: AtomicU32,
    /// Why it was refused when that was last said.
    said: Mutex<Option<String>>,
}

impl Watch {
    pub(super) fn new(prefix: Prefix) -> Self {
        Self { prefix, hear: OnceLock::new(), broken: AtomicU32::new(0), said: Mutex::default() }
    }

    /// Tells `hear` from now on; the first one who asks.
    pub(super) fn begin(&self, hear: ChangeHandler<Key>) {
        drop(self.hear.set(hear));
    }

    /// Whether anybody wants to hear.
    pub(super) fn is_wanted(&self) -> bool {
        self.hear.get().is_some()
    }

    pub(super) fn tell(&self, news: ChangeNotice<Key>) {
        if let Some(hear) = self.hear.get() {
            hear(news);
        }
    }

    /// Takes what Redis pushes. The crate calls this before it gives anybody an answer that came later.
    pub(super) fn pushed(&self, PushInfo { kind, data }: PushInfo) {
        if kind != PushKind::Invalidate {
            return;
        }
        match data.into_iter().next() {
            Some(Value::Array(keys)) => keys.iter().for_each(|key| self.tell(self.news(key))),
            // FLUSHALL and FLUSHDB name nothing; neither does what nobody has heard of yet.
            _ => self.tell(ChangeNotice::Anything),
        }
    }

    fn news(&self, key: &Value) -> ChangeNotice<Key> {
        let Value::BulkString(bytes) = key else { return ChangeNotice::Anything };
        let key = std::str::from_utf8(bytes).ok().and_then(|text| self.prefix.parse(text).ok());
        // Such as the store's marker.
        key.map_or(ChangeNotice::Anything, ChangeNotice::Changed)
    }

    /// Asks Redis to track what is read over this connection; `false` when it will not, and then that is in the log.
    ///
    /// # Errors
    /// The connection broke, or nothing was answered.
    pub(super) async fn track(
        &self,
        connection: &mut MultiplexedConnection,
        is_resp3: bool,
    ) -> Result<bool, RedisError> {
        if self.broken.load(Ordering::Relaxed) >= BROKEN_MAX {
            self.refused("it, or something before it, ends connections that ask for CLIENT TRACKING");
            return Ok(false);
        }
        if !is_resp3 {
            self.refused("it speaks no RESP3 (HELLO 3), or something before it does not");
            return Ok(false);
        }
        let mut commands = pipe();
        commands.cmd("PTTL").arg(self.prefix.own_key(identity::NAME));
        commands.cmd("CLIENT").arg("TRACKING").arg("ON").arg("OPTIN");
        // Only to see whether it may be said.
        commands.cmd("CLIENT").arg("CACHING").arg("YES");
        for command in commands.cmd_iter() {
            match command.query_async::<Value>(connection).await {
                Ok(_) => {}
                Err(error) if error.code().is_some() => {
                    self.refused(&first_sentence(&error));
                    return Ok(false);
                }
                Err(error) => {
                    self.broken.fetch_add(u32::from(!error.is_timeout()), Ordering::Relaxed);
                    return Err(error);
                }
            }
        }
        self.broken.store(0, Ordering::Relaxed);
        if lock(&self.said).take().is_some() {
            tracing::info!("Redis tells what is changed again: token checks ask it seldom");
        }
        Ok(true)
    }

    /// Once for each cause, however often a connection is made.
    fn refused(&self, cause: &str) {
        let said = lock(&self.said).replace(cause.to_owned());
        if said.as_deref() != Some(cause) {
            tracing::warn!(
                cause,
                "Redis does not tell what is changed, so token checks ask it again and again: its user needs \
                 +client|tracking +client|caching +pttl, and nothing may stand in between that changes commands"
            );
        }
    }
}
