//! Documents in Redis, where many nodes share them.
//!
//! The same as everywhere, each under a key of its own, such as `watchword:user:<name>`. Whatever must be atomic touches
//! one key: `SET … NX GET` inserts, one small script compares and sets or deletes. What expires does so by Redis's clock.
//! A read that fails was not executed; a write that may have been sent is an unknown outcome, unless Redis itself said
//! that it refused. How a connection is made is `connect.rs`, how it heals `link.rs`, what Redis must promise
//! `condition.rs`, and how a node hears of changes `tracking.rs`.

mod connect;
mod connect_error;
mod identity;
mod probe;
mod server_check;
mod shelf;
mod supervisor;
mod tracking;
mod url;

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use async_trait::async_trait;
use futures_util::future::try_join_all;
use redis::{Cmd, FromRedisValue, Value, cmd, pipe};
use tokio::{sync::watch, time::timeout_at};

pub use self::url::{Durability, Prefix, RedisSettings, RedisUrl};
use self::{
    connect_error::Trouble,
    supervisor::{Link, NoAnswer},
    tracking::Watch,
};
use super::{
    Inspected, OpenError,
    document_store::{Change, Document, DocumentStore, Key, Outcome, Put, millis},
    typed::ring_key,
};
use crate::domain::{
    ChangeHandler, ChangeNotice, ConfigurationWarning, Environment, StoreError, StoreHealth, WATCH_DURATION,
};

/// How long an answer may take. A caller hears within this and a little more that the store is down.
const ANSWER_WAIT_MAX: Duration = Duration::from_millis(400);

/// If the key holds ARGV[1]: stores ARGV[2] until ARGV[3], or for good without that, or deletes it without either.
/// Redis 7 has no command for this, and WATCH is unsafe on a connection that many calls share. Errors of a script repeat
/// no argument.
const COMPARE_AND_SET: &str = "\
    if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end \
    if #ARGV == 1 then redis.call('DEL', KEYS[1]) \
    elseif #ARGV == 2 then redis.call('SET', KEYS[1], ARGV[2]) \
    else redis.call('SET', KEYS[1], ARGV[2], 'PXAT', ARGV[3]) end \
    return 1";

/// Errors with which Redis refuses a command before it does anything. Any other may come from something in between,
/// after the command was passed on.
const NOT_EXECUTED: [&str; 10] =
    ["LOADING", "READONLY", "MASTERDOWN", "NOREPLICAS", "OOM", "MISCONF", "BUSY", "NOAUTH", "NOPERM", "WRONGTYPE"];

/// A store in Redis.
pub struct Redis {
    link: Link,
    prefix: Prefix,
}

impl Redis {
    /// Connects, and refuses a Redis that cannot keep users.
    pub async fn open(settings: &RedisSettings, environment: &Environment) -> Result<Self, OpenError> {
        let watch = Arc::new(Watch::new(settings.prefix.clone()));
        let mut connected = connect::patiently(settings, &watch).await?;
        let found = identity::find(&mut connected.connection, &settings.prefix, environment).await;
        let (marker, new) = found.map_err(|error| connect::refused(settings, &Trouble::of(&error)))?;
        let summary = connected.condition.summary();
        tracing::info!(url = %settings.url, prefix = %settings.prefix, new, "store: redis; {summary}");
        Ok(Self { link: Link::tend(settings, marker, connected, watch, environment), prefix: settings.prefix.clone() })
    }

    /// Says what `open` would find, and changes nothing.
    pub(in crate::store) async fn inspect(settings: &RedisSettings) -> Result<Inspected, OpenError> {
        let mut connected = connect::at_once(settings).await?;
        let keys = cmd("GET").arg(settings.prefix.key(&ring_key())).query_async(&mut connected.connection).await;
        let keys = keys.map_err(|error| connect::refused(settings, &Trouble::of(&error)))?;
        Ok((format!("{}: {}", settings.url, connected.condition.summary()), Some(keys)))
    }
}

impl Redis {
    fn put(&self, put: &Put) -> Cmd {
        let key = self.prefix.key(&put.key);
        let Some(document) = &put.document else { return cmd("DEL").arg(key).to_owned() };
        let mut set = cmd("SET");
        set.arg(key).arg(&document.bytes);
        expiring(&mut set, document);
        set
    }
}

/// Writes a document unless its key is taken, and answers what is there.
fn insert(key: &str, document: &Document) -> Cmd {
    let mut insert = cmd("SET");
    insert.arg(key).arg(&document.bytes).arg("NX").arg("GET");
    expiring(&mut insert, document);
    insert
}

fn expiring(command: &mut Cmd, document: &Document) {
    if let Some(time) = document.expire_time {
        command.arg("PXAT").arg(millis(time));
    }
}

fn compare_and(key: &str, seen: &[u8], document: Option<&Document>) -> Cmd {
    let mut script = cmd("EVAL");
    script.arg(COMPARE_AND_SET).arg(1).arg(key).arg(seen);
    if let Some(document) = document {
        script.arg(&document.bytes);
        if let Some(time) = document.expire_time {
            script.arg(millis(time));
        }
    }
    script
}

/// Whether a key stays for as long as nobody asks again, by what PTTL said of it.
fn lasts_while_watched(millis_left: i64) -> bool {
    const NO_END: i64 = -1;
    millis_left == NO_END || u64::try_from(millis_left).is_ok_and(|left| Duration::from_millis(left) > WATCH_DURATION)
}

#[async_trait]
impl DocumentStore for Redis {
    async fn get(&self, key: &Key) -> Result<Option<Vec<u8>>, StoreError> {
        self.link.ask(cmd("GET").arg(self.prefix.key(key))).await.map_err(not_read)
    }

    async fn get_watched(&self, key: &Key) -> Result<Option<Vec<u8>>, StoreError> {
        if !self.link.is_tracked() {
            return self.get(key).await;
        }
        let name = self.prefix.key(key);
        // The first holds for the next one alone. The last: Redis does not say in time that a key has expired, but at some
        // time after it.
        let mut questions = pipe();
        questions.cmd("CLIENT").arg("CACHING").arg("YES").cmd("GET").arg(&name).cmd("PTTL").arg(&name).ignore_errors();
        let answers = self.link.ask_all(&questions).await.map_err(not_read)?;
        let [caching, document, left] = <[_; 3]>::try_from(answers).map_err(|_| StoreError::Unavailable)?;
        let lasts = left.is_ok_and(|left| matches!(left, Value::Int(left) if lasts_while_watched(left)));
        if caching.is_err() || !lasts {
            self.link.tell(ChangeNotice::Changed(key.clone()));
        }
        let document = document.and_then(|document| Ok(Option::from_redis_value(document)?));
        document.map_err(|error| not_read(NoAnswer::Refused(error)))
    }

    async fn change(&self, first: Vec<Put>, key: Key, change: Change) -> Result<Outcome, StoreError> {
        // All together take no longer than one: a caller must hear in time that the store is down. They go out at once, and
        // none is of a key of another.
        let until = tokio::time::Instant::now() + ANSWER_WAIT_MAX;
        let puts: Vec<_> = first.iter().map(|put| self.put(put)).collect();
        let done = try_join_all(puts.iter().map(|put| self.link.ask::<Value>(put)));
        timeout_at(until, done).await.unwrap_or(Err(NoAnswer::Lost)).map_err(not_read)?;
        let key = self.prefix.key(&key);
        let command = match &change {
            Change::Insert(document) => insert(&key, document),
            Change::Replace { seen, document } => compare_and(&key, seen, Some(document)),
            Change::Remove { seen } => compare_and(&key, seen, None),
        };
        let answer = timeout_at(until, self.link.ask::<Value>(&command)).await;
        let answer = answer.unwrap_or(Err(NoAnswer::Lost)).map_err(not_written)?;
        match answer {
            Value::Nil | Value::Int(1) => Ok(Outcome::Done),
            Value::BulkString(present) => Ok(Outcome::Refused(present)),
            Value::Int(_) => Ok(Outcome::Refused(Vec::new())),
            _ => Err(StoreError::OutcomeUnknown),
        }
    }

    fn now(&self) -> SystemTime {
        self.link.now()
    }

    fn health(&self) -> watch::Receiver<StoreHealth> {
        self.link.health()
    }

    fn watch(&self, hear: ChangeHandler<Key>) {
        self.link.watch(hear);
    }

    fn warnings(&self) -> Vec<ConfigurationWarning> {
        self.link.warnings()
    }

    async fn close(&self) {
        self.link.close();
    }
}

/// A read that failed, or a write whose loss does no harm.
fn not_read(cause: NoAnswer) -> StoreError {
    match cause {
        NoAnswer::NotSent | NoAnswer::Lost => StoreError::Unavailable,
        NoAnswer::Refused(error) => match error.code() {
            Some("WRONGTYPE") => StoreError::Corrupt("its key holds no string".into()),
            Some(_) | None => StoreError::Unavailable,
        },
    }
}

fn not_written(cause: NoAnswer) -> StoreError {
    match cause {
        NoAnswer::Refused(error) if !error.code().is_some_and(|code| NOT_EXECUTED.contains(&code)) => {
            StoreError::OutcomeUnknown
        }
        NoAnswer::Lost => StoreError::OutcomeUnknown,
        NoAnswer::NotSent | NoAnswer::Refused(_) => not_read(cause),
    }
}
