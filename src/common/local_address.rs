//! The address of this end of a connection, which `net` stores with each request and `http` compares with `Host`.

use std::net::IpAddr;

/// The address that the peer connected to. A connection over a Unix socket has none.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LocalAddress(pub(crate) IpAddr);
