//! The end user's address, where a trusted proxy sends it in `X-Forwarded-For`.
//!
//! Guarantees: from the right, the first address that is not a trusted proxy is the client address. A client can write
//! everything to the left of it. The header is ignored for every other peer, and so are `Forwarded` and `X-Real-IP`. A
//! hop that is not an address is an error: if it were ignored, rate limits would not count its user (CVE-2024-47070).
//! Sources: ASVS 5.0 15.3.4, RFC 7239 section 8.1.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    str::FromStr,
    sync::Once,
};

use http::HeaderMap;
use ipnet::IpNet;

use crate::domain::{Peer, Reason, Violation};

/// The header, and in gRPC the metadata of the same name.
const HEADER: &str = "x-forwarded-for";

/// The peers whose header is trusted: networks, and processes that connect over a Unix socket.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TrustedProxies {
    networks: Vec<IpNet>,
    unix: bool,
}

impl TrustedProxies {
    /// The union of several settings.
    pub fn all(many: impl IntoIterator<Item = TrustedProxies>) -> Self {
        many.into_iter().fold(Self::default(), |mut all, one| {
            all.networks.extend(one.networks);
            all.unix |= one.unix;
            all
        })
    }

    /// Whether no peer is trusted.
    pub fn is_empty(&self) -> bool {
        self.networks.is_empty() && !self.unix
    }

    /// The end user's address, as `peer` sends it; `None` if it sends none, or is not trusted.
    ///
    /// # Errors
    /// A trusted proxy sent a hop that is not an address.
    pub(crate) fn client(&self, peer: Peer, headers: &HeaderMap) -> Result<Option<IpAddr>, Violation> {
        let is_trusted = match peer {
            Peer::Ip(address) => self.has(address),
            Peer::Local { .. } => self.unix,
        };
        if !is_trusted {
            if headers.contains_key(HEADER) {
                warn_once(peer);
            }
            return Ok(None);
        }
        let mut nearest = None;
        // Repeated headers are one list (RFC 9110 section 5.3).
        for value in headers.get_all(HEADER).iter().rev() {
            for hop in value.as_bytes().rsplit(|byte| *byte == b',') {
                let address = parse(hop).ok_or_else(|| {
                    let what = "has a hop that is not an IP address; check what the trusted proxy sends";
                    Violation::new(HEADER, Reason::Malformed, what)
                })?;
                nearest = Some(address);
                if !self.has(address) {
                    return Ok(nearest);
                }
            }
        }
        Ok(nearest)
    }

    fn has(&self, address: IpAddr) -> bool {
        self.networks.iter().any(|network| network.contains(&address))
    }
}

/// Whose address counts as the end user's in a gRPC call. Over HTTP it is that of the peer, unless a trusted proxy sends
/// another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientAddress {
    /// The address that a trusted proxy sends.
    Forwarded,
    /// That address, or else the peer's.
    Peer,
    /// None.
    None,
}

/// Behind a proxy that is not configured as trusted, all users share one rate limit. Logged once for each process, because
/// any client can cause it.
fn warn_once(peer: Peer) {
    static WARNED: Once = Once::new();
    WARNED.call_once(|| {
        tracing::warn!(
            %peer,
            "x-forwarded-for is ignored: if the peer is your proxy, or a service that calls for end users, name it in \
             --trusted-proxy; otherwise all of its users share one rate limit"
        );
    });
}

/// Reads an address. Some proxies append a port.
fn parse(hop: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(hop).ok()?.trim_matches([' ', '\t']);
    let address = text.parse().or_else(|_| text.parse::<SocketAddr>().map(|socket| socket.ip())).ok();
    let address = address.or_else(|| text.strip_prefix('[')?.strip_suffix(']')?.parse().ok());
    address.as_ref().map(IpAddr::to_canonical)
}

impl FromStr for TrustedProxies {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "unix" {
            return Ok(Self { unix: true, ..Self::default() });
        }
        let network = text.parse().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
        let network: IpNet = network.map_err(|_| "expected an address, a network such as 10.0.0.0/8, or unix")?;
        if network.prefix_len() == 0 {
            return Err("trusts every address, so every client could send any address".into());
        }
        Ok(Self { networks: vec![network.trunc()], unix: false })
    }
}

impl fmt::Display for TrustedProxies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let networks = self.networks.iter().map(ToString::to_string).chain(self.unix.then(|| "unix".to_owned()));
        f.write_str(&networks.collect::<Vec<_>>().join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(peer: &str, lines: &[&str]) -> Result<Option<String>, Reason> {
        let proxies = ["10.0.0.0/8", "2001:db8::/32", "192.0.2.9", "unix"].map(|text| text.parse().unwrap());
        let peer = if peer == "unix" { Peer::Local { uid: None } } else { Peer::Ip(peer.parse().unwrap()) };
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(HEADER, line.parse().unwrap());
        }
        let client = TrustedProxies::all(proxies).client(peer, &headers);
        client.map(|client| client.map(|client| client.to_string())).map_err(|fault| fault.reason)
    }

    #[test]
    fn nearest_hop_that_is_not_a_proxy_is_the_client() {
        let found = |text: &str| Ok(Some(text.to_owned()));
        assert_eq!(client("10.1.2.3", &["203.0.113.7"]), found("203.0.113.7"));
        assert_eq!(client("10.1.2.3", &["made up, 198.51.100.1, 203.0.113.7"]), found("203.0.113.7"));
        assert_eq!(client("10.1.2.3", &["198.51.100.1", "203.0.113.7, 10.9.9.9"]), found("203.0.113.7"));
        assert_eq!(client("10.1.2.3", &["10.4.4.4, 10.9.9.9"]), found("10.4.4.4"), "all are trusted: the farthest");
        assert_eq!(client("unix", &["2001:db8::1, ::ffff:203.0.113.7 "]), found("203.0.113.7"));
        assert_eq!(client("192.0.2.9", &["[2001:dba::7]:4711"]), found("2001:dba::7"));
        assert_eq!(client("10.1.2.3", &["203.0.113.7:80"]), found("203.0.113.7"));
        assert_eq!(client("10.1.2.3", &[]), Ok(None));
    }

    #[test]
    fn header_of_an_untrusted_peer_is_ignored() {
        assert_eq!(client("192.0.2.8", &["203.0.113.7"]), Ok(None));
        assert_eq!(client("203.0.113.1", &["garbage"]), Ok(None));
    }

    #[test]
    fn hop_that_is_not_an_address_is_malformed() {
        for line in
            ["", "unknown", "203.0.113.7,", "203.0.113.7, garbage", "1.2.3", "01.2.3.4", "\t", "[::1", "::1%eth0"]
        {
            assert_eq!(client("10.1.2.3", &[line]), Err(Reason::Malformed), "{line:?}");
        }
    }

    #[test]
    fn all_addresses_cannot_be_trusted() {
        for text in ["0.0.0.0/0", "::/0", "10.0.0.0/33", "proxy.example", ""] {
            assert!(text.parse::<TrustedProxies>().is_err(), "{text}");
        }
    }
}
