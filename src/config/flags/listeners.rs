//! Flags of the listeners: addresses, what each serves, and which proxies it trusts.

use std::{
    fmt,
    path::{Path, PathBuf},
    str::FromStr,
};

use clap::{Args, ValueEnum, builder::PossibleValue};

use super::{DataDirArgs, When};
use crate::{
    api::{
        forwarded::{ClientAddress, TrustedProxies},
        site::{HostName, WebOrigin},
    },
    net::Address,
};

/// All listeners.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Listeners")]
pub struct ListenerArgs {
    /// The gRPC listener.
    #[command(flatten)]
    pub grpc: GrpcListenerArgs,

    /// The HTTP listener.
    #[command(flatten)]
    pub http: HttpListenerArgs,

    /// Host names and origins.
    #[command(flatten)]
    pub site: SiteArgs,

    /// The ops listener.
    #[command(flatten)]
    pub ops: OpsListenerArgs,

    /// The admin listener.
    #[command(flatten)]
    pub admin: AdminListenerArgs,

    /// Allow the gRPC and HTTP listeners to accept plain text from other machines, where a proxy or mesh provides TLS
    #[arg(long, env = "WATCHWORD_INSECURE_PLAINTEXT")]
    pub insecure_plaintext: bool,

    /// Peers whose X-Forwarded-For header (HTTP and gRPC) is believed: addresses, networks such as 10.0.0.0/8, or unix for
    /// peers on a Unix socket; separated by commas. Default: none
    #[arg(long, env = "WATCHWORD_TRUSTED_PROXY", value_name = "NETWORK", value_delimiter = ',')]
    pub trusted_proxy: Vec<TrustedProxies>,

    /// Whose address counts as the end user's in a gRPC call. forwarded: the one that a --trusted-proxy sends. peer: that one,
    /// else the peer of the connection. none: no address; password attempts are limited by account alone. Default: forwarded
    /// with --trusted-proxy, else none on loopback; elsewhere it must be set
    #[arg(long, env = "WATCHWORD_CLIENT_ADDRESS", value_name = "WHOSE")]
    pub client_address: Option<ClientAddress>,
}

/// The gRPC listener.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
#[command(next_help_heading = "Listeners")]
pub struct GrpcListenerArgs {
    /// Address of the gRPC API: IP:PORT or unix:/path. Port 0 takes a free port
    #[arg(long, env = "WATCHWORD_GRPC_ADDR", value_name = "ADDR", default_value = "127.0.0.1:50051")]
    pub grpc_addr: Address,

    /// gRPC reflection. auto: on while --grpc-addr is loopback or a Unix socket
    #[arg(long, env = "WATCHWORD_REFLECTION", value_name = "WHEN", default_value = "auto")]
    pub reflection: When,
}

/// The HTTP listener.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
#[command(next_help_heading = "Listeners")]
pub struct HttpListenerArgs {
    /// Address of the HTTP API: IP:PORT, unix:/path or off
    #[arg(long, env = "WATCHWORD_HTTP_ADDR", value_name = "ADDR", default_value = "127.0.0.1:5000")]
    pub http_addr: OrOff,

    /// The original query-string routes, such as /login. auto: on while --http-addr is loopback or a Unix socket
    #[arg(long, env = "WATCHWORD_LEGACY_ROUTES", value_name = "WHEN", default_value = "auto")]
    pub legacy_routes: When,
}

/// Which host names the HTTP and ops listeners answer to, and which web pages may call them.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
#[command(next_help_heading = "Listeners")]
pub struct SiteArgs {
    /// More host names that the HTTP listener answers to, and the ops listener while it is on loopback; separated by
    /// commas. Always: 127.0.0.0/8, ::1, localhost, the address that the client connected to, and the host of
    /// --token-issuer. Others get 403, so that no web page reaches the listener by DNS rebinding. Default: none
    #[arg(long, env = "WATCHWORD_HTTP_ALLOW_HOST", value_name = "HOST", value_delimiter = ',')]
    pub http_allow_host: Vec<HostName>,

    /// Origins whose pages may send forms to the HTTP listener: SCHEME://HOST or SCHEME://HOST:PORT, separated by commas. Pages
    /// of the host that they call always may, and other pages get 403. Default: none
    #[arg(long, env = "WATCHWORD_HTTP_ALLOW_ORIGIN", value_name = "ORIGIN", value_delimiter = ',')]
    pub http_allow_origin: Vec<WebOrigin>,
}

/// The ops listener.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
#[command(next_help_heading = "Listeners")]
pub struct OpsListenerArgs {
    /// Address of /healthz, /readyz and /metrics: IP:PORT, unix:/path or off
    #[arg(long, env = "WATCHWORD_OPS_ADDR", value_name = "ADDR", default_value = "127.0.0.1:50052")]
    pub ops_addr: OrOff,
}

/// The admin listener.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
#[command(next_help_heading = "Listeners")]
pub struct AdminListenerArgs {
    /// Socket of the admin API, for the user that runs the service alone: unix:/path, off, or auto (admin.sock in --data-dir;
    /// a node that cannot create it starts without)
    #[arg(long, env = "WATCHWORD_ADMIN_ADDR", value_name = "ADDR", default_value = "auto")]
    pub admin_addr: AdminAddr,
}

/// An address, or no listener.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrOff(pub Option<Address>);

/// The value of `--admin-addr`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AdminAddr {
    /// In the data folder, if the socket can be created there.
    Auto,
    /// No admin listener.
    Off,
    /// A Unix socket.
    Unix(PathBuf),
}

impl GrpcListenerArgs {
    /// Whether reflection is served.
    pub fn reflection_is_on(&self) -> bool {
        self.reflection.is_on(self.grpc_addr.is_local())
    }
}

impl HttpListenerArgs {
    /// Whether the original routes are served.
    pub fn legacy_routes_are_on(&self) -> bool {
        self.legacy_routes.is_on(self.http_addr.0.as_ref().is_some_and(Address::is_local))
    }
}

impl AdminListenerArgs {
    /// The absolute path of the socket: a log is read in other folders than the node's.
    pub fn socket(&self, data: &DataDirArgs) -> Option<PathBuf> {
        let absolute = |path: &Path| std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        match &self.admin_addr {
            AdminAddr::Auto => Some(absolute(&data.data_dir.join("admin.sock"))),
            AdminAddr::Unix(path) => Some(absolute(path)),
            AdminAddr::Off => None,
        }
    }
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

impl FromStr for AdminAddr {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match (text, text.parse()) {
            ("auto", _) => Ok(AdminAddr::Auto),
            ("off", _) => Ok(AdminAddr::Off),
            (_, Ok(Address::Unix(path))) => Ok(AdminAddr::Unix(path)),
            (_, Ok(Address::Tcp(_)) | Err(_)) => {
                Err("expected unix:/path, auto or off: the admin API is served on a Unix socket only".into())
            }
        }
    }
}

impl ValueEnum for ClientAddress {
    fn value_variants<'a>() -> &'a [Self] {
        &[ClientAddress::Forwarded, ClientAddress::Peer, ClientAddress::None]
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(PossibleValue::new(match self {
            ClientAddress::Forwarded => "forwarded",
            ClientAddress::Peer => "peer",
            ClientAddress::None => "none",
        }))
    }
}
