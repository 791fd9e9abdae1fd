//! Every setting once: its flag, variable, default, range and meaning.
//!
//! Flags (`flags.rs`) win over `WATCHWORD_…` variables. What clap cannot check alone, such as two settings that do not go
//! together, is checked in [`Config::from_settings`]; all such faults are reported at once. README's table is made of
//! what stands here.

mod flags;

use std::{
    ffi::OsString,
    fmt,
    fs::{self, File},
    io::Read,
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use clap::{CommandFactory, Parser};
use zeroize::Zeroizing;

pub use self::flags::{
    AdminAddr, Challenge, Command, CommandLine, Level, OrOff, Settings, StoreUrl, Switch, UserCommand, When, Workers,
};
use crate::{
    api::forwarded::TrustedProxies,
    common::host,
    domain::{
        Lifetimes, RateLimitSettings, Rules,
        password::{BLOCKLIST_BYTES_MAX, Blocklist, Cost, Policy, PoolSettings},
    },
    http::Clients,
    net::{Address, Limits},
    store::{self, RedisSettings, Seal},
    telemetry::AuditLog,
};

/// The audience of tokens on a machine of one's own.
const AUDIENCE: &str = "watchword";

/// Words in `--password-context-words` at most: each new password is compared with all of them.
const CONTEXT_WORDS_MAX: usize = 100;

/// How often Redis's own settings are read again.
const REDIS_CHECK_INTERVAL: Duration = Duration::from_secs(60);

/// The settings as the program uses them: checked, and nothing left to decide.
#[derive(Debug, Clone)]
pub struct Config {
    /// gRPC door.
    pub grpc: Address,
    /// HTTP door.
    pub http: Option<Address>,
    /// Ops door.
    pub ops: Option<Address>,
    /// Admin door: the path of its socket.
    pub admin: Option<PathBuf>,
    /// Whether somebody asked for that path; a node starts without the door otherwise, when it cannot be had.
    pub admin_is_named: bool,
    /// The store.
    pub store: store::StoreSettings,
    /// How the keys of tokens are kept in it.
    pub seal: Arc<Seal>,
    /// What input must keep to.
    pub rules: Rules,
    /// Who is believed about the end user's address.
    pub trusted_proxies: TrustedProxies,
    /// How much guessing is let through; no limit at all when there is none.
    pub throttle: Option<RateLimitSettings>,
    /// Who makes tokens; by default the HTTP door's address says it.
    pub token_issuer: Option<String>,
    /// For whom tokens are.
    pub token_audience: String,
    /// How long tokens and sessions live.
    pub lifetimes: Lifetimes,
    /// How long a positive check of an access token may be answered again.
    pub token_check_reuse: Duration,
    /// Who may introspect and revoke tokens over HTTP.
    pub oauth_clients: Option<Arc<Clients>>,
    /// The hash pool.
    pub hashing: PoolSettings,
    /// What each listener allows.
    pub limits: Limits,
    /// Whether the original routes are open.
    pub legacy_routes: bool,
    /// Whether reflection answers.
    pub reflection: bool,
    /// Where it is written who did what.
    pub audit_log: AuditLog,
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
        let mut faults = settings.conflicts();
        let oauth_clients = read("--oauth-clients-file", &settings.oauth_clients_file, Clients::parse);
        let oauth_clients = oauth_clients.map_err(|fault| faults.push(fault)).ok().flatten();
        let blocklist = settings.blocklist().map_err(|fault| faults.push(fault)).ok();
        let seal = read("--seal-key-file", &settings.seal_key_file, Seal::parse);
        let seal = seal.map_err(|fault| faults.push(fault)).ok().flatten().unwrap_or_else(Seal::none);
        let store = settings.store_at(&settings.store).map_err(|fault| faults.push(fault)).ok();
        let Some(store) = store.filter(|_| faults.is_empty()) else { return Err(ConfigError(faults)) };
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
            admin: settings.admin_socket(),
            admin_is_named: settings.admin_addr != AdminAddr::Auto,
            store,
            seal: Arc::new(seal),
            rules: Rules {
                password_policy: Policy {
                    chars_min: settings.password_min_length.into(),
                    blocklist: Arc::new(blocklist.unwrap_or_default()),
                    context_words: settings.password_context_words.clone().into(),
                },
                data_bytes_max: settings.data_max_bytes.into(),
                challenges: settings.challenge.into(),
            },
            trusted_proxies: TrustedProxies::all(settings.trusted_proxy.iter().cloned()),
            throttle: (settings.throttle == Switch::On).then(|| settings.throttles()),
            token_issuer: settings.token_issuer.clone(),
            token_audience: settings.token_audience.clone().unwrap_or_else(|| AUDIENCE.into()),
            lifetimes: Lifetimes {
                access: settings.access_token_lifetime,
                idle: settings.session_idle_lifetime,
                absolute: settings.session_lifetime,
            },
            token_check_reuse: settings.token_check_reuse,
            oauth_clients: oauth_clients.map(Arc::new),
            hashing: PoolSettings {
                workers: settings
                    .hash_workers
                    .0
                    .unwrap_or_else(|| host::hash_workers(u64::from(Cost::DEFAULT.memory_kib) * 1_024)),
                cost: Cost::DEFAULT,
            },
            limits: Limits { connections_max: settings.connections_max as usize, ..Limits::default() },
            legacy_routes: is_open(settings.legacy_routes, http_is_local),
            reflection: is_open(settings.reflection, settings.grpc_addr.is_local()),
            audit_log: settings.audit_log.clone(),
            drain_delay: settings.drain_delay,
            drain_timeout: settings.drain_timeout,
        })
    }
}

impl Settings {
    /// Which settings do not go together, and what to change.
    fn conflicts(&self) -> Vec<String> {
        let mut faults = Vec::new();
        let listeners = [("--grpc-addr", Some(&self.grpc_addr)), ("--http-addr", self.http_addr.0.as_ref())];
        for (flag, address) in listeners {
            if let Some(address) = address.filter(|address| !address.is_local() && !self.insecure_plaintext) {
                faults.push(format!(
                    "{flag} {address} can be reached from other machines, and passwords would travel in plain text: use a loopback \
                     address, or add --insecure-plaintext when something in front of it speaks TLS"
                ));
            }
        }
        let names = [("--token-issuer", &self.token_issuer), ("--token-audience", &self.token_audience)];
        let is_local = listeners.iter().filter_map(|(_, address)| *address).all(Address::is_local);
        for (flag, _) in names.iter().filter(|(_, name)| name.is_none() && !is_local) {
            faults.push(format!(
                "{flag} must be set when a door can be reached from other machines: it stands in every token, and whoever \
                 checks one compares it"
            ));
        }
        let files = [("--store-password-file", &self.store_password_file), ("--store-ca-file", &self.store_ca_file)];
        let is_redis = matches!(self.store, StoreUrl::Redis(_));
        for (flag, _) in files.iter().filter(|(_, file)| file.is_some() && !is_redis) {
            faults.push(format!("{flag} is for Redis: leave it out, or name a redis://… in --store"));
        }
        if self.password_context_words.len() > CONTEXT_WORDS_MAX {
            faults.push(format!("--password-context-words takes at most {CONTEXT_WORDS_MAX} words"));
        }
        if self.oauth_clients_file.is_some() && self.http_addr.0.is_none() {
            faults
                .push("--oauth-clients-file is for the HTTP door: leave it out, or give --http-addr an address".into());
        }
        faults
    }

    fn throttles(&self) -> RateLimitSettings {
        RateLimitSettings {
            per_address: self.throttle_per_address,
            per_account: self.throttle_per_account,
            per_address_and_account: self.throttle_per_address_and_account,
            registrations: self.throttle_registrations,
            alert: self.failure_alert,
            failure_cap: self.failure_cap,
            failure_cap_is_strict: self.failure_cap_strict,
        }
    }

    /// The operator's list of forbidden passwords; an empty one when none is named.
    fn blocklist(&self) -> Result<Blocklist, String> {
        let Some(path) = &self.password_blocklist_file else { return Ok(Blocklist::default()) };
        // One byte more than may be is enough to know.
        let most = BLOCKLIST_BYTES_MAX as u64 + 1;
        let mut bytes = Vec::new();
        let read = File::open(path).and_then(|file| file.take(most).read_to_end(&mut bytes));
        let list = read.map_err(|cause| cause.to_string()).and_then(|_| Blocklist::parse(bytes));
        list.map_err(|fault| format!("--password-blocklist-file {}: {fault}", path.display()))
    }

    /// Where the admin door is.
    pub fn admin_socket(&self) -> Option<PathBuf> {
        let path = match &self.admin_addr {
            AdminAddr::Auto => self.data_dir.join("admin.sock"),
            AdminAddr::Unix(path) => path.clone(),
            AdminAddr::Off => return None,
        };
        // Whoever reads it in a log or a message may stand elsewhere.
        Some(std::path::absolute(&path).unwrap_or(path))
    }

    /// The store at `url`, or which of the other flags does not go with it.
    pub fn store_at(&self, url: &StoreUrl) -> Result<store::StoreSettings, String> {
        match url {
            StoreUrl::Memory => Ok(store::StoreSettings::Memory),
            StoreUrl::Embedded => Ok(store::StoreSettings::Embedded(self.data_dir.clone())),
            StoreUrl::Redis(url) if self.store_ca_file.is_some() && !url.is_tls() => {
                Err(format!("--store-ca-file is for TLS: leave it out, or write rediss:// instead of {url}"))
            }
            StoreUrl::Redis(url) if url.user().is_some() && self.store_password_file.is_none() => {
                Err(format!("{url}: a user needs a password: name its file with --store-password-file"))
            }
            StoreUrl::Redis(url) => Ok(store::StoreSettings::Redis(RedisSettings {
                url: url.clone(),
                password_file: self.store_password_file.clone(),
                ca_file: self.store_ca_file.clone(),
                prefix: self.redis_prefix.clone(),
                durability: self.redis_durability,
                check_interval: REDIS_CHECK_INTERVAL,
            })),
        }
    }
}

/// What a file of secrets says, if one is named; a fault names its flag.
fn read<T>(
    flag: &str,
    file: &Option<PathBuf>,
    parse: impl FnOnce(&str) -> Result<T, String>,
) -> Result<Option<T>, String> {
    let Some(file) = file else { return Ok(None) };
    let text = fs::read_to_string(file).map(Zeroizing::new).map_err(|cause| cause.to_string());
    let parsed = text.and_then(|text| parse(&text));
    parsed.map(Some).map_err(|fault| format!("{flag} {}: {fault}", file.display()))
}

/// README's table of settings.
pub fn settings_table() -> String {
    let mut table = String::from("| flag, variable | default | meaning |\n|---|---|---|\n");
    for arg in CommandLine::command().get_arguments() {
        let (Some(flag), Some(variable)) = (arg.get_long(), arg.get_env()) else { continue };
        let default = arg
            .get_default_values()
            .first()
            .map_or(if arg.get_action().takes_values() { "none".into() } else { "off".into() }, |value| {
                value.to_string_lossy()
            });
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

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("\n"))
    }
}

impl std::error::Error for ConfigError {}
