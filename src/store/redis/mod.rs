//! The Redis store: documents in Redis, shared by many nodes.
//!
//! Each document has a key of its own, such as `watchword:user:<username>`. Whatever must be atomic touches one key:
//! `SET … NX GET` inserts, and one small script compares and sets or deletes. Documents expire by the clock of Redis. A
//! failed read was not executed. A write that may have been sent has an unknown outcome, unless Redis itself refused it.
//! The connection is `link/`. Does not know what documents mean.

mod commands;
mod key_prefix;
mod link;
mod scan;
mod settings;
mod url;

use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use futures_util::future::try_join_all;
use redis::{FromRedisValue, Value, cmd, pipe};
use tokio::{
    sync::watch,
    time::{Instant, timeout_at},
};

use self::link::{ANSWER_WAIT_MAX, Link, NoAnswer};
pub use self::{
    key_prefix::KeyPrefix,
    settings::{Durability, RedisSettings},
    url::RedisUrl,
};
use super::{
    OpenError, StoreInspection,
    document::{Change, ChangeOutcome, DocumentKey, UnconditionalWrite},
    document_store::{DocumentStore, ScanCursor, ScanPage},
    kind::Kind,
};
use crate::domain::{
    ChangeHandler, ChangeNotice, ConfigurationWarning, Environment, StoreError, StoreHealth, WATCH_DURATION,
};

/// How long an answer may take during a copy, which has no caller with a deadline.
const COPY_ANSWER_WAIT_MAX: Duration = Duration::from_secs(30);

/// A store in Redis.
pub struct Redis {
    link: Link,
    prefix: KeyPrefix,
    /// How long the answer to a call may take.
    answer_wait_max: Duration,
}

impl Redis {
    /// Connects, and refuses a Redis that cannot keep users.
    pub async fn open(settings: &RedisSettings, environment: &Environment) -> Result<Self, OpenError> {
        let link = Link::open(settings, environment).await?;
        Ok(Self { link, prefix: settings.prefix.clone(), answer_wait_max: ANSWER_WAIT_MAX })
    }

    /// Connects for a copy: without waiting for a Redis that starts, and without marking the store as one of ours.
    pub(in crate::store) async fn open_for_copy(
        settings: &RedisSettings,
        environment: &Environment,
    ) -> Result<Self, OpenError> {
        let link = Link::open_at_once(settings, environment, COPY_ANSWER_WAIT_MAX).await?;
        Ok(Self { link, prefix: settings.prefix.clone(), answer_wait_max: COPY_ANSWER_WAIT_MAX })
    }

    /// Says what `open` would find, and changes nothing.
    pub(in crate::store) async fn inspect(settings: &RedisSettings) -> Result<StoreInspection, OpenError> {
        let key = settings.prefix.key(&DocumentKey::new(Kind::Keys, ""));
        let (summary, keys) = link::inspect(settings, cmd("GET").arg(key)).await?;
        Ok(StoreInspection { users: format!("{}: {summary}", settings.url), keys: Some(keys) })
    }
}

/// Whether a key stays while it is watched, by what PTTL said of it.
fn outlasts_watch(millis_left: i64) -> bool {
    const NO_EXPIRY: i64 = -1;
    millis_left == NO_EXPIRY
        || u64::try_from(millis_left).is_ok_and(|left| Duration::from_millis(left) > WATCH_DURATION)
}

#[async_trait]
impl DocumentStore for Redis {
    async fn get(&self, key: &DocumentKey) -> Result<Option<Vec<u8>>, StoreError> {
        self.link.ask(cmd("GET").arg(self.prefix.key(key))).await.map_err(|cause| commands::not_read(key, cause))
    }

    async fn get_watched(&self, key: &DocumentKey) -> Result<Option<Vec<u8>>, StoreError> {
        if !self.link.is_tracked() {
            return self.get(key).await;
        }
        let name = self.prefix.key(key);
        // CACHING applies to the next command alone. PTTL, because Redis reports an expired key only some time after it has
        // expired.
        let mut questions = pipe();
        questions.cmd("CLIENT").arg("CACHING").arg("YES").cmd("GET").arg(&name).cmd("PTTL").arg(&name).ignore_errors();
        let answers = self.link.ask_all(&questions).await.map_err(|cause| commands::not_read(key, cause))?;
        let [caching, document, left] = <[_; 3]>::try_from(answers).map_err(|_| StoreError::Unavailable)?;
        let outlasts = left.is_ok_and(|left| matches!(left, Value::Int(left) if outlasts_watch(left)));
        if caching.is_err() || !outlasts {
            self.link.notify(ChangeNotice::Changed(key.clone()));
        }
        let document = document.and_then(|document| Ok(Option::from_redis_value(document)?));
        document.map_err(|error| commands::not_read(key, NoAnswer::Refused(error)))
    }

    async fn change(
        &self,
        first: Vec<UnconditionalWrite>,
        key: DocumentKey,
        change: Change,
    ) -> Result<ChangeOutcome, StoreError> {
        // All commands together take no longer than one, so that a caller hears in time that the store is down. The first
        // writes are sent at once; no two of them have the same key.
        let until = Instant::now() + self.answer_wait_max;
        let writes: Vec<_> = first.iter().map(|write| commands::write(&self.prefix, write)).collect();
        let written = try_join_all(writes.iter().map(|write| self.link.ask::<Value>(write)));
        // A loss of these is harmless. They read nothing, so no document of theirs can be corrupt.
        timeout_at(until, written).await.unwrap_or(Err(NoAnswer::Lost)).map_err(|_| StoreError::Unavailable)?;
        let command = commands::change(&self.prefix.key(&key), &change);
        let answer = timeout_at(until, self.link.ask::<Value>(&command)).await;
        let answer = answer.unwrap_or(Err(NoAnswer::Lost)).map_err(|cause| commands::not_written(&key, cause))?;
        commands::outcome(answer)
    }

    async fn scan(&self, kind: Option<Kind>, cursor: Option<ScanCursor>) -> Result<ScanPage, StoreError> {
        self.scan_page(kind, cursor).await
    }

    fn watch(&self, handler: ChangeHandler<DocumentKey>) {
        self.link.watch(handler);
    }

    fn now(&self) -> SystemTime {
        self.link.now()
    }

    fn health(&self) -> watch::Receiver<StoreHealth> {
        self.link.health()
    }

    fn warnings(&self) -> Vec<ConfigurationWarning> {
        self.link.warnings()
    }

    async fn close(&self) {
        self.link.close();
    }
}
