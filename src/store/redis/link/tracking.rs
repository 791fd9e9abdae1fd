//! Change tracking: Redis reports changes of what this node has read, so that it need not ask again (client-side caching).
//!
//! Redis remembers what was read over this connection to be watched (`CLIENT TRACKING ON OPTIN`) and pushes the key of each
//! change into the same stream as its answers, at the moment of the change. So the answer to a probe proves that every change
//! before it was reported, whatever caused it: another node, redis-cli, expiry, FLUSHALL. Each change is reported once; a
//! document of further interest is read again.
//!
//! Not BCAST, which reports each login to every node: Redis keeps about 160 bytes for each key instead, so only token checks
//! with a good signature watch anything. Beyond tracking-table-max-keys Redis drops some keys, and reports them as if they
//! had changed. Does not know what a change means.

use std::sync::{
    Mutex, OnceLock,
    atomic::{AtomicU32, Ordering},
};

use redis::{PushInfo, PushKind, RedisError, Value, aio::MultiplexedConnection, pipe};

use super::{KeyPrefix, connect_error::first_sentence, marker};
use crate::{
    common::lock::lock,
    domain::{ChangeHandler, ChangeNotice},
    store::document::DocumentKey,
};

/// Consecutive connections that failed at CLIENT TRACKING, after which it is not asked for again: a proxy ends them for it.
const CONNECTIONS_LOST_MAX: u32 = 3;

/// Gets what Redis pushes, and reports it to the handler.
pub(super) struct ChangeTracker {
    prefix: KeyPrefix,
    handler: OnceLock<ChangeHandler<DocumentKey>>,
    connections_lost: AtomicU32,
    /// The refusal that was last logged.
    refusal: Mutex<Option<String>>,
}

impl ChangeTracker {
    pub(super) fn new(prefix: KeyPrefix) -> Self {
        Self { prefix, handler: OnceLock::new(), connections_lost: AtomicU32::new(0), refusal: Mutex::default() }
    }

    /// Reports to `handler` from now on. The first handler stays.
    pub(super) fn begin(&self, handler: ChangeHandler<DocumentKey>) {
        drop(self.handler.set(handler));
    }

    /// Whether there is a handler.
    pub(super) fn is_wanted(&self) -> bool {
        self.handler.get().is_some()
    }

    pub(super) fn notify(&self, notice: ChangeNotice<DocumentKey>) {
        if let Some(handler) = self.handler.get() {
            handler(notice);
        }
    }

    /// Takes what Redis pushes. The crate calls this before it returns any answer that came later.
    pub(super) fn pushed(&self, PushInfo { kind, data }: PushInfo) {
        if kind != PushKind::Invalidate {
            return;
        }
        match data.into_iter().next() {
            Some(Value::Array(keys)) => keys.iter().for_each(|key| self.notify(self.notice(key))),
            // FLUSHALL and FLUSHDB name no key; neither does a message of an unknown form.
            _ => self.notify(ChangeNotice::Anything),
        }
    }

    fn notice(&self, key: &Value) -> ChangeNotice<DocumentKey> {
        let Value::BulkString(bytes) = key else { return ChangeNotice::Anything };
        let key = std::str::from_utf8(bytes).ok().and_then(|text| self.prefix.parse(text).ok());
        // A key that is not a document is one such as the store's marker.
        key.map_or(ChangeNotice::Anything, ChangeNotice::Changed)
    }

    /// Asks Redis to track what is read over this connection; `false` when it refuses, which is logged.
    ///
    /// # Errors
    /// The connection failed, or no answer came in time.
    pub(super) async fn track(
        &self,
        connection: &mut MultiplexedConnection,
        is_resp3: bool,
    ) -> Result<bool, RedisError> {
        if self.connections_lost.load(Ordering::Relaxed) >= CONNECTIONS_LOST_MAX {
            self.log_refusal("it, or a proxy before it, ends connections that ask for CLIENT TRACKING");
            return Ok(false);
        }
        if !is_resp3 {
            self.log_refusal("it, or a proxy before it, does not speak RESP3 (HELLO 3)");
            return Ok(false);
        }
        let mut commands = pipe();
        commands.cmd("PTTL").arg(self.prefix.own_key(marker::NAME));
        commands.cmd("CLIENT").arg("TRACKING").arg("ON").arg("OPTIN");
        // Only to learn whether it is permitted.
        commands.cmd("CLIENT").arg("CACHING").arg("YES");
        for command in commands.cmd_iter() {
            match command.query_async::<Value>(connection).await {
                Ok(_) => {}
                Err(error) if error.code().is_some() => {
                    self.log_refusal(&first_sentence(&error));
                    return Ok(false);
                }
                Err(error) => {
                    self.connections_lost.fetch_add(u32::from(!error.is_timeout()), Ordering::Relaxed);
                    return Err(error);
                }
            }
        }
        self.connections_lost.store(0, Ordering::Relaxed);
        if lock(&self.refusal).take().is_some() {
            tracing::info!("Redis reports changes again: token checks ask it rarely");
        }
        Ok(true)
    }

    /// Logs a refusal: once for each cause, however often a connection is made.
    fn log_refusal(&self, cause: &str) {
        let logged = lock(&self.refusal).replace(cause.to_owned());
        if logged.as_deref() != Some(cause) {
            tracing::warn!(
                cause,
                "Redis does not report changes, so token checks ask it every time: its user needs +client|tracking \
                 +client|caching +pttl, and no proxy may change commands"
            );
        }
    }
}
