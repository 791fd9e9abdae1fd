//! What Redis says of itself, and where that falls short of keeping users.
//!
//! Read at start, for every new connection and every minute, because any client with CONFIG can change it: at start a
//! shortfall refuses, later it is a configuration warning. As Debian ships it, Redis loses users: it has no append-only file.
//! Does not know who decides; it only reports.

use std::collections::HashMap;

use redis::{RedisError, aio::MultiplexedConnection, cmd};

use crate::domain::ConfigurationWarning;

/// The oldest Redis that claims a name in one command (`SET … NX GET`).
const VERSION_MIN: (u32, u32) = (7, 0);

/// What Redis says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ServerCheck {
    version: String,
    mode: String,
    role: String,
    primary: String,
    loading: bool,
    eviction: String,
    /// `1` or `0`.
    append_only: String,
    append_ok: bool,
    /// Changes with every start of the server.
    run: String,
    /// Whether it writes its first append-only file: until that is done nothing is durable, whatever `aof_enabled` says.
    append_begins: bool,
    /// `None` where CONFIG is forbidden, or does not show it.
    sync: Option<SyncPolicy>,
}

/// When Redis syncs its append-only file.
#[derive(Debug, Clone, PartialEq, Eq)]
struct SyncPolicy {
    when: String,
    not_while_rewriting: String,
}

/// Settings that only CONFIG shows.
const SHOWN_BY_CONFIG: [&str; 2] = ["appendfsync", "no-appendfsync-on-rewrite"];

impl ServerCheck {
    /// Asks over `connection`.
    pub(super) async fn ask(connection: &mut MultiplexedConnection) -> Result<Self, RedisError> {
        let info: String = cmd("INFO").query_async(connection).await?;
        let config = cmd("CONFIG").arg("GET").arg(&SHOWN_BY_CONFIG).query_async(connection).await;
        let sync = match config {
            Ok(values) => SyncPolicy::read(values),
            // Managed services forbid or rename it.
            Err(error) if is_forbidden(&error) => None,
            Err(error) => return Err(error),
        };
        Ok(Self::read(&info, sync))
    }

    fn read(info: &str, sync: Option<SyncPolicy>) -> Self {
        let field = |name: &str| {
            let line = info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            line.unwrap_or_default().trim().to_owned()
        };
        Self {
            version: field("redis_version"),
            // As Redis and as Valkey call it.
            mode: [field("redis_mode"), field("server_mode")]
                .into_iter()
                .find(|mode| !mode.is_empty())
                .unwrap_or_default(),
            role: field("role"),
            primary: format!("{}:{}", field("master_host"), field("master_port")),
            loading: field("loading") == "1",
            eviction: field("maxmemory_policy"),
            append_only: field("aof_enabled"),
            append_ok: field("aof_last_write_status") != "err" && field("aof_last_bgrewrite_status") != "err",
            run: field("run_id"),
            append_begins: field("aof_current_size") == "0"
                && (field("aof_rewrite_in_progress") == "1" || field("aof_rewrite_scheduled") == "1"),
            sync,
        }
    }

    /// Why this server must be waited for, if it must.
    pub(super) fn not_ready(&self) -> Option<&'static str> {
        if self.loading {
            return Some("is still loading its file (LOADING)");
        }
        self.append_begins.then_some("is still writing its first append-only file")
    }

    /// Why this server cannot be the store, if it cannot.
    pub(super) fn unfit(&self) -> Option<String> {
        if self.version.is_empty() {
            return Some("does not report its version, so it is not a Redis that Watchword knows".into());
        }
        if self.version() < VERSION_MIN {
            let (major, minor) = VERSION_MIN;
            return Some(format!("is version {}; Watchword needs {major}.{minor} or newer", self.version));
        }
        if !["standalone", ""].contains(&self.mode.as_str()) {
            return Some(format!("runs in {} mode; Watchword needs a single Redis", self.mode));
        }
        if self.role == "slave" {
            return Some(format!(
                "is a replica of {}; use that one in --store, or make this one a primary: redis-cli REPLICAOF NO ONE",
                self.primary
            ));
        }
        None
    }

    /// Settings with which acknowledged users can be lost. Where CONFIG has been forbidden since, what was known `before`
    /// remains.
    pub(super) fn shortfalls(&self, before: &[ConfigurationWarning]) -> Vec<ConfigurationWarning> {
        let mut found = Vec::new();
        let mut add = |setting, value: &str, danger: &str, wanted: &str| {
            let text = format!("{setting} is {value}, so {danger}: redis-cli CONFIG SET {setting} {wanted}");
            found.push(ConfigurationWarning { setting, text });
        };
        if !["noeviction", ""].contains(&self.eviction.as_str()) {
            add("maxmemory-policy", &self.eviction, "users are deleted when memory runs short", "noeviction");
        }
        if self.append_only == "0" {
            add(
                "appendonly",
                "no",
                "users are lost when Redis ends",
                "yes (only where it never was: this overwrites an older append-only file, which a restart with \
                 --appendonly yes reads)",
            );
        }
        let danger = "a power failure loses users whose registration was acknowledged";
        match &self.sync {
            None => found.extend(before.iter().filter(|warning| SHOWN_BY_CONFIG.contains(&warning.setting)).cloned()),
            Some(SyncPolicy { when, not_while_rewriting }) => {
                if when != "always" {
                    add("appendfsync", when, danger, "always");
                }
                if not_while_rewriting != "no" {
                    add("no-appendfsync-on-rewrite", not_while_rewriting, danger, "no");
                }
            }
        }
        if !self.append_ok {
            let text = "append-only file could not be written the last time; check Redis's disk and log".into();
            found.push(ConfigurationWarning { setting: "aof_last_write_status", text });
        }
        found
    }

    /// Whether this is the process of `earlier`, without a restart.
    pub(super) fn is_same_run(&self, earlier: &Self) -> bool {
        !self.run.is_empty() && self.run == earlier.run
    }

    /// Whether a setting that decides about lost users could not be read. A missing one is not taken for a bad value.
    pub(super) fn is_partly_hidden(&self) -> bool {
        self.sync.is_none() || self.append_only.is_empty() || self.eviction.is_empty()
    }

    /// One line for `check-config`.
    pub(super) fn summary(&self) -> String {
        let sync = self.sync.as_ref().map_or("unknown", |sync| &sync.when);
        let append = match self.append_only.as_str() {
            "1" => "yes",
            "0" => "no",
            _ => "unknown",
        };
        let eviction = if self.eviction.is_empty() { "unknown" } else { &self.eviction };
        format!("Redis {}, appendonly {append}, appendfsync {sync}, maxmemory-policy {eviction}", self.version)
    }

    fn version(&self) -> (u32, u32) {
        let mut numbers = self.version.split('.').map(|number| number.parse().unwrap_or(0));
        (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
    }
}

impl SyncPolicy {
    /// `None` where a setting is not shown.
    fn read(mut values: HashMap<String, String>) -> Option<Self> {
        let [when, not_while_rewriting] = SHOWN_BY_CONFIG.map(|name| values.remove(name));
        Some(Self { when: when?, not_while_rewriting: not_while_rewriting? })
    }
}

fn is_forbidden(error: &RedisError) -> bool {
    error.code() == Some("NOPERM") || error.detail().is_some_and(|detail| detail.contains("unknown command"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "# Server\r\nredis_version:7.0.15\r\nredis_mode:standalone\r\nloading:0\r\naof_enabled:1\r\n\
                        aof_last_write_status:ok\r\nmaxmemory_policy:noeviction\r\nrole:master\r\n";

    fn check(from: &str, to: &str, sync: &str) -> ServerCheck {
        let sync = SyncPolicy { when: sync.into(), not_while_rewriting: "no".into() };
        ServerCheck::read(&GOOD.replace(from, to), Some(sync))
    }

    #[test]
    fn server_that_keeps_users_is_fit_and_has_no_shortfall() {
        let good = check("", "", "always");
        assert_eq!(good.unfit(), None);
        assert_eq!(good.shortfalls(&[]), []);
        assert_eq!(good.not_ready(), None);
    }

    #[test]
    fn each_shortfall_is_named_with_the_command_that_fixes_it() {
        for (from, to, sync, fix) in [
            ("noeviction", "allkeys-lru", "always", "CONFIG SET maxmemory-policy noeviction"),
            ("aof_enabled:1", "aof_enabled:0", "always", "CONFIG SET appendonly yes"),
            ("", "", "everysec", "CONFIG SET appendfsync always"),
            ("status:ok", "status:err", "always", "Redis's disk"),
        ] {
            let found = check(from, to, sync).shortfalls(&[]);
            assert_eq!(found.len(), 1, "{found:?}");
            assert!(found[0].text.contains(fix), "{found:?}");
        }
    }

    #[test]
    fn sync_that_pauses_during_a_rewrite_is_a_shortfall() {
        let sync = SyncPolicy { when: "always".into(), not_while_rewriting: "yes".into() };
        let found = ServerCheck::read(GOOD, Some(sync)).shortfalls(&[]);
        assert!(found[0].text.contains("CONFIG SET no-appendfsync-on-rewrite no"), "{found:?}");
        let hidden = ServerCheck::read(GOOD, None);
        assert_eq!(hidden.shortfalls(&found), found, "a setting that can no longer be read is not fixed");
    }

    #[test]
    fn server_that_writes_its_first_append_only_file_is_not_ready() {
        for state in ["aof_rewrite_in_progress:1", "aof_rewrite_scheduled:1"] {
            let begins = format!("aof_enabled:1\r\naof_current_size:0\r\n{state}");
            assert!(check("aof_enabled:1", &begins, "always").not_ready().is_some(), "{state}");
        }
        let later = "aof_enabled:1\r\naof_current_size:88\r\naof_rewrite_in_progress:1";
        assert_eq!(check("aof_enabled:1", later, "always").not_ready(), None, "an ordinary rewrite");
    }

    #[test]
    fn missing_fields_are_no_bad_values() {
        for line in GOOD.lines().filter(|line| !line.starts_with("redis_version")) {
            let found = check(line, "", "always");
            assert_eq!((found.unfit(), found.not_ready(), found.shortfalls(&[])), (None, None, Vec::new()), "{line}");
        }
        let valkey = "redis_version:7.2.4\r\nserver_name:valkey\r\nvalkey_version:9.0.1\r\nserver_mode:";
        let with_mode =
            |mode: &str| check("redis_version:7.0.15\r\nredis_mode:standalone", &format!("{valkey}{mode}"), "always");
        assert_eq!(with_mode("standalone").unfit(), None);
        assert!(with_mode("cluster").unfit().unwrap().contains("cluster mode"));
    }

    #[test]
    fn settings_that_config_does_not_show_are_not_taken_for_bad_ones() {
        let partly = HashMap::from([("appendfsync".to_owned(), "always".to_owned())]);
        assert_eq!(SyncPolicy::read(partly), None);
        let with_run = || check("redis_mode", "run_id:1\r\nredis_mode", "always");
        assert!(with_run().is_same_run(&with_run()));
        assert!(!check("", "", "always").is_same_run(&check("", "", "always")), "a restart cannot be excluded");
    }

    #[test]
    fn servers_of_other_kinds_are_unfit() {
        for (from, to, why) in [
            ("7.0.15", "6.2.7", "7.0 or newer"),
            ("redis_version:7.0.15", "", "not a Redis"),
            ("standalone", "cluster", "cluster mode"),
            ("role:master", "role:slave\r\nmaster_host:10.0.0.9\r\nmaster_port:6379", "replica of 10.0.0.9:6379"),
        ] {
            let unfit = check(from, to, "always").unfit().unwrap();
            assert!(unfit.contains(why), "{unfit}");
        }
        assert_eq!(check("7.0.15", "10.1.0", "always").unfit(), None, "versions are numbers");
    }
}
