//! Users in Redis, where many nodes share them.
//!
//! The same documents as everywhere, each under a key of its own: `watchword:user:<name>`, and `watchword:id:<id>` with
//! the name. Whatever must be atomic touches one key: `SET … NX GET` claims a name, one small script compares and sets.
//! A read that fails was not executed; a write that may have been sent is an unknown outcome, unless Redis itself said
//! that it refused. How the connection heals is `link.rs`, what Redis must promise is `condition.rs`.

mod condition;
mod link;
mod shelf;
mod target;
mod trouble;

use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use redis::cmd;
use tokio::{
    sync::watch,
    time::{Instant, sleep},
};

pub use self::target::{Durability, Prefix, RedisSettings, RedisUrl};
use self::{
    condition::Condition,
    link::{Link, NoAnswer},
    trouble::Trouble,
};
use super::{OpenError, record};
use crate::domain::{Alarm, Claim, Pulse, Replace, Revision, Store, StoreError, Stored, User, Username, World};

/// How long a start waits for a Redis that cannot be reached or reads its file, before it gives up.
const START_WAIT_MAX: Duration = Duration::from_secs(10);

/// Between two attempts of a start.
const START_RETRY: Duration = Duration::from_millis(200);

/// Stores ARGV[2] if the key holds ARGV[1]. Redis 7 has no command for this, and WATCH is unsafe on a connection that
/// many calls share. Errors of a script repeat no argument.
const COMPARE_AND_SET: &str = "if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('SET', KEYS[1], ARGV[2]) \
                               return 1 else return 0 end";

/// A store in Redis.
pub struct Redis {
    link: Link,
    prefix: Prefix,
}

impl Redis {
    /// Connects, and refuses a Redis that cannot keep users.
    pub async fn open(settings: &RedisSettings, world: &World) -> Result<Self, OpenError> {
        let client = settings.client()?;
        if settings.url.is_plain_beyond_loopback() {
            tracing::warn!(url = %settings.url, "users travel to Redis in plain text; use rediss:// where others may listen");
        }
        let (connection, condition) = connect(settings, &client).await?;
        accept(settings, &condition)?;
        if condition.is_partly_hidden() {
            tracing::warn!("Redis forbids CONFIG, so nobody checks that its appendfsync is always");
        }
        tracing::info!(url = %settings.url, prefix = %settings.prefix, "store: redis; {}", condition.summary());
        // A key that need not exist: asking for it shows that reads are answered.
        let probe_key = settings.prefix.key("user", "");
        let link = Link::tend(client, (connection, condition), probe_key, settings.check_interval, world);
        Ok(Self { link, prefix: settings.prefix.clone() })
    }

    /// Says what `open` would find, and changes nothing.
    pub async fn inspect(settings: &RedisSettings) -> Result<String, OpenError> {
        let (_, condition) =
            Link::try_once(&settings.client()?).await.map_err(|trouble| refused(settings, &trouble))?;
        accept(settings, &condition)?;
        Ok(format!("{}: {}", settings.url, condition.summary()))
    }

    fn user_key(&self, name: &Username) -> String {
        self.prefix.key("user", name.as_str())
    }
}

/// Tries until Redis answers, for as long as what is wrong may pass.
async fn connect(
    settings: &RedisSettings,
    client: &redis::Client,
) -> Result<(redis::aio::MultiplexedConnection, Condition), OpenError> {
    let give_up = Instant::now() + START_WAIT_MAX;
    let mut said = false;
    loop {
        match Link::try_once(client).await {
            Ok(connected) => return Ok(connected),
            Err(trouble) if trouble.is_passing() && Instant::now() < give_up => {
                if !said {
                    tracing::warn!("--store {}: {trouble}; trying for {START_WAIT_MAX:?}", settings.url);
                    said = true;
                }
                sleep(START_RETRY).await;
            }
            Err(trouble) => return Err(refused(settings, &trouble)),
        }
    }
}

fn refused(settings: &RedisSettings, trouble: &Trouble) -> OpenError {
    OpenError(format!("--store {}: {trouble}", settings.url))
}

/// Refuses settings with which acknowledged users can be lost, all of them at once.
fn accept(settings: &RedisSettings, condition: &Condition) -> Result<(), OpenError> {
    let shortfalls = condition.shortfalls();
    match settings.durability {
        Durability::Strict if !shortfalls.is_empty() => {
            let lines: Vec<_> = shortfalls.iter().map(|alarm| format!("\n  {}", alarm.text)).collect();
            Err(OpenError(format!(
                "--store {}: acknowledged users could be lost with Redis's settings:{}\n  Redis keeps them over its own \
                 restart with redis-cli CONFIG REWRITE; --redis-durability relaxed starts all the same",
                settings.url,
                lines.concat()
            )))
        }
        Durability::Strict | Durability::Relaxed => Ok(()),
    }
}

#[async_trait]
impl Store for Redis {
    async fn user(&self, name: &Username) -> Result<Option<Stored>, StoreError> {
        let document: Option<Vec<u8>> = self.link.ask(cmd("GET").arg(self.user_key(name))).await.map_err(not_read)?;
        document.map(|bytes| record::read(name, &bytes)).transpose()
    }

    async fn claim(&self, user: &User) -> Result<Claim, StoreError> {
        // First, and by itself: an id without a user is harmless, a user without an id is not.
        let id_key = self.prefix.key("id", &user.id.to_string());
        self.link.ask::<()>(cmd("SET").arg(id_key).arg(user.username.as_str())).await.map_err(not_read)?;
        let mut claim = cmd("SET");
        claim.arg(self.user_key(&user.username)).arg(record::write(user)).arg("NX").arg("GET");
        let existing: Option<Vec<u8>> = self.link.ask(&claim).await.map_err(not_written)?;
        match existing {
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
        NoAnswer::Refused(error) => refusal(&error),
    }
}

fn not_written(cause: NoAnswer) -> StoreError {
    match cause {
        NoAnswer::NotSent => StoreError::Unavailable,
        NoAnswer::Refused(error) => refusal(&error),
        NoAnswer::Lost => StoreError::OutcomeUnknown,
    }
}

/// Redis said that it did nothing.
fn refusal(error: &redis::RedisError) -> StoreError {
    match error.code() {
        Some("WRONGTYPE") => StoreError::Corrupt("its key holds no string".into()),
        _ => StoreError::Unavailable,
    }
}
