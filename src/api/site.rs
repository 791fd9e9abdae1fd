//! Which host names an HTTP listener answers to, and which web pages may call it.
//!
//! A browser reaches addresses that an attacker cannot. DNS rebinding shows in `Host`, a script or form of another site in
//! `Origin`, and a link or an image of another site in `Sec-Fetch-Site`. Browsers send `Sec-Fetch-Site` only to addresses
//! that they treat as secure, and `::ffff:127.0.0.1` is not one of them: an IPv4-mapped host is never answered to.
//! Programs such as curl send neither of the last two headers. Sources: RFC 9112 section 3.2, RFC 9113 section 8.3.1, the
//! Fetch standard.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

use http::{HeaderMap, Uri, Version, header};

/// The longest domain name in characters (RFC 1035 section 2.3.4).
const NAME_CHARS_MAX: usize = 253;

/// A host without a port: an IP address, or a name in lower case without its trailing dot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostName(HostKind);

#[derive(Debug, Clone, PartialEq, Eq)]
enum HostKind {
    Ip(IpAddr),
    Name(String),
}

/// The origin of a web page: scheme, host and port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebOrigin {
    scheme: &'static str,
    host: HostName,
    port: u16,
}

/// The hosts and origins that a listener accepts.
#[derive(Debug, Clone, Default)]
pub struct SitePolicy {
    /// Host names in addition to the loopback names and the local address of the connection.
    pub hosts: Vec<HostName>,
    /// Origins in addition to the pages of the addressed host.
    pub origins: Vec<WebOrigin>,
}

/// Why a request is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum SiteFault {
    /// The request does not name exactly one valid host.
    Malformed(&'static str),
    /// The listener does not answer to this host.
    UnknownHost(Option<HostName>),
    /// A page of another site sent the request.
    CrossSite,
}

/// The host that a request addresses. `None` only for HTTP/1.0, which needs none.
///
/// # Errors
/// `Malformed`: no host, several, an invalid one, or two that differ.
pub(crate) fn addressed_host(version: Version, uri: &Uri, headers: &HeaderMap) -> Result<Option<HostName>, SiteFault> {
    let mut values = headers.get_all(header::HOST).iter();
    let header =
        values.next().map(|value| authority(value.as_bytes()).ok_or(SiteFault::Malformed("Host is not valid")));
    if values.next().is_some() {
        return Err(SiteFault::Malformed("the request has more than one Host header"));
    }
    // HTTP/2 has the host in `:authority`, and a request in absolute form in its target.
    let target = uri.authority().map(|authority| authority.as_str().as_bytes());
    let target = target.map(|text| authority(text).ok_or(SiteFault::Malformed("the host of the target is not valid")));
    match (header.transpose()?, target.transpose()?) {
        (Some(header), Some(target)) if !agree(&header, &target) => {
            Err(SiteFault::Malformed("Host differs from the host of the target"))
        }
        (_, Some((host, _))) | (Some((host, _)), None) => Ok(Some(host)),
        (None, None) if version < Version::HTTP_11 => Ok(None),
        (None, None) => Err(SiteFault::Malformed("the request has no Host header")),
    }
}

/// Whether both are one host. A port that one of them omits is the default port, which depends on a scheme that only a
/// proxy knows.
fn agree((host, port): &(HostName, Option<u16>), (other, other_port): &(HostName, Option<u16>)) -> bool {
    host == other && (port == other_port || port.is_none() || other_port.is_none())
}

impl SitePolicy {
    /// Whether a request for `host`, on a connection to the address `local`, is answered.
    ///
    /// # Errors
    /// `UnknownHost`, `CrossSite`.
    pub(crate) fn check(
        &self,
        host: Option<&HostName>,
        local: Option<IpAddr>,
        headers: &HeaderMap,
    ) -> Result<(), SiteFault> {
        match host {
            Some(host) if self.answers_to(host, local) && self.is_called_by_own_site(host, headers) => Ok(()),
            Some(host) if self.answers_to(host, local) => Err(SiteFault::CrossSite),
            Some(_) | None => Err(SiteFault::UnknownHost(host.cloned())),
        }
    }

    fn answers_to(&self, host: &HostName, local: Option<IpAddr>) -> bool {
        let is_local = local.is_some_and(|local| host.0 == HostKind::Ip(local.to_canonical()));
        !host.is_ipv4_mapped() && (host.is_loopback() || is_local || self.hosts.contains(host))
    }

    fn is_called_by_own_site(&self, host: &HostName, headers: &HeaderMap) -> bool {
        let mut origins =
            headers.get_all(header::ORIGIN).iter().map(|value| WebOrigin::parse(value.as_bytes())).peekable();
        let has_origin = origins.peek().is_some();
        let is_cross_site = headers.get_all("sec-fetch-site").iter().any(|site| site == "cross-site");
        let is_own = |origin: Option<WebOrigin>| {
            origin.is_some_and(|origin| self.origins.contains(&origin) || (origin.host == *host && !is_cross_site))
        };
        if has_origin { origins.all(is_own) } else { !is_cross_site }
    }
}

impl HostName {
    /// The host of a URL such as an issuer, if it has one.
    pub fn of_url(url: &str) -> Option<Self> {
        let uri: Uri = url.parse().ok()?;
        authority(uri.authority()?.as_str().as_bytes()).map(|(host, _)| host)
    }

    fn is_loopback(&self) -> bool {
        match &self.0 {
            HostKind::Ip(address) => address.is_loopback(),
            HostKind::Name(name) => name == "localhost",
        }
    }

    fn is_ipv4_mapped(&self) -> bool {
        matches!(self.0, HostKind::Ip(IpAddr::V6(address)) if address.to_ipv4_mapped().is_some())
    }
}

/// Reads `host`, `host:port`, `[address]` or `[address]:port`. No user information (RFC 9110 section 4.2.4).
fn authority(text: &[u8]) -> Option<(HostName, Option<u16>)> {
    let text = std::str::from_utf8(text).ok()?;
    let (host, rest) = match text.strip_prefix('[') {
        Some(text) => {
            let (address, rest) = text.split_once(']')?;
            (HostKind::Ip(address.parse::<Ipv6Addr>().ok()?.into()), rest)
        }
        None => {
            let (host, rest) = text.split_at(text.find(':').unwrap_or(text.len()));
            (name_or_ipv4(host)?, rest)
        }
    };
    // An empty port is none (RFC 3986 section 3.2.3).
    let port = if rest.is_empty() || rest == ":" { None } else { Some(port(rest.strip_prefix(':')?)?) };
    Some((HostName(host), port))
}

/// Reads digits alone: `parse` would accept a sign.
fn port(text: &str) -> Option<u16> {
    if text.bytes().all(|byte| byte.is_ascii_digit()) { text.parse().ok() } else { None }
}

fn name_or_ipv4(text: &str) -> Option<HostKind> {
    // The dot of the root: `localhost.` is `localhost`.
    let text = text.strip_suffix('.').unwrap_or(text);
    if let Ok(address) = text.parse::<Ipv4Addr>() {
        return Some(HostKind::Ip(address.into()));
    }
    let is_label = |label: &str| {
        !label.is_empty() && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
    };
    let is_name = text.len() <= NAME_CHARS_MAX && text.split('.').all(is_label);
    is_name.then(|| HostKind::Name(text.to_ascii_lowercase()))
}

impl WebOrigin {
    /// Reads the text form of the Fetch standard. `null`, the origin of sandboxed pages, is none.
    fn parse(text: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(text).ok()?;
        let (scheme, text) = text.split_once("://")?;
        let (scheme, default_port) = match scheme.to_ascii_lowercase().as_str() {
            "http" => ("http", 80),
            "https" => ("https", 443),
            _ => return None,
        };
        let (host, port) = authority(text.as_bytes())?;
        Some(Self { scheme, host, port: port.unwrap_or(default_port) })
    }
}

// === text forms ===

impl FromStr for HostName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bare = text.parse::<Ipv6Addr>().map(|address| (HostName(HostKind::Ip(address.into())), None));
        let (host, port) = bare.ok().or_else(|| authority(text.as_bytes())).ok_or(
            "expected a host name such as auth.example.com, or an IP address, without scheme, port and wildcard; an \
             international name in its ASCII form xn--…",
        )?;
        if port.is_some() {
            return Err("the port does not matter: leave it out".into());
        }
        if host.is_ipv4_mapped() {
            return Err("write the IPv4 address: browsers do not protect IPv4-mapped addresses".into());
        }
        Ok(host)
    }
}

impl fmt::Display for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            HostKind::Ip(IpAddr::V6(address)) => write!(f, "[{address}]"),
            HostKind::Ip(IpAddr::V4(address)) => address.fmt(f),
            HostKind::Name(name) => f.write_str(name),
        }
    }
}

impl FromStr for WebOrigin {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::parse(text.as_bytes()).ok_or_else(|| {
            "expected http or https, a host and perhaps a port, without a path and a wildcard, such as \
             https://www.example.com"
                .into()
        })
    }
}

impl fmt::Display for WebOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { scheme, host, port } = self;
        match (*scheme, port) {
            ("http", 80) | ("https", 443) => write!(f, "{scheme}://{host}"),
            _ => write!(f, "{scheme}://{host}:{port}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Option<String> {
        authority(text.as_bytes()).map(|(host, port)| format!("{host} {port:?}"))
    }

    #[test]
    fn authority_is_one_valid_host_with_an_optional_port() {
        for (text, expected) in [
            ("LocalHost.", "localhost None"),
            ("127.0.0.1.:5000", "127.0.0.1 Some(5000)"),
            ("auth.example.com:", "auth.example.com None"),
            ("[::1]:5000", "[::1] Some(5000)"),
            ("[0:0:0:0:0:0:0:1]", "[::1] None"),
            ("a_b.example", "a_b.example None"),
        ] {
            assert_eq!(read(text).as_deref(), Some(expected), "{text}");
        }
        let long = "a".repeat(254);
        for text in [
            "",
            ".",
            ":5000",
            "localhost..",
            "a..b",
            "user@localhost",
            "localhost@evil.example",
            "::1",
            "[::1",
            "[::1]x",
            "[::1%25eth0]",
            "[127.0.0.1]",
            "localhost:5000:1",
            "localhost:+1",
            "localhost:65536",
            "localhost:0x1",
            "local host",
            "localhost/",
            "localhost#",
            "localhost?",
            "localhost\\",
            "lo%63alhost",
            "lócalhost",
            "*",
            &long,
        ] {
            assert_eq!(read(text), None, "{text:?}");
        }
    }

    #[test]
    fn settings_are_hosts_without_port_and_origins_without_path() {
        for (text, expected) in [("Auth.Example.com.", "auth.example.com"), ("::1", "[::1]"), ("[::1]", "[::1]")] {
            assert_eq!(text.parse::<HostName>().unwrap().to_string(), expected);
        }
        for text in ["auth.example.com:443", "https://auth.example.com", "*.example.com", "", "::ffff:127.0.0.1"] {
            assert!(text.parse::<HostName>().is_err(), "{text}");
        }
        for (text, expected) in [
            ("HTTPS://WWW.example.com:443", "https://www.example.com"),
            ("http://localhost:3000", "http://localhost:3000"),
        ] {
            assert_eq!(text.parse::<WebOrigin>().unwrap().to_string(), expected);
        }
        for text in
            ["www.example.com", "https://www.example.com/", "null", "*", "ftp://a.example", "https://u@a.example"]
        {
            assert!(text.parse::<WebOrigin>().is_err(), "{text}");
        }
    }
}
