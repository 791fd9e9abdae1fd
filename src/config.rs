//! Every setting once: its flag, variable, default, range and meaning.
//!
//! Flags win over `WATCHWORD_…` variables. What clap cannot check alone, such as two settings that do not go
//! together, is checked in [`Config::from_settings`]; all such faults are reported at once. README's table is made of
//! what stands here.

use std::{ffi::OsString, fmt, path::PathBuf, str::FromStr, time::Duration};

use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};

use crate::{
    domain::{
        Rules,
        password::{Cost, PoolSettings},
    },
    machine,
    server::{Address, Limits},
    store, telemetry,
};

/// Signs users in. `watchword` alone starts the service.
#[derive(Debug, Parser)]
#[command(name = "watchword", version, about = "A gRPC authentication microservice: register users and sign them in.")]
pub struct CommandLine {
    /// What to do; `serve` when nothing is said.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// The settings.
    #[command(flatten)]
    pub settings: Settings,
}

/// What the binary can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Subcommand)]
pub enum Command {
    /// Start the service (the default)
    Serve,
    /// Write the descriptor set to standard output, for `grpcurl -protoset`
    Descriptor,
    /// Print calls to copy
    Examples,
    /// Print every setting with its source, check them and the store, and start nothing
    CheckConfig,
    /// Ask a running node on --ops-addr whether it is ready; exit with 0 or 1
    Healthcheck,
}

/// The flags.
#[derive(Debug, Clone, Args)]
pub struct Settings {
    /// gRPC door: IP:PORT or unix:/path; port 0 takes any free one
    #[arg(long, global = true, env = "WATCHWORD_GRPC_ADDR", value_name = "ADDR", default_value = "127.0.0.1:50051")]
    pub grpc_addr: Address,

    /// HTTP door with the original routes: IP:PORT, unix:/path or off
    #[arg(long, global = true, env = "WATCHWORD_HTTP_ADDR", value_name = "ADDR", default_value = "127.0.0.1:5000")]
    pub http_addr: OrOff,

    /// Ops door, /healthz and /readyz: IP:PORT, unix:/path or off
    #[arg(long, global = true, env = "WATCHWORD_OPS_ADDR", value_name = "ADDR", default_value = "127.0.0.1:50052")]
    pub ops_addr: OrOff,

    /// Where users are kept: embedded: (a file in --data-dir) or memory: (nothing is kept)
    #[arg(long, global = true, env = "WATCHWORD_STORE", value_name = "URL", default_value = "embedded:")]
    pub store: StoreUrl,

    /// Folder of the embedded store; made when missing, for this user alone
    #[arg(long, global = true, env = "WATCHWORD_DATA_DIR", value_name = "DIR", default_value = "./watchword-data")]
    pub data_dir: PathBuf,

    /// Let the gRPC and HTTP doors listen beyond loopback without TLS
    #[arg(long, global = true, env = "WATCHWORD_INSECURE_PLAINTEXT")]
    pub insecure_plaintext: bool,

    /// The original query-string routes; auto: on while the HTTP door is on loopback or a Unix socket
    #[arg(long, global = true, env = "WATCHWORD_LEGACY_ROUTES", value_name = "WHEN", default_value = "auto")]
    pub legacy_routes: When,

    /// gRPC reflection; auto: on while the gRPC door is on loopback or a Unix socket
    #[arg(long, global = true, env = "WATCHWORD_REFLECTION", value_name = "WHEN", default_value = "auto")]
    pub reflection: When,

    /// Shortest new password, in characters (8 to 64)
    #[arg(long, global = true, env = "WATCHWORD_PASSWORD_MIN_LENGTH", value_name = "CHARACTERS", default_value_t = 8,
          value_parser = clap::value_parser!(u16).range(8..=64))]
    pub password_min_length: u16,

    /// Longest user data, in bytes (0 to 12288)
    #[arg(long, global = true, env = "WATCHWORD_DATA_MAX_BYTES", value_name = "BYTES", default_value_t = 8_192,
          value_parser = clap::value_parser!(u16).range(0..=12_288))]
    pub data_max_bytes: u16,

    /// Passwords hashed at once, 19 MiB each (1 to 1024); auto: one a core, fewer when a container has little memory
    #[arg(long, global = true, env = "WATCHWORD_HASH_WORKERS", value_name = "COUNT", default_value = "auto")]
    pub hash_workers: Workers,

    /// Connections at once on each door (1 to 1000000); the limit on open files counts too
    #[arg(long, global = true, env = "WATCHWORD_CONNECTIONS_MAX", value_name = "COUNT", default_value_t = 10_000,
          value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub connections_max: u32,

    /// On SIGTERM, time to go on serving while load balancers look away
    #[arg(long, global = true, env = "WATCHWORD_DRAIN_DELAY", value_name = "TIME", default_value = "0s",
          value_parser = humantime::parse_duration)]
    pub drain_delay: Duration,

    /// After that, time for running calls to end
    #[arg(long, global = true, env = "WATCHWORD_DRAIN_TIMEOUT", value_name = "TIME", default_value = "10s",
          value_parser = humantime::parse_duration)]
    pub drain_timeout: Duration,

    /// How log lines look
    #[arg(long, global = true, env = "WATCHWORD_LOG_FORMAT", value_name = "FORMAT", default_value = "text")]
    pub log_format: telemetry::Format,

    /// The least important log lines to write
    #[arg(long, global = true, env = "WATCHWORD_LOG_LEVEL", value_name = "LEVEL", default_value = "info")]
    pub log_level: Level,
}

/// On, off, or where it is safe.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum When {
    /// Where only this machine can reach it.
    Auto,
    /// Always.
    On,
    /// Never.
    Off,
}

/// How important a log line must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Level {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

/// An address, or no door at all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrOff(pub Option<Address>);

/// The value of `--store`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreUrl {
    /// `memory:`
    Memory,
    /// `embedded:`
    Embedded,
}

/// A number of hash workers, or what the machine allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Workers(pub Option<usize>);

/// The settings as the program uses them: checked, and nothing left to decide.
#[derive(Debug, Clone)]
pub struct Config {
    /// gRPC door.
    pub grpc: Address,
    /// HTTP door.
    pub http: Option<Address>,
    /// Ops door.
    pub ops: Option<Address>,
    /// The store.
    pub store: store::Settings,
    /// What input must keep to.
    pub rules: Rules,
    /// The hash pool.
    pub hashing: PoolSettings,
    /// What each listener allows.
    pub limits: Limits,
    /// Whether the original routes are open.
    pub legacy_routes: bool,
    /// Whether reflection answers.
    pub reflection: bool,
    /// Time to go on serving after the signal.
    pub drain_delay: Duration,
    /// Time for running calls after that.
    pub drain_timeout: Duration,
}

/// Settings that do not go together; each line says what to change.
#[derive(Debug)]
pub struct ConfigError(Vec<String>);

// === impl Config ===

impl Config {
    /// Reads arguments as `main` does; for tests and for embedding. The first argument is the program's name.
    pub fn from_args<I: Into<OsString> + Clone>(args: impl IntoIterator<Item = I>) -> Result<Self, String> {
        let line = CommandLine::try_parse_from(args).map_err(|error| error.to_string())?;
        Self::from_settings(&line.settings).map_err(|error| error.to_string())
    }

    /// Checks what settings mean together.
    pub fn from_settings(settings: &Settings) -> Result<Self, ConfigError> {
        let mut faults = Vec::new();
        let doors = [("--grpc-addr", Some(&settings.grpc_addr)), ("--http-addr", settings.http_addr.0.as_ref())];
        for (flag, address) in doors {
            if let Some(address) = address.filter(|address| !address.is_local() && !settings.insecure_plaintext) {
                faults.push(format!(
                    "{flag} {address} can be reached from other machines, and passwords would travel in plain text: use a loopback \
                     address, or add --insecure-plaintext when something in front of it speaks TLS"
                ));
            }
        }
        let limits = Limits {
            connections_max: machine::connections_possible().min(settings.connections_max as usize),
            ..Limits::default()
        };
        if !faults.is_empty() {
            return Err(ConfigError(faults));
        }
        let is_open = |when, local| match when {
            When::Auto => local,
            When::On => true,
            When::Off => false,
        };
        let http_is_local = settings.http_addr.0.as_ref().is_some_and(Address::is_local);
        Ok(Self {
            grpc: settings.grpc_addr.clone(),
            http: settings.http_addr.0.clone(),
            ops: settings.ops_addr.0.clone(),
            store: match settings.store {
                StoreUrl::Memory => store::Settings::Memory,
                StoreUrl::Embedded => store::Settings::Embedded(settings.data_dir.clone()),
            },
            rules: Rules {
                password_min_length: settings.password_min_length.into(),
                data_bytes_max: settings.data_max_bytes.into(),
            },
            hashing: PoolSettings {
                workers: settings
                    .hash_workers
                    .0
                    .unwrap_or_else(|| machine::hash_workers(u64::from(Cost::DEFAULT.memory_kib) * 1_024)),
                cost: Cost::DEFAULT,
            },
            limits,
            legacy_routes: is_open(settings.legacy_routes, http_is_local),
            reflection: is_open(settings.reflection, settings.grpc_addr.is_local()),
            drain_delay: settings.drain_delay,
            drain_timeout: settings.drain_timeout,
        })
    }
}

/// README's table of settings.
pub fn settings_table() -> String {
    let mut table = String::from("| flag, variable | default | meaning |\n|---|---|---|\n");
    for arg in CommandLine::command().get_arguments() {
        let (Some(flag), Some(variable)) = (arg.get_long(), arg.get_env()) else { continue };
        let default = arg.get_default_values().first().map_or("off".into(), |value| value.to_string_lossy());
        let mut meaning = arg.get_help().map(ToString::to_string).unwrap_or_default();
        let values: Vec<_> = arg.get_possible_values().iter().map(|value| value.get_name().to_owned()).collect();
        if !values.is_empty() && arg.get_action().takes_values() {
            meaning = format!("{meaning}: {}", values.join(", "));
        }
        let variable = variable.to_string_lossy();
        table.push_str(&format!("| `--{flag}`<br>`{variable}` | `{default}` | {meaning} |\n"));
    }
    table
}

/// Variables that look like settings and are none: probably mistyped.
pub fn unknown_variables(names: impl Iterator<Item = OsString>) -> Vec<String> {
    let command = CommandLine::command();
    let known: Vec<_> = command.get_arguments().filter_map(|arg| arg.get_env()).collect();
    names
        .filter(|name| !known.contains(&name.as_os_str()))
        .filter_map(|name| name.into_string().ok())
        .filter(|name| name.starts_with("WATCHWORD_"))
        // Kubernetes sets these in every pod for a Service that is called watchword.
        .filter(|name| !name.starts_with("WATCHWORD_PORT") && !name.starts_with("WATCHWORD_SERVICE_"))
        .collect()
}

// === text forms ===

impl FromStr for OrOff {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "off" {
            return Ok(OrOff(None));
        }
        text.parse().map(|address| OrOff(Some(address))).map_err(|error: String| format!("{error}, or off"))
    }
}

impl fmt::Display for OrOff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some(address) => address.fmt(f),
            None => f.write_str("off"),
        }
    }
}

impl FromStr for StoreUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "memory:" => Ok(StoreUrl::Memory),
            "embedded:" => Ok(StoreUrl::Embedded),
            _ => Err("expected embedded: or memory:".into()),
        }
    }
}

impl FromStr for Workers {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.parse() {
            _ if text == "auto" => Ok(Workers(None)),
            Ok(count @ 1..=1_024) => Ok(Workers(Some(count))),
            Ok(_) | Err(_) => Err("expected auto, or a number from 1 to 1024".into()),
        }
    }
}

impl From<Level> for tracing::Level {
    fn from(level: Level) -> Self {
        match level {
            Level::Error => tracing::Level::ERROR,
            Level::Warn => tracing::Level::WARN,
            Level::Info => tracing::Level::INFO,
            Level::Debug => tracing::Level::DEBUG,
            Level::Trace => tracing::Level::TRACE,
        }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("\n"))
    }
}

impl std::error::Error for ConfigError {}
