//! The flags: names, variables, defaults, ranges and help texts, as clap reads them.

use std::{ffi::OsStr, fmt, path::PathBuf, str::FromStr, time::Duration};

use clap::{Arg, Args, Parser, Subcommand, ValueEnum, builder::TypedValueParser, error::ErrorKind};

use crate::{
    api::forwarded::TrustedProxies,
    domain::{ChallengeRules, Rate, Work, password::ContextWord},
    net::Address,
    store::{Durability, KeyPrefix, RedisUrl},
    telemetry,
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
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
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
    /// Make the next signing key of a running node, over --admin-addr: it signs ten minutes later
    RotateSigningKey {
        /// For a stolen key: the new one signs at once, and every access token of the old ones is refused
        #[arg(long)]
        drop_old_keys: bool,
    },
    /// Look at a user of a running node and change the account's state, over --admin-addr
    #[command(subcommand)]
    User(UserCommand),
    /// Measure on a node of its own whether the time of an answer tells what the answer hides; exit with 0 when no difference
    /// is found, 1 when one is, 2 when this machine cannot tell
    Selftest {
        /// What to measure: the time of refused logins
        #[arg(long, required = true)]
        timing: bool,
        /// Calls of each kind; the more, the smaller a difference is found (20 to 100000)
        #[arg(long, value_name = "COUNT", default_value_t = 500, value_parser = clap::value_parser!(u32).range(20..=100_000))]
        samples: u32,
    },
    /// Copy every user from one store to another; no node may use either. Safe to repeat
    Copy {
        /// Where users are; the flags for stores hold for both
        #[arg(long, value_name = "URL", value_parser = StoreUrlParser)]
        from: StoreUrl,
        /// Where they shall be; a user who is there already and differs is reported and not touched
        #[arg(long, value_name = "URL", value_parser = StoreUrlParser)]
        to: StoreUrl,
    },
}

/// What an operator does with a user. A name counts in any spelling.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum UserCommand {
    /// Print a user and the state of the account
    Show {
        /// The user's name
        #[arg(required_unless_present = "id", conflicts_with = "id")]
        name: Option<String>,
        /// The user's id, instead of the name
        #[arg(long)]
        id: Option<String>,
        /// One JSON object instead of lines
        #[arg(long)]
        json: bool,
    },
    /// Refuse the user's logins and end all sessions
    Disable {
        /// The user's name
        name: String,
    },
    /// Let a disabled user sign in again
    Enable {
        /// The user's name
        name: String,
    },
    /// Forget how often the user's password was wrong
    Unlock {
        /// The user's name
        name: String,
    },
    /// Print a code with which the user sets a new password: good once, for 15 minutes
    ResetCode {
        /// The user's name
        name: String,
        /// For a password that may be known to somebody: it no longer counts, and all sessions end
        #[arg(long)]
        require_reset: bool,
    },
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

    /// Ops door, /healthz, /readyz and /metrics: IP:PORT, unix:/path or off
    #[arg(long, global = true, env = "WATCHWORD_OPS_ADDR", value_name = "ADDR", default_value = "127.0.0.1:50052")]
    pub ops_addr: OrOff,

    /// Admin door, for operators: unix:/path, off, or auto: admin.sock in --data-dir, if it can be had. Only the user of the
    /// service may open it
    #[arg(long, global = true, env = "WATCHWORD_ADMIN_ADDR", value_name = "ADDR", default_value = "auto")]
    pub admin_addr: AdminAddr,

    /// Where users are kept: embedded: (a file in --data-dir), redis://USER@HOST:PORT/DATABASE (all but the host may be
    /// left out), rediss://… (the same over TLS) or memory: (nothing is kept)
    #[arg(long, global = true, env = "WATCHWORD_STORE", value_name = "URL", default_value = "embedded:",
          value_parser = StoreUrlParser)]
    pub store: StoreUrl,

    /// Folder of the embedded store; made when missing, for this user alone
    #[arg(long, global = true, env = "WATCHWORD_DATA_DIR", value_name = "DIR", default_value = "./watchword-data")]
    pub data_dir: PathBuf,

    /// File whose first line is the password for Redis
    #[arg(long, global = true, env = "WATCHWORD_STORE_PASSWORD_FILE", value_name = "FILE")]
    pub store_password_file: Option<PathBuf>,

    /// File of PEM certificates that sign Redis's own, for rediss://; default: those that the machine trusts
    #[arg(long, global = true, env = "WATCHWORD_STORE_CA_FILE", value_name = "FILE")]
    pub store_ca_file: Option<PathBuf>,

    /// What every key in Redis begins with
    #[arg(long, global = true, env = "WATCHWORD_REDIS_PREFIX", value_name = "TEXT", default_value = "watchword:")]
    pub redis_prefix: KeyPrefix,

    /// File that says how the signing keys are kept in the store, a line each: 64 hexadecimal digits of a key that seals
    /// them, or plain; the first is how they are written, all of them how they are read. Default: plain
    #[arg(long, global = true, env = "WATCHWORD_SEAL_KEY_FILE", value_name = "FILE")]
    pub seal_key_file: Option<PathBuf>,

    /// What Redis must promise at start: strict (nothing acknowledged is lost: appendonly yes, appendfsync always,
    /// maxmemory-policy noeviction) or relaxed (a warning where it falls short)
    #[arg(long, global = true, env = "WATCHWORD_REDIS_DURABILITY", value_name = "WHAT", default_value = "strict")]
    pub redis_durability: Durability,

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

    /// File of passwords that nobody may choose, one a line, in any case; at most 32 MiB, which are kept in memory. The 10000
    /// most common ones are refused without it
    #[arg(long, global = true, env = "WATCHWORD_PASSWORD_BLOCKLIST_FILE", value_name = "FILE")]
    pub password_blocklist_file: Option<PathBuf>,

    /// Words that everybody would try here, such as a company's name, separated by commas (100 at most): no password may
    /// consist of one, with digits or signs around it or not. The username and watchword are such words without it
    #[arg(long, global = true, env = "WATCHWORD_PASSWORD_CONTEXT_WORDS", value_name = "WORDS", value_delimiter = ',',
          value_parser = ContextWord::parse)]
    pub password_context_words: Vec<ContextWord>,

    /// Longest user data, in bytes (0 to 12288)
    #[arg(long, global = true, env = "WATCHWORD_DATA_MAX_BYTES", value_name = "BYTES", default_value_t = 8_192,
          value_parser = clap::value_parser!(u16).range(0..=12_288))]
    pub data_max_bytes: u16,

    /// Which calls need a proof of work (ALTCHA), about a second of a browser's time for each; challenges are given whatever
    /// this says
    #[arg(long, global = true, env = "WATCHWORD_CHALLENGE", value_name = "WHICH", default_value = "off")]
    pub challenge: Challenge,

    /// Who makes the tokens: their `iss`, the same on all nodes that share a store; default: the address of the HTTP door,
    /// where that is loopback
    #[arg(long, global = true, env = "WATCHWORD_TOKEN_ISSUER", value_name = "URL", value_parser = name)]
    pub token_issuer: Option<String>,

    /// For whom the tokens are: their `aud`; default: watchword, where the doors are loopback
    #[arg(long, global = true, env = "WATCHWORD_TOKEN_AUDIENCE", value_name = "NAME", value_parser = name)]
    pub token_audience: Option<String>,

    /// File of the services that may introspect and revoke tokens over HTTP (/oauth2/…), a line NAME:SECRET each; without
    /// it nobody can
    #[arg(long, global = true, env = "WATCHWORD_OAUTH_CLIENTS_FILE", value_name = "FILE")]
    pub oauth_clients_file: Option<PathBuf>,

    /// Who says the end user's address in x-forwarded-for, in HTTP and in gRPC: addresses, networks such as 10.0.0.0/8, or
    /// unix for whoever comes over a Unix socket; nobody else is believed
    #[arg(long, global = true, env = "WATCHWORD_TRUSTED_PROXY", value_name = "NETWORK", value_delimiter = ',')]
    pub trusted_proxy: Vec<TrustedProxies>,

    /// Whether guessing and registering are limited
    #[arg(long, global = true, env = "WATCHWORD_THROTTLE", value_name = "WHEN", default_value = "on")]
    pub throttle: Switch,

    /// Wrong passwords from one end user's address, at whatever accounts: at once, and evenly in so much time (COUNT/TIME)
    #[arg(long, global = true, env = "WATCHWORD_THROTTLE_PER_ADDRESS", value_name = "RATE", default_value = "100/10m")]
    pub throttle_per_address: Rate,

    /// Wrong passwords at one account from wherever nobody has signed in to it before
    #[arg(long, global = true, env = "WATCHWORD_THROTTLE_PER_ACCOUNT", value_name = "RATE", default_value = "10/5m")]
    pub throttle_per_account: Rate,

    /// Wrong passwords from one address, or in one session, at one account
    #[arg(
        long,
        global = true,
        env = "WATCHWORD_THROTTLE_PER_ADDRESS_AND_ACCOUNT",
        value_name = "RATE",
        default_value = "5/5m"
    )]
    pub throttle_per_address_and_account: Rate,

    /// Registrations from one end user's address, whatever becomes of them
    #[arg(long, global = true, env = "WATCHWORD_THROTTLE_REGISTRATIONS", value_name = "RATE", default_value = "60/1h")]
    pub throttle_registrations: Rate,

    /// Wrong passwords of everybody together, beyond which the log and a metric raise an alarm; nobody is refused
    #[arg(long, global = true, env = "WATCHWORD_FAILURE_ALERT", value_name = "RATE", default_value = "1000/1m")]
    pub failure_alert: Rate,

    /// Wrong passwords in a row after which the password alone no longer opens an account, but from addresses that signed in
    /// to it before, or with proof of work, until it is reset (10 to 1000; NIST asks for 100 at most)
    #[arg(long, global = true, env = "WATCHWORD_FAILURE_CAP", value_name = "COUNT", default_value_t = 100,
          value_parser = clap::value_parser!(u32).range(10..=1_000))]
    pub failure_cap: u32,

    /// Let the password open such an account nowhere at all, as NIST has it to the letter: then anybody can lock anybody out
    #[arg(long, global = true, env = "WATCHWORD_FAILURE_CAP_STRICT")]
    pub failure_cap_strict: bool,

    /// How long an access token lives (10s to 1h)
    #[arg(long, global = true, env = "WATCHWORD_ACCESS_TOKEN_LIFETIME", value_name = "TIME", default_value = "5m",
          value_parser = |text: &str| time(text, Duration::from_secs(10), Duration::from_secs(3_600)))]
    pub access_token_lifetime: Duration,

    /// How long a session lives that nobody refreshes (1m to 90d)
    #[arg(long, global = true, env = "WATCHWORD_SESSION_IDLE_LIFETIME", value_name = "TIME", default_value = "30d",
          value_parser = |text: &str| time(text, Duration::from_secs(60), SESSION_MAX))]
    pub session_idle_lifetime: Duration,

    /// How long a session lives, whatever happens (1m to 90d)
    #[arg(long, global = true, env = "WATCHWORD_SESSION_LIFETIME", value_name = "TIME", default_value = "90d",
          value_parser = |text: &str| time(text, Duration::from_secs(60), SESSION_MAX))]
    pub session_lifetime: Duration,

    /// How long a positive check of an access token may be answered again after the store was asked, or after Redis said
    /// that nothing of it has changed (0s to 800ms): what ends a session elsewhere is seen by then, and what this node ends at
    /// once
    #[arg(long, global = true, env = "WATCHWORD_TOKEN_CHECK_REUSE", value_name = "TIME", default_value = "800ms",
          value_parser = |text: &str| time(text, Duration::ZERO, Duration::from_millis(800)))]
    pub token_check_reuse: Duration,

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

    /// Where it is written who did what: log (among everything else), off, stdout, or the path of a file, which SIGHUP opens
    /// anew; the last two as one JSON object a line
    #[arg(long, global = true, env = "WATCHWORD_AUDIT_LOG", value_name = "WHERE", default_value = "log")]
    pub audit_log: telemetry::AuditLog,
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

/// Which calls need a proof of work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Challenge {
    /// None.
    Off,
    /// Registrations.
    Register,
    /// Logins.
    Login,
    /// Both.
    Both,
}

/// On or off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Switch {
    On,
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

/// The value of `--admin-addr`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AdminAddr {
    /// In the data folder, if it can be had.
    Auto,
    /// Nowhere.
    Off,
    /// A Unix socket.
    Unix(PathBuf),
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

/// Reads `--store` without repeating what it refuses, as clap would: it may hold a password.
#[derive(Debug, Clone)]
struct StoreUrlParser;

/// A number of hash workers, or what the machine allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Workers(pub Option<usize>);

/// No session lives longer.
const SESSION_MAX: Duration = Duration::from_secs(90 * 86_400);

/// Characters of an issuer or audience at most.
const NAME_CHARS_MAX: usize = 200;

fn time(text: &str, least: Duration, most: Duration) -> Result<Duration, String> {
    let time = humantime::parse_duration(text).map_err(|fault| fault.to_string())?;
    if (least..=most).contains(&time) {
        return Ok(time);
    }
    Err(format!("expected {} to {}", humantime::format_duration(least), humantime::format_duration(most)))
}

/// What stands in tokens for a party.
fn name(text: &str) -> Result<String, String> {
    if text.is_empty() || text.len() > NAME_CHARS_MAX || !text.chars().all(|c| c.is_ascii_graphic()) {
        return Err(format!("expected 1 to {NAME_CHARS_MAX} printable ASCII characters without blanks"));
    }
    Ok(text.to_owned())
}

// === text forms ===

impl FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let expected = || "expected COUNT/TIME such as 10/5m: 1 to 1000000 in 1s to 24h".to_owned();
        let (most, per) = text.split_once('/').ok_or_else(expected)?;
        let most = most.parse().ok().filter(|most| (1..=1_000_000).contains(most)).ok_or_else(expected)?;
        let per = time(per, Duration::from_secs(1), Duration::from_secs(86_400)).map_err(|_| expected())?;
        Ok(Self { most, per })
    }
}

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

impl FromStr for AdminAddr {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match (text, text.parse()) {
            ("auto", _) => Ok(AdminAddr::Auto),
            ("off", _) => Ok(AdminAddr::Off),
            (_, Ok(Address::Unix(path))) => Ok(AdminAddr::Unix(path)),
            (_, Ok(Address::Tcp(_)) | Err(_)) => {
                Err("expected unix:/path, auto or off: operators come over a Unix socket alone".into())
            }
        }
    }
}

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

impl From<Challenge> for ChallengeRules {
    fn from(which: Challenge) -> Self {
        let (register, login) = match which {
            Challenge::Off => (false, false),
            Challenge::Register => (true, false),
            Challenge::Login => (false, true),
            Challenge::Both => (true, true),
        };
        Self { register, login, work: Work::DEFAULT }
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
