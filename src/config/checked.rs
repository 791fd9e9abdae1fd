//! The settings as the program uses them: checked, with every `auto` decided and every file of secrets read.

use std::{ffi::OsString, fmt, path::PathBuf, sync::Arc, time::Duration};

use super::{
    AdminAddr, Command, CommandLine, RedisArgs, ResourceArgs, Settings, StoreUrl, UserArgs, conflicts::conflicts,
};
use crate::{
    api::{
        forwarded::{ClientAddress, TrustedProxies},
        site::SitePolicy,
    },
    common::{files, host},
    domain::{
        Lifetimes, RateLimitSettings, Rules,
        password::{Pepper, Policy, PoolSettings},
    },
    http::OAuthClients,
    net::{Address, Limits},
    store::{self, Seal},
    telemetry::AuditLog,
};

/// The audience of tokens where all listeners are local.
const AUDIENCE: &str = "watchword";

/// The settings of a node.
#[derive(Debug, Clone)]
pub struct Config {
    /// gRPC listener.
    pub grpc: Address,
    /// HTTP listener.
    pub http: Option<Address>,
    /// Ops listener.
    pub ops: Option<Address>,
    /// Admin listener: the path of its socket.
    pub admin: Option<PathBuf>,
    /// Whether that path was set. If not, a node that cannot create the socket starts without it.
    pub admin_is_named: bool,
    /// The store.
    pub store: store::StoreSettings,
    /// How the key ring is kept in it.
    pub seal: Arc<Seal>,
    /// What input must satisfy.
    pub rules: Rules,
    /// Peers whose X-Forwarded-For is believed.
    pub trusted_proxies: TrustedProxies,
    /// Whose address counts as the end user's in a gRPC call.
    pub client_address: ClientAddress,
    /// Host names and origins that the HTTP and ops listeners accept in addition to their own.
    pub site: SitePolicy,
    /// Rate limits; none when they are off.
    pub throttle: Option<RateLimitSettings>,
    /// Claim `iss`; by default the address of the HTTP listener.
    pub token_issuer: Option<String>,
    /// Claim `aud`.
    pub token_audience: String,
    /// Claim `client_id`.
    pub token_client_id: String,
    /// Lifetimes of tokens and sessions.
    pub lifetimes: Lifetimes,
    /// How long the introspection cache answers.
    pub token_check_reuse: Duration,
    /// How long a refresh with the same request id may be repeated.
    pub refresh_repeat: Duration,
    /// Services that may introspect and revoke tokens over HTTP.
    pub oauth_clients: Option<Arc<OAuthClients>>,
    /// The hash pool.
    pub hashing: PoolSettings,
    /// The keys that password hashes need.
    pub pepper: Arc<Pepper>,
    /// What each listener allows.
    pub limits: Limits,
    /// Whether the original routes are served.
    pub legacy_routes: bool,
    /// Whether reflection is served.
    pub reflection: bool,
    /// Destination of the audit log.
    pub audit_log: AuditLog,
    /// Time during which calls are still accepted after the signal.
    pub drain_delay: Duration,
    /// Time for running calls after that.
    pub drain_timeout: Duration,
    /// What an operator should know of these settings: files of secrets that other users can read.
    pub warnings: Vec<String>,
}

/// Settings that do not go together; each line says what to change.
#[derive(Debug)]
pub struct ConfigError(Vec<String>);

/// What was read from the files that settings name.
struct Files {
    oauth_clients: Option<Arc<OAuthClients>>,
    policy: Policy,
    pepper: Arc<Pepper>,
    seal: Arc<Seal>,
}

impl Config {
    /// Reads the arguments of a service as `main` does; for tests and for embedding. The first is the name of the program.
    pub fn from_args<I: Into<OsString> + Clone>(args: impl IntoIterator<Item = I>) -> Result<Self, String> {
        match CommandLine::parse(args).map_err(|error| error.to_string())?.command {
            Command::Serve(settings) => Self::from_settings(&settings).map_err(|error| error.to_string()),
            _ => Err("expected the flags of `watchword serve`".into()),
        }
    }

    /// The settings of a node that differs from the default in these alone.
    pub fn with_defaults(
        store: StoreUrl,
        redis: RedisArgs,
        users: UserArgs,
        resources: ResourceArgs,
    ) -> Result<Self, ConfigError> {
        let mut settings = Settings { users, resources, ..Settings::defaults() };
        settings.store.store = store;
        settings.store.access.redis = redis;
        Self::from_settings(&settings)
    }

    /// Checks what settings mean together.
    pub fn from_settings(settings: &Settings) -> Result<Self, ConfigError> {
        let mut faults = conflicts(settings);
        let files = Files::read(settings, &mut faults);
        let store = settings
            .store
            .access
            .store_at(&settings.store.store, settings.store.store_must_exist)
            .map_err(|fault| faults.push(fault))
            .ok();
        let hashing = hashing(settings).map_err(|fault| faults.push(fault)).ok();
        let (Some(files), Some(store), Some(hashing), true) = (files, store, hashing, faults.is_empty()) else {
            return Err(ConfigError(faults));
        };
        let Settings { listeners, store: store_args, users, tokens, abuse, logging, resources, shutdown } = settings;
        Ok(Self {
            grpc: listeners.grpc.grpc_addr.clone(),
            http: listeners.http.http_addr.0.clone(),
            ops: listeners.ops.ops_addr.0.clone(),
            admin: listeners.admin.socket(&store_args.access.data),
            admin_is_named: listeners.admin.admin_addr != AdminAddr::Auto,
            store,
            seal: files.seal,
            rules: Rules {
                password_policy: files.policy,
                data_bytes_max: users.data_max_bytes.into(),
                challenges: abuse.challenge.into(),
            },
            trusted_proxies: TrustedProxies::all(listeners.trusted_proxy.iter().cloned()),
            client_address: listeners.client_address.unwrap_or(match listeners.trusted_proxy.is_empty() {
                true => ClientAddress::None,
                false => ClientAddress::Forwarded,
            }),
            site: SitePolicy {
                hosts: listeners.site.http_allow_host.clone(),
                origins: listeners.site.http_allow_origin.clone(),
            },
            throttle: abuse.rate_limits(),
            token_issuer: tokens.token_issuer.clone(),
            token_audience: tokens.token_audience.clone().unwrap_or_else(|| AUDIENCE.into()),
            lifetimes: Lifetimes {
                access: tokens.access_token_lifetime,
                idle: tokens.session_idle_lifetime,
                absolute: tokens.session_lifetime,
            },
            token_client_id: tokens.token_client_id.clone(),
            token_check_reuse: tokens.token_check_reuse,
            refresh_repeat: tokens.refresh_repeat,
            oauth_clients: files.oauth_clients,
            hashing,
            pepper: files.pepper,
            limits: Limits { connections_max: resources.connections_max as usize, ..Limits::default() },
            legacy_routes: listeners.http.legacy_routes_are_on(),
            reflection: listeners.grpc.reflection_is_on(),
            audit_log: logging.audit_log.clone(),
            drain_delay: shutdown.drain_delay,
            drain_timeout: shutdown.drain_timeout,
            warnings: exposed_secrets(settings),
        })
    }
}

/// The hash pool, whose workers all keep their memory.
fn hashing(settings: &Settings) -> Result<PoolSettings, String> {
    const MIB: u64 = 1_024 * 1_024;
    let cost = settings.users.cost();
    let arena = u64::from(cost.memory_kib) * 1_024;
    let workers = settings.resources.hash_workers.0.unwrap_or_else(|| host::hash_workers(arena));
    let needed = arena.saturating_mul(workers as u64);
    match host::memory_bytes() {
        Some(limit) if needed > limit => Err(format!(
            "--argon2-memory-kib {} with {workers} hash workers needs {} MiB of memory, and this machine allows {} MiB: use \
             less memory, or fewer --hash-workers",
            cost.memory_kib,
            needed.div_ceil(MIB),
            limit / MIB,
        )),
        Some(_) | None => Ok(PoolSettings { workers, cost }),
    }
}

/// The warnings of files of secrets that other users can read.
fn exposed_secrets(settings: &Settings) -> Vec<String> {
    let files = [
        ("--seal-key-file", &settings.store.seal_key_file),
        ("--pepper-key-file", &settings.users.pepper_key_file),
        ("--store-password-file", &settings.store.access.redis.store_password_file),
        ("--oauth-clients-file", &settings.tokens.oauth_clients_file),
    ];
    let exposed = files.into_iter().filter_map(|(flag, file)| {
        let warning = files::exposure(file.as_ref()?)?;
        Some(format!("{flag} {warning}"))
    });
    exposed.collect()
}

impl Files {
    /// Reads all of them, so that all faults are reported at once.
    fn read(settings: &Settings, faults: &mut Vec<String>) -> Option<Self> {
        let oauth_clients = read("--oauth-clients-file", &settings.tokens.oauth_clients_file, OAuthClients::parse);
        let oauth_clients = oauth_clients.map_err(|fault| faults.push(fault));
        let blocklist = settings.users.blocklist().map_err(|fault| faults.push(fault));
        let seal =
            read("--seal-key-file", &settings.store.seal_key_file, Seal::parse).map_err(|fault| faults.push(fault));
        let pepper = read("--pepper-key-file", &settings.users.pepper_key_file, Pepper::parse)
            .map_err(|fault| faults.push(fault));
        let policy = Policy {
            chars_min: settings.users.password_min_length.into(),
            blocklist: Arc::new(blocklist.ok()?),
            context_words: settings.users.password_context_words.clone().into(),
        };
        Some(Self {
            oauth_clients: oauth_clients.ok()?.map(Arc::new),
            policy,
            pepper: Arc::new(pepper.ok()?.unwrap_or_default()),
            seal: Arc::new(seal.ok()?.unwrap_or_else(Seal::none)),
        })
    }
}

/// The content of a file of secrets, if one is named; a fault names its flag.
fn read<T>(
    flag: &str,
    file: &Option<PathBuf>,
    parse: impl FnOnce(&str) -> Result<T, String>,
) -> Result<Option<T>, String> {
    let Some(file) = file else { return Ok(None) };
    let text = files::read_secret(file).map_err(|cause| cause.to_string());
    let parsed = text.and_then(|text| parse(&text));
    parsed.map(Some).map_err(|fault| format!("{flag} {}: {fault}", file.display()))
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("\n"))
    }
}

impl std::error::Error for ConfigError {}
