//! Which Redis: `--store redis://…`, its password file and its certificate authority.
//!
//! A password never stands in the URL, since command lines are for everybody to read.

use std::{fmt, fs, path::PathBuf, str::FromStr, time::Duration};

use redis::{
    Client, ConnectionAddr, ConnectionInfo, IntoConnectionInfo, ProtocolVersion, TlsCertificates,
    io::tcp::{TcpSettings, socket2::TcpKeepalive},
};
use rustls::pki_types::{CertificateDer, pem::PemObject};

use super::OpenError;
use crate::store::document_store::{Key, Kind};

/// A port that no URL names.
const PORT: u16 = 6379;

/// Sent bytes that Redis does not acknowledge for this long end the connection, whatever the kernel's own patience.
const USER_TIMEOUT: Duration = Duration::from_secs(3);

/// After this much silence the kernel asks whether Redis is there, this often, and this many times.
const KEEPALIVE: Duration = Duration::from_secs(5);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(1);
const KEEPALIVE_PROBES: u32 = 3;

/// Bytes of a password file at most: a file of this size is some other file.
const PASSWORD_FILE_BYTES_MAX: usize = 1_024;

/// Characters of a key prefix at most.
const PREFIX_CHARS_MAX: usize = 64;

/// How to reach Redis and what to ask of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RedisSettings {
    /// Where it is.
    pub url: RedisUrl,
    /// A file whose first line is the password.
    pub password_file: Option<PathBuf>,
    /// A file of PEM certificates to trust instead of the machine's own.
    pub ca_file: Option<PathBuf>,
    /// What every key begins with.
    pub prefix: Prefix,
    /// What Redis must promise.
    pub durability: Durability,
    /// How often Redis's own settings are read again.
    pub check_interval: Duration,
}

/// What Redis must promise at start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// Nothing acknowledged is lost: an append-only file, synced at every write, and no eviction.
    Strict,
    /// Whatever Redis is set to; what falls short is a warning.
    Relaxed,
}

/// `redis://[user@]host[:port][/database]`, or `rediss://…` for TLS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RedisUrl {
    tls: bool,
    user: Option<String>,
    host: String,
    port: u16,
    database: u16,
}

/// What every key begins with, so that other programs can use the same Redis.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prefix(String);

// === text forms ===

impl FromStr for Durability {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "strict" => Ok(Durability::Strict),
            "relaxed" => Ok(Durability::Relaxed),
            _ => Err("expected strict or relaxed".into()),
        }
    }
}

impl fmt::Display for Durability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Durability::Strict => "strict",
            Durability::Relaxed => "relaxed",
        })
    }
}

// === impl RedisUrl ===

impl RedisUrl {
    /// The user that Redis knows, if one is named.
    pub fn user(&self) -> Option<&str> {
        self.user.as_deref()
    }

    /// Whether it is `rediss://`.
    pub fn is_tls(&self) -> bool {
        self.tls
    }

    /// Whether bytes travel without TLS to another machine.
    pub(super) fn is_plain_beyond_loopback(&self) -> bool {
        let loopback = match self.host.parse::<std::net::IpAddr>() {
            Ok(address) => address.to_canonical().is_loopback(),
            Err(_) => self.host.eq_ignore_ascii_case("localhost"),
        };
        !self.tls && !loopback
    }
}

impl FromStr for RedisUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const FORM: &str = "expected redis://[user@]host[:port][/database], or rediss://… for TLS";
        let parsed = redis::parse_redis_url(text).ok_or(FORM)?;
        let tls = match parsed.scheme() {
            "redis" => false,
            "rediss" => true,
            _ => return Err(FORM.into()),
        };
        if parsed.password().is_some() {
            return Err("a password inside the URL is for everybody to read; put it into a file and name that with \
                        --store-password-file"
                .into());
        }
        if parsed.query().is_some() || parsed.fragment().is_some() {
            return Err(FORM.into());
        }
        let database = match parsed.path().strip_prefix('/').unwrap_or_default() {
            "" => 0,
            number => {
                number.parse().map_err(|_| format!("behind the slash stands the number of a database; {FORM}"))?
            }
        };
        // `[::1]` in a URL, `::1` to a socket.
        let host = parsed.host_str().filter(|host| !host.is_empty()).ok_or(FORM)?;
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        // As the crate reads it: percent escapes are undone.
        let info = text.into_connection_info().map_err(|_| FORM)?;
        let user = info.redis_settings().username().map(str::to_owned);
        Ok(Self { tls, user, host, port: parsed.port().unwrap_or(PORT), database })
    }
}

impl fmt::Display for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.tls { "rediss://" } else { "redis://" })?;
        if let Some(user) = &self.user {
            write!(f, "{user}@")?;
        }
        if self.host.contains(':') {
            write!(f, "[{}]", self.host)?
        } else {
            f.write_str(&self.host)?
        }
        write!(f, ":{}/{}", self.port, self.database)
    }
}

// === impl Prefix ===

impl Prefix {
    /// Where a document is.
    pub(super) fn key(&self, key: &Key) -> String {
        let kind = key.kind.name();
        // Of what there is one the kind says it all.
        if key.name.is_empty() { self.own_key(kind) } else { format!("{}{kind}:{}", self.0, key.name) }
    }

    /// Reads what `key` wrote; otherwise answers the part that says of which kind it would be.
    pub(super) fn parse(&self, text: &str) -> Result<Key, String> {
        let rest = text.strip_prefix(&self.0).unwrap_or(text);
        let (kind, name) = rest.split_once(':').unwrap_or((rest, ""));
        let known = Kind::ALL.into_iter().find(|known| known.name() == kind);
        known.map(|kind| Key::new(kind, name)).ok_or_else(|| format!("{}{kind}:", self.0))
    }

    /// The key of a thing of which there is one.
    pub(super) fn own_key(&self, name: &str) -> String {
        format!("{}{name}", self.0)
    }
}

impl FromStr for Prefix {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // Nothing that means something to SCAN's patterns or to a Cluster's hash tags.
        let fits = |c: char| c.is_ascii_alphanumeric() || ":_-./".contains(c);
        if text.is_empty() || text.len() > PREFIX_CHARS_MAX || !text.chars().all(fits) {
            return Err(format!("expected 1 to {PREFIX_CHARS_MAX} letters, digits and : _ - . /"));
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

// === impl RedisSettings ===

impl RedisSettings {
    /// A client that has not connected yet.
    pub(super) fn client(&self, protocol: ProtocolVersion) -> Result<Client, OpenError> {
        let info = self.connection_info(protocol)?;
        let client = match &self.ca_file {
            None => Client::open(info),
            Some(path) => {
                let fault = |what: &str| OpenError(format!("--store-ca-file {}: {what}", path.display()));
                let certificates = fs::read(path).map_err(|cause| fault(&cause.to_string()))?;
                // An empty list would be taken, and then nobody is trusted.
                if CertificateDer::pem_slice_iter(&certificates).next().is_none() {
                    return Err(fault("holds no certificate in PEM form"));
                }
                let certificates = TlsCertificates { client_tls: None, root_cert: Some(certificates) };
                Client::build_with_tls(info, certificates)
            }
        };
        client.map_err(|cause| match &self.ca_file {
            Some(path) => OpenError(format!("--store-ca-file {}: {cause}", path.display())),
            None => OpenError(format!("--store {}: {cause}", self.url)),
        })
    }

    fn connection_info(&self, protocol: ProtocolVersion) -> Result<ConnectionInfo, OpenError> {
        let RedisUrl { tls, user, host, port, database } = &self.url;
        let address = if *tls {
            ConnectionAddr::TcpTls { host: host.clone(), port: *port, insecure: false, tls_params: None }
        } else {
            ConnectionAddr::Tcp(host.clone(), *port)
        };
        let info =
            address.into_connection_info().map_err(|cause| OpenError(format!("--store {}: {cause}", self.url)))?;
        let mut login = info.redis_settings().clone().set_protocol(protocol).set_skip_set_lib_name();
        login = login.set_db((*database).into());
        if let Some(user) = user {
            login = login.set_username(user);
        }
        if let Some(password) = self.password()? {
            login = login.set_password(password.as_str());
        }
        let keepalive =
            TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE_INTERVAL).with_retries(KEEPALIVE_PROBES);
        let mut tcp = TcpSettings::default().set_nodelay(true).set_keepalive(keepalive);
        #[cfg(target_os = "linux")]
        {
            tcp = tcp.set_user_timeout(USER_TIMEOUT);
        }
        Ok(info.set_redis_settings(login).set_tcp_settings(tcp))
    }

    fn password(&self) -> Result<Option<zeroize::Zeroizing<String>>, OpenError> {
        let Some(path) = &self.password_file else { return Ok(None) };
        let fault = |what: &str| OpenError(format!("--store-password-file {}: {what}", path.display()));
        let text = zeroize::Zeroizing::new(fs::read_to_string(path).map_err(|cause| fault(&cause.to_string()))?);
        let password = text.lines().next().unwrap_or_default();
        if password.is_empty() || text.len() > PASSWORD_FILE_BYTES_MAX {
            return Err(fault("its first line must be the password, and nothing else need be in it"));
        }
        if password.trim() != password || password.starts_with('\u{feff}') {
            tracing::warn!(file = %path.display(), "the password in it begins or ends with a blank or a byte-order mark");
        }
        Ok(Some(password.to_owned().into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_read_and_shown_without_surprise() {
        for (text, shown) in [
            ("redis://127.0.0.1", "redis://127.0.0.1:6379/0"),
            ("redis://localhost:7000/3", "redis://localhost:7000/3"),
            ("rediss://watchword@redis.internal", "rediss://watchword@redis.internal:6379/0"),
            ("redis://[::1]:6380/", "redis://[::1]:6380/0"),
        ] {
            let url: RedisUrl = text.parse().unwrap();
            assert_eq!(url.to_string(), shown);
            assert_eq!(shown.parse(), Ok(url), "what is shown can be used");
        }
    }

    #[test]
    fn other_urls_are_refused_and_a_password_is_never_repeated() {
        for text in [
            "redis:",
            "redis://",
            "http://h",
            "redis://h/x",
            "redis://h/-1",
            "redis://h//3",
            "redis://h?db=1",
            "redis://h/99999",
        ] {
            assert!(text.parse::<RedisUrl>().is_err(), "{text}");
        }
        // A password may hold a slash, and then what stands before it looks like a host and a port.
        for text in
            ["redis://user:hunter2@h", "redis://user:/hunter2@h", "redis://user:12/hunter2@h", "redis://:hunter2@h"]
        {
            let refused = text.parse::<RedisUrl>().unwrap_err();
            assert!(!refused.contains("hunter2"), "{refused}");
        }
        let refused = "redis://user:hunter2@h".parse::<RedisUrl>().unwrap_err();
        assert!(refused.contains("--store-password-file"), "{refused}");
    }

    #[test]
    fn plain_text_to_another_machine_is_noticed() {
        let plain = |text: &str| text.parse::<RedisUrl>().unwrap().is_plain_beyond_loopback();
        assert!(plain("redis://redis.internal") && plain("redis://10.0.0.1"));
        assert!(!plain("rediss://redis.internal") && !plain("redis://127.0.0.1") && !plain("redis://[::1]"));
    }

    #[test]
    fn prefixes_hold_nothing_that_scans_or_clusters_read() {
        for text in ["", "a*", "{a}", "a b", "ä", "a?"] {
            assert!(text.parse::<Prefix>().is_err(), "{text:?}");
        }
        let prefix: Prefix = "watchword:".parse().unwrap();
        for (key, text) in [
            (Key::new(Kind::User, "a:b"), "watchword:user:a:b"),
            (Key::new(Kind::Sessions, "x"), "watchword:sessions:x"),
            (Key::new(Kind::Keys, ""), "watchword:keys"),
        ] {
            assert_eq!(prefix.key(&key), text);
            assert!(prefix.parse(text) == Ok(key), "{text}");
        }
        assert_eq!(prefix.parse("watchword:future:x"), Err("watchword:future:".into()));
    }
}
