//! What Redis says of itself, and where that falls short of keeping users.
//!
//! Read at start, at every new connection and every minute, since anybody with redis-cli can change it: at start a
//! shortfall refuses, later it is an alarm. As Debian ships it, Redis loses users: no append-only file.

use redis::{FromRedisValue, RedisError, aio::MultiplexedConnection, cmd};

use crate::domain::Alarm;

/// The oldest Redis that claims a name in one command (`SET … NX GET`).
const VERSION_MIN: (u32, u32) = (7, 0);

/// What Redis says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Condition {
    version: String,
    mode: String,
    role: String,
    primary: String,
    loading: bool,
    eviction: String,
    append_only: bool,
    append_ok: bool,
    /// `None` where CONFIG is forbidden.
    append_sync: Option<String>,
}

impl Condition {
    /// Asks over `connection`.
    pub(super) async fn ask(connection: &mut MultiplexedConnection) -> Result<Self, RedisError> {
        let info: String = cmd("INFO").query_async(connection).await?;
        let config = cmd("CONFIG").arg("GET").arg("appendfsync").query_async::<redis::Value>(connection).await;
        let append_sync = match config {
            Ok(value) => <Vec<String>>::from_redis_value(value)?.into_iter().nth(1),
            // Managed services forbid or rename it; anything else went wrong on the way.
            Err(error) if error.code().is_some() => None,
            Err(error) => return Err(error),
        };
        Ok(Self::read(&info, append_sync))
    }

    fn read(info: &str, append_sync: Option<String>) -> Self {
        let field = |name: &str| {
            let line = info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            line.unwrap_or_default().trim().to_owned()
        };
        Self {
            version: field("redis_version"),
            mode: field("redis_mode"),
            role: field("role"),
            primary: format!("{}:{}", field("master_host"), field("master_port")),
            loading: field("loading") == "1",
            eviction: field("maxmemory_policy"),
            append_only: field("aof_enabled") == "1",
            append_ok: field("aof_last_write_status") != "err",
            append_sync,
        }
    }

    /// Whether it is still reading its file.
    pub(super) fn is_loading(&self) -> bool {
        self.loading
    }

    /// Why this server cannot be the store at all.
    pub(super) fn unfit(&self) -> Option<String> {
        if self.version.is_empty() {
            return Some("does not say its version, so it is no Redis that Watchword knows".into());
        }
        if self.version() < VERSION_MIN {
            let (major, minor) = VERSION_MIN;
            return Some(format!("is version {}; Watchword needs {major}.{minor} or newer", self.version));
        }
        if self.mode != "standalone" {
            return Some(format!("runs in {} mode; Watchword needs a single Redis", self.mode));
        }
        if self.role != "master" {
            return Some(format!(
                "is a replica of {}; name that one in --store, or make this one a primary: redis-cli REPLICAOF NO ONE",
                self.primary
            ));
        }
        None
    }

    /// Settings with which acknowledged users can be lost.
    pub(super) fn shortfalls(&self) -> Vec<Alarm> {
        let mut found = Vec::new();
        let mut add = |setting, value: &str, danger: &str, wanted: &str| {
            let text = format!("{setting} is {value}, so {danger}: redis-cli CONFIG SET {setting} {wanted}");
            found.push(Alarm { setting, text });
        };
        if self.eviction != "noeviction" {
            add("maxmemory-policy", &self.eviction, "users are deleted when memory runs short", "noeviction");
        }
        if !self.append_only {
            add("appendonly", "no", "users are lost when Redis ends", "yes");
        }
        if let Some(sync) = self.append_sync.as_deref().filter(|sync| *sync != "always") {
            add("appendfsync", sync, "a power cut loses users who were told that they are registered", "always");
        }
        if !self.append_ok {
            let text = "the last write to the append-only file failed; is the disk full?".into();
            found.push(Alarm { setting: "aof_last_write_status", text });
        }
        found
    }

    /// Whether `appendfsync` could not be read.
    pub(super) fn is_partly_hidden(&self) -> bool {
        self.append_sync.is_none()
    }

    /// One line for `check-config`.
    pub(super) fn summary(&self) -> String {
        let sync = self.append_sync.as_deref().unwrap_or("not to be read");
        let append = if self.append_only { "yes" } else { "no" };
        format!("Redis {}, appendonly {append}, appendfsync {sync}, maxmemory-policy {}", self.version, self.eviction)
    }

    fn version(&self) -> (u32, u32) {
        let mut numbers = self.version.split('.').map(|number| number.parse().unwrap_or(0));
        (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "# Server\r\nredis_version:7.0.15\r\nredis_mode:standalone\r\nloading:0\r\naof_enabled:1\r\n\
                        aof_last_write_status:ok\r\nmaxmemory_policy:noeviction\r\nrole:master\r\n";

    fn condition(from: &str, to: &str, sync: &str) -> Condition {
        Condition::read(&GOOD.replace(from, to), Some(sync.to_owned()))
    }

    #[test]
    fn a_server_that_keeps_users_is_fit_and_falls_short_of_nothing() {
        let good = condition("", "", "always");
        assert_eq!(good.unfit(), None);
        assert_eq!(good.shortfalls(), []);
    }

    #[test]
    fn each_way_to_lose_users_is_named_with_its_cure() {
        for (from, to, sync, cure) in [
            ("noeviction", "allkeys-lru", "always", "CONFIG SET maxmemory-policy noeviction"),
            ("aof_enabled:1", "aof_enabled:0", "always", "CONFIG SET appendonly yes"),
            ("", "", "everysec", "CONFIG SET appendfsync always"),
            ("status:ok", "status:err", "always", "disk full"),
        ] {
            let found = condition(from, to, sync).shortfalls();
            assert_eq!(found.len(), 1, "{found:?}");
            assert!(found[0].text.contains(cure), "{found:?}");
        }
    }

    #[test]
    fn other_servers_are_unfit() {
        for (from, to, why) in [
            ("7.0.15", "6.2.7", "7.0 or newer"),
            ("redis_version:7.0.15", "", "no Redis"),
            ("standalone", "cluster", "cluster mode"),
            ("role:master", "role:slave\r\nmaster_host:10.0.0.9\r\nmaster_port:6379", "replica of 10.0.0.9:6379"),
        ] {
            let unfit = condition(from, to, "always").unfit().unwrap();
            assert!(unfit.contains(why), "{unfit}");
        }
        assert_eq!(condition("7.0.15", "10.1.0", "always").unfit(), None, "versions are numbers");
    }
}
