//! Who is asking, through which door, and until when. Plain data; it decides nothing.

use std::{
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

/// For calls that name no deadline.
pub const DEADLINE_DEFAULT: Duration = Duration::from_secs(5);

/// One call's circumstances, made by the door that took the call.
#[derive(Debug, Clone)]
pub struct Caller {
    /// The door.
    pub door: Door,
    /// The other end of the connection.
    pub peer: Peer,
    /// When the answer is of no more use to the caller.
    pub deadline: Instant,
}

/// A way into the service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Door {
    /// `watchword.auth.v1.Auth`.
    Grpc,
    /// The original query-string routes.
    Legacy,
}

impl Door {
    /// The door's name in logs.
    pub fn name(self) -> &'static str {
        match self {
            Door::Grpc => "grpc",
            Door::Legacy => "legacy",
        }
    }
}

/// The other end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peer {
    /// An internet address. IPv4-mapped IPv6 addresses are unmapped, so that one caller has one address.
    Ip(IpAddr),
    /// A process on this machine, through a Unix socket.
    Local,
}

impl From<SocketAddr> for Peer {
    fn from(address: SocketAddr) -> Self {
        Peer::Ip(address.ip().to_canonical())
    }
}
