//! Flags of the store: which one, how it is reached, and how the key ring is kept in it.

use std::{ffi::OsStr, path::PathBuf, str::FromStr, time::Duration};

use clap::{Arg, Args, builder::TypedValueParser, error::ErrorKind};

use crate::store::{self, Durability, KeyPrefix, RedisSettings, RedisUrl};

/// How often the settings of Redis are read again.
const REDIS_CHECK_INTERVAL: Duration = Duration::from_secs(60);

/// The store.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
#[command(next_help_heading = "Store")]
pub struct StoreArgs {
    /// Where users are stored: embedded: (a file in --data-dir), redis://USER@HOST:PORT/DATABASE (only HOST is required),
    /// rediss://… (the same over TLS), or memory: (lost when the node stops)
    #[arg(long, env = "WATCHWORD_STORE", value_name = "URL", default_value = "embedded:", value_parser = StoreUrlParser)]
    pub store: StoreUrl,

    /// How it is reached.
    #[command(flatten)]
    pub access: StoreAccessArgs,

    /// Refuse to start where there is no store yet, instead of beginning without users: an unmounted disk or an emptied Redis
    /// looks like a new store
    #[arg(long, env = "WATCHWORD_STORE_MUST_EXIST")]
    pub store_must_exist: bool,

    /// File with the keys that encrypt the key ring in the store, one per line: 64 hexadecimal digits, or plain for no
    /// encryption. The first is used to write, all of them to read. Default: plain
    #[arg(long, env = "WATCHWORD_SEAL_KEY_FILE", value_name = "FILE")]
    pub seal_key_file: Option<PathBuf>,
}

/// How a store is reached, whichever it is.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
#[command(next_help_heading = "Store")]
pub struct StoreAccessArgs {
    /// The folder of the embedded store.
    #[command(flatten)]
    pub data: DataDirArgs,

    /// How Redis is reached.
    #[command(flatten)]
    pub redis: RedisArgs,
}

/// How Redis is reached, and what it must guarantee.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
#[command(next_help_heading = "Store")]
pub struct RedisArgs {
    /// File whose first line is the password for Redis
    #[arg(long, env = "WATCHWORD_STORE_PASSWORD_FILE", value_name = "FILE")]
    pub store_password_file: Option<PathBuf>,

    /// PEM file of the certificate authorities for rediss://. Default: those that the machine trusts
    #[arg(long, env = "WATCHWORD_STORE_CA_FILE", value_name = "FILE")]
    pub store_ca_file: Option<PathBuf>,

    /// Prefix of every key in Redis
    #[arg(long, env = "WATCHWORD_REDIS_PREFIX", value_name = "TEXT", default_value = "watchword:")]
    pub redis_prefix: KeyPrefix,

    /// What Redis must guarantee at start. strict: no acknowledged write is lost (appendonly yes, appendfsync always,
    /// maxmemory-policy noeviction). relaxed: only a warning where it does not
    #[arg(long, env = "WATCHWORD_REDIS_DURABILITY", value_name = "LEVEL", default_value = "strict")]
    pub redis_durability: Durability,
}

/// The folder of the embedded store and of the admin socket.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
#[command(next_help_heading = "Store")]
pub struct DataDirArgs {
    /// Folder of the embedded store and of the admin socket. Created with mode 0700 when missing
    #[arg(long, env = "WATCHWORD_DATA_DIR", value_name = "DIR", default_value = "./watchword-data")]
    pub data_dir: PathBuf,
}

/// The value of `--store`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreUrl {
    /// `memory:`
    Memory,
    /// `embedded:`
    Embedded,
    /// `redis://…` or `rediss://…`
    Redis(RedisUrl),
}

/// Parses a store URL. The error does not repeat the refused text, as clap's own would: it may contain a password.
#[derive(Debug, Clone)]
pub(super) struct StoreUrlParser;

impl StoreAccessArgs {
    /// The store at `url`, or which of the other flags does not go with it.
    pub fn store_at(&self, url: &StoreUrl, must_exist: bool) -> Result<store::StoreSettings, String> {
        match url {
            StoreUrl::Memory => Ok(store::StoreSettings::Memory),
            StoreUrl::Embedded => Ok(store::StoreSettings::Embedded { folder: self.data.data_dir.clone(), must_exist }),
            StoreUrl::Redis(url) => self.redis.settings(url, must_exist).map(store::StoreSettings::Redis),
        }
    }
}

impl RedisArgs {
    /// The settings of the Redis at `url`, or which of the other flags does not go with it.
    fn settings(&self, url: &RedisUrl, must_exist: bool) -> Result<RedisSettings, String> {
        if self.store_ca_file.is_some() && !url.is_tls() {
            return Err(format!("--store-ca-file is for TLS: leave it out, or write rediss:// instead of {url}"));
        }
        if url.user().is_some() && self.store_password_file.is_none() {
            return Err(format!("{url}: a user needs a password: name its file with --store-password-file"));
        }
        Ok(RedisSettings {
            url: url.clone(),
            password_file: self.store_password_file.clone(),
            ca_file: self.store_ca_file.clone(),
            prefix: self.redis_prefix.clone(),
            durability: self.redis_durability,
            must_exist,
            check_interval: REDIS_CHECK_INTERVAL,
        })
    }
}

// === text forms ===

impl FromStr for StoreUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "memory:" => Ok(StoreUrl::Memory),
            "embedded:" => Ok(StoreUrl::Embedded),
            redis if redis.starts_with("redis://") || redis.starts_with("rediss://") => {
                redis.parse().map(StoreUrl::Redis)
            }
            _ => Err("expected embedded:, memory:, redis://… or rediss://…".into()),
        }
    }
}

impl TypedValueParser for StoreUrlParser {
    type Value = StoreUrl;

    fn parse_ref(&self, _: &clap::Command, arg: Option<&Arg>, value: &OsStr) -> Result<StoreUrl, clap::Error> {
        let parsed = value.to_str().ok_or_else(|| "is not UTF-8".to_owned()).and_then(StoreUrl::from_str);
        parsed.map_err(|fault| {
            let flag = arg.and_then(Arg::get_long).unwrap_or("store");
            clap::Error::raw(ErrorKind::ValueValidation, format!("--{flag}: {fault}\n"))
        })
    }
}
