//! The settings of a connection to Redis: URL, password file, certificate authority, key prefix, durability.
//!
//! Password and certificates are read for each new connection, so a changed file is used without a restart. Does not know
//! what Redis is configured to do; that is `link/server_check.rs`.

use std::{fmt, io::Read, path::PathBuf, str::FromStr, time::Duration};

use redis::{
    Client, ConnectionAddr, ConnectionInfo, IntoConnectionInfo, ProtocolVersion, TlsCertificates,
    io::tcp::{TcpSettings, socket2::TcpKeepalive},
};
use rustls::pki_types::{CertificateDer, pem::PemObject};
use zeroize::Zeroizing;

use super::{KeyPrefix, OpenError, RedisUrl};
use crate::common::files;

/// Sent bytes that Redis does not acknowledge for this long end the connection.
const USER_TIMEOUT: Duration = Duration::from_secs(3);

/// After this much silence the kernel probes the connection, at this interval, and this many times.
const KEEPALIVE: Duration = Duration::from_secs(5);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(1);
const KEEPALIVE_PROBES: u32 = 3;

/// Bytes of a password file at most: a larger file is some other file.
const PASSWORD_FILE_BYTES_MAX: usize = 1_024;

/// How to reach Redis and what to require of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RedisSettings {
    /// Where it is.
    pub url: RedisUrl,
    /// A file whose first line is the password.
    pub password_file: Option<PathBuf>,
    /// A file of PEM certificates to trust instead of those of this machine.
    pub ca_file: Option<PathBuf>,
    /// What every key begins with.
    pub prefix: KeyPrefix,
    /// What Redis must guarantee.
    pub durability: Durability,
    /// How often the configuration of Redis is read again.
    pub check_interval: Duration,
    /// Whether a Redis without a store of Watchword is refused, not taken for a new one.
    pub must_exist: bool,
}

/// What Redis must guarantee at start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// Nothing that was acknowledged is lost: an append-only file, synced at every write, and no eviction.
    Strict,
    /// Any configuration of Redis; whatever can lose users is a warning.
    Relaxed,
}

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

impl RedisSettings {
    /// A client that has not connected yet.
    pub(super) fn client(&self, protocol: ProtocolVersion) -> Result<Client, OpenError> {
        let info = self.connection_info(protocol)?;
        let client = match &self.ca_file {
            None => Client::open(info),
            Some(path) => {
                let fault = |what: &str| OpenError(format!("--store-ca-file {}: {what}", path.display()));
                let mut certificates = Vec::new();
                let read = files::open_named(path).and_then(|mut file| file.read_to_end(&mut certificates));
                read.map_err(|cause| fault(&cause.to_string()))?;
                // The crate accepts an empty list, and then trusts no certificate.
                if CertificateDer::pem_slice_iter(&certificates).next().is_none() {
                    return Err(fault("contains no certificate in PEM form"));
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

    fn password(&self) -> Result<Option<Zeroizing<String>>, OpenError> {
        let Some(path) = &self.password_file else { return Ok(None) };
        let fault = |what: &str| OpenError(format!("--store-password-file {}: {what}", path.display()));
        let text = files::read_secret(path).map_err(|cause| fault(&cause.to_string()))?;
        let password = text.lines().next().unwrap_or_default();
        if password.is_empty() || text.len() > PASSWORD_FILE_BYTES_MAX {
            return Err(fault("its first line must be the password, and it contains nothing else"));
        }
        if password.trim() != password || password.starts_with('\u{feff}') {
            tracing::warn!(file = %path.display(), "the password in this file begins or ends with white space or a byte-order mark");
        }
        Ok(Some(password.to_owned().into()))
    }
}
