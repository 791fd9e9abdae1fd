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
    InspectedDocuments, OpenError, StoreInspection, UsersByPepperKey,
    document::{Change, ChangeOutcome, DocumentKey, UnconditionalWrite},
    document_store::{DocumentStore, ScanCursor, ScanPage, ScanPages},
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

    /// Refuses a database in which there is any key, of Watchword or not.
    pub async fn require_empty(settings: &RedisSettings) -> Result<(), OpenError> {
        let (_, databases): (_, String) = link::inspect(settings, cmd("INFO").arg("keyspace")).await?;
        let ours = format!("db{}:", settings.url.database);
        if databases.lines().any(|line| line.starts_with(&ours)) {
            let why = "the database is not empty; this needs one of its own";
            return Err(OpenError(format!("{}: {why}, such as redis://HOST:PORT/15", settings.url)));
        }
        Ok(())
    }

    /// Deletes every key with the prefix of the settings.
    pub async fn remove_all(settings: &RedisSettings) -> Result<(), OpenError> {
        link::remove_all(settings).await
    }

    /// Says what `open` would find, and changes nothing.
    pub(in crate::store) async fn inspect(
        settings: &RedisSettings,
        counts_users: bool,
        environment: &Environment,
    ) -> Result<StoreInspection, OpenError> {
        let get = |key: DocumentKey| cmd("GET").arg(settings.prefix.key(&key)).to_owned();
        let (summary, key_ring) = link::inspect(settings, &get(DocumentKey::key_ring())).await?;
        let (_, pepper_keys) = link::inspect(settings, &get(DocumentKey::pepper_keys())).await?;
        let counted = if counts_users { Some(users_by_pepper_key(settings, environment).await?) } else { None };
        let documents = InspectedDocuments { key_ring, pepper_keys, users_by_pepper_key: counted };
        Ok(StoreInspection { users: format!("{}: {summary}", settings.url), documents: Some(documents) })
    }
}

/// Reads all users, a page at a time. A user who is listed twice is counted twice; none is left out.
async fn users_by_pepper_key(
    settings: &RedisSettings,
    environment: &Environment,
) -> Result<UsersByPepperKey, OpenError> {
    let store = Redis::open_for_copy(settings, environment).await?;
    let (mut counted, mut pages) = (UsersByPepperKey::default(), ScanPages::new(&store, Some(Kind::User)));
    let failed = |error| {
        let why = format!("{}: users cannot be counted by their pepper keys ({error:?})", settings.url);
        OpenError(format!("{why}; the user of Redis needs +scan for this"))
    };
    while let Some(page) = pages.next().await.map_err(failed)? {
        page.iter().for_each(|user| counted.count(&user.bytes));
    }
    store.close().await;
    Ok(counted)
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
