//! Who is asking, through which door, and until when. Plain data; it decides nothing.

use std::{
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

use crate::common::bearer;

/// For calls that name no deadline.
pub const DEADLINE_DEFAULT: Duration = Duration::from_secs(5);

/// One call's circumstances, made by the door that took the call.
#[derive(Debug, Clone)]
pub struct CallContext {
    /// The door.
    pub api: Api,
    /// The other end of the connection.
    pub peer: Peer,
    /// The end user's address, where the door knows it: that is what limits by address count. A gRPC caller is a service,
    /// whose own address is nobody's.
    pub client: Option<IpAddr>,
    /// When the answer is of no more use to the caller.
    pub deadline: Instant,
    /// The token that came with the call.
    pub bearer: Bearer,
    /// What the caller says it is; empty when it does not.
    pub user_agent: String,
}

/// The access token of a call (RFC 6750 2.1).
#[derive(Clone, Default)]
pub enum Bearer {
    /// None came.
    #[default]
    Missing,
    /// Something came that is not exactly one token.
    Malformed,
    /// This one; nobody has looked at it yet.
    Token(String),
}

// Whoever has the token is the user.
impl std::fmt::Debug for Bearer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Bearer::Missing => "Missing",
            Bearer::Malformed => "Malformed",
            Bearer::Token(_) => "Token",
        })
    }
}

/// A way into the service.
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
    /// Where the call comes from, as far as anybody knows: the end user, or else the service that calls for him.
    pub fn address(&self) -> Peer {
        self.client.map_or(self.peer, Peer::Ip)
    }
}

impl Api {
    /// The door's name in logs.
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
    /// An internet address. IPv4-mapped IPv6 addresses are unmapped, so that one caller has one address.
    Ip(IpAddr),
    /// A process on this machine, through a Unix socket; and whose it is, when the kernel said so.
    Local {
        /// The user of this machine.
        uid: Option<u32>,
    },
}

impl Peer {
    /// The user of this machine, if it is one.
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
    /// Reads the value of `user-agent`; what is not text is nothing.
    pub fn user_agent(value: Option<&[u8]>) -> String {
        value.and_then(|value| str::from_utf8(value).ok()).filter(|text| text.is_ascii()).unwrap_or_default().to_owned()
    }
}

impl Bearer {
    /// Reads the values of `authorization`.
    pub fn parse<'a>(values: impl Iterator<Item = &'a [u8]>) -> Self {
        match bearer::token(values) {
            Ok(None) => Bearer::Missing,
            Ok(Some(token)) => Bearer::Token(token.to_owned()),
            Err(bearer::Malformed) => Bearer::Malformed,
        }
    }
}
