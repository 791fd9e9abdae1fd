//! The call context: API, peer, client address, deadline and bearer token of a call. Plain data without rules.

use std::{
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

use crate::common::bearer::{self, HeaderFault};

/// Bytes of a user agent at most. Sessions and the audit log keep it as it is.
const USER_AGENT_BYTES_MAX: usize = 256;

/// The deadline of calls that set none.
pub const DEADLINE_DEFAULT: Duration = Duration::from_secs(5);

/// The circumstances of one call, created by the API that received it.
#[derive(Debug, Clone)]
pub struct CallContext {
    /// The API.
    pub api: Api,
    /// The other end of the connection.
    pub peer: Peer,
    /// The client address, if the API knows it. Rate limits by address use it. A gRPC caller is a service, whose address
    /// does not identify an end user.
    pub client: Option<IpAddr>,
    /// When the caller no longer needs the response.
    pub deadline: Instant,
    /// The bearer token of the call.
    pub bearer: Bearer,
    /// The user agent that the caller sent, or empty.
    pub user_agent: String,
}

/// The bearer token of a call (RFC 6750 section 2.1).
#[derive(Clone, Default)]
pub enum Bearer {
    /// No token.
    #[default]
    Missing,
    /// Credentials of another scheme, such as Basic, and no token.
    OtherScheme,
    /// Not exactly one token.
    Malformed,
    /// One token, not verified yet.
    Token(String),
}

// Does not print the token, which authenticates the user.
impl std::fmt::Debug for Bearer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Bearer::Missing => "Missing",
            Bearer::OtherScheme => "OtherScheme",
            Bearer::Malformed => "Malformed",
            Bearer::Token(_) => "Token",
        })
    }
}

/// An API of the service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Api {
    /// `watchword.auth.v1.Auth`.
    Grpc,
    /// `watchword.auth.v1.AuthAdmin`, for operators.
    Admin,
    /// The original query-string routes.
    Legacy,
    /// `/oauth2/…`
    OAuth,
    /// `/altcha/…`
    Altcha,
}

impl CallContext {
    /// The client address, or the peer if it is unknown.
    pub fn address(&self) -> Peer {
        self.client.map_or(self.peer, Peer::Ip)
    }
}

impl Api {
    /// The name in logs.
    pub fn name(self) -> &'static str {
        match self {
            Api::Grpc => "grpc",
            Api::Admin => "admin",
            Api::Legacy => "legacy",
            Api::OAuth => "oauth",
            Api::Altcha => "altcha",
        }
    }
}

/// The other end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peer {
    /// An internet address. IPv4-mapped IPv6 addresses are unmapped, so that a caller has one address.
    Ip(IpAddr),
    /// A process on this host, over a Unix socket.
    Local {
        /// The operating-system user, if the kernel reports it.
        uid: Option<u32>,
    },
}

impl Peer {
    /// The operating-system user of a local peer.
    pub fn uid(self) -> Option<u32> {
        match self {
            Peer::Ip(_) => None,
            Peer::Local { uid } => uid,
        }
    }
}

impl From<SocketAddr> for Peer {
    fn from(address: SocketAddr) -> Self {
        Peer::Ip(address.ip().to_canonical())
    }
}

impl std::fmt::Display for Peer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Peer::Ip(address) => address.fmt(f),
            Peer::Local { .. } => f.write_str("local"),
        }
    }
}

impl CallContext {
    /// Parses the value of `user-agent`, 256 bytes of it at most. What is not UTF-8 becomes U+FFFD. Control characters are
    /// removed, and so are those that change the direction of text or are invisible, which would hide what a log says.
    pub fn user_agent(value: Option<&[u8]>) -> String {
        let value = value.unwrap_or_default();
        let text = String::from_utf8_lossy(&value[..value.len().min(USER_AGENT_BYTES_MAX)]);
        let is_hidden = |c: char| {
            c.is_control()
                || matches!(c, '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}')
                || matches!(c, '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
        };
        let mut shown: String = text.chars().filter(|c| !is_hidden(*c)).collect();
        // U+FFFD has three bytes and can stand for one.
        shown.truncate(shown.floor_char_boundary(USER_AGENT_BYTES_MAX));
        shown
    }
}

impl Bearer {
    /// Parses the values of `authorization`.
    pub fn parse<'a>(values: impl Iterator<Item = &'a [u8]>) -> Self {
        match bearer::token(values) {
            Ok(None) => Bearer::Missing,
            Ok(Some(token)) => Bearer::Token(token.to_owned()),
            Err(HeaderFault::OtherScheme) => Bearer::OtherScheme,
            Err(HeaderFault::Malformed) => Bearer::Malformed,
        }
    }
}
