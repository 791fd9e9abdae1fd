//! Users in Redis, where many nodes share them.
//!
//! The same documents as everywhere, each under a key of its own: `watchword:user:<name>`, and `watchword:id:<id>` with
//! the name. Whatever must be atomic touches one key: `SET … NX GET` claims a name, one small script compares and sets.
//! A read that fails was not executed; a write that may have been sent is an unknown outcome, unless Redis itself said
//! that it refused. How a connection is made is `connect.rs`, how it heals `link.rs`, what Redis must promise
//! `condition.rs`.

mod condition;
mod connect;
mod link;
mod marker;
mod probe;
mod shelf;
mod target;
mod trouble;

use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use redis::cmd;
use tokio::{sync::watch, time::timeout_at};

pub use self::target::{Durability, Prefix, RedisSettings, RedisUrl};
use self::{
    link::{Link, NoAnswer},
    trouble::Trouble,
};
use super::{OpenError, record};
use crate::domain::{Alarm, Claim, Pulse, Replace, Revision, Store, StoreError, Stored, User, Username, World};

/// How long an answer may take. A caller hears within this and a little more that the store is down.
const ANSWER_WAIT_MAX: Duration = Duration::from_millis(400);

/// Stores ARGV[2] if the key holds ARGV[1]. Redis 7 has no command for this, and WATCH is unsafe on a connection that
/// many calls share. Errors of a script repeat no argument.
const COMPARE_AND_SET: &str = "if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('SET', KEYS[1], ARGV[2]) \
                               return 1 else return 0 end";

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
    pub async fn open(settings: &RedisSettings, world: &World) -> Result<Self, OpenError> {
        let mut connected = connect::patiently(settings).await?;
        let found = marker::find(&mut connected.connection, &settings.prefix, world).await;
        let (marker, new) = found.map_err(|error| connect::refused(settings, &Trouble::of(&error)))?;
        let summary = connected.condition.summary();
        tracing::info!(url = %settings.url, prefix = %settings.prefix, new, "store: redis; {summary}");
        Ok(Self { link: Link::tend(settings, marker, connected, world), prefix: settings.prefix.clone() })
    }

    /// Says what `open` would find, and changes nothing.
    pub async fn inspect(settings: &RedisSettings) -> Result<String, OpenError> {
        let connected = connect::at_once(settings).await?;
        Ok(format!("{}: {}", settings.url, connected.condition.summary()))
    }

    fn user_key(&self, name: &Username) -> String {
        self.prefix.key("user", name.as_str())
    }
}

#[async_trait]
impl Store for Redis {
    async fn user(&self, name: &Username) -> Result<Option<Stored>, StoreError> {
        let document: Option<Vec<u8>> = self.link.ask(cmd("GET").arg(self.user_key(name))).await.map_err(not_read)?;
        document.map(|bytes| record::read(name, &bytes)).transpose()
    }

    async fn claim(&self, user: &User) -> Result<Claim, StoreError> {
        // Both together take no longer than one: a caller must hear in time that the store is down.
        let until = tokio::time::Instant::now() + ANSWER_WAIT_MAX;
        // First, and by itself: an id without a user is harmless, a user without an id is not.
        let id_key = self.prefix.key("id", &user.id.to_string());
        self.link.ask::<()>(cmd("SET").arg(id_key).arg(user.username.as_str())).await.map_err(not_read)?;
        let mut claim = cmd("SET");
        claim.arg(self.user_key(&user.username)).arg(record::write(user)).arg("NX").arg("GET");
        let claimed = timeout_at(until, self.link.ask::<Option<Vec<u8>>>(&claim)).await;
        match claimed.unwrap_or(Err(NoAnswer::Lost)).map_err(not_written)? {
            None => Ok(Claim::Claimed),
            Some(bytes) => Ok(Claim::Taken(Box::new(record::read(&user.username, &bytes)?))),
        }
    }

    async fn replace(&self, seen: &Revision, user: &User) -> Result<Replace, StoreError> {
        let mut script = cmd("EVAL");
        script.arg(COMPARE_AND_SET).arg(1).arg(self.user_key(&user.username));
        script.arg(&*seen.0).arg(record::rewrite(seen, user)?);
        let replaced: bool = self.link.ask(&script).await.map_err(not_written)?;
        Ok(if replaced { Replace::Replaced } else { Replace::Changed })
    }

    fn now(&self) -> SystemTime {
        self.link.now()
    }

    fn pulse(&self) -> watch::Receiver<Pulse> {
        self.link.pulse()
    }

    fn alarms(&self) -> Vec<Alarm> {
        self.link.alarms()
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
