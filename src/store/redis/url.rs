//! The URL of Redis: `--store redis://…`.
//!
//! A URL with a password is refused, because other users can read command lines, and the error never contains the password.
//! Does not know how a connection is made.

use std::{fmt, str::FromStr};

use redis::IntoConnectionInfo;

/// The port of a URL without one.
const PORT_DEFAULT: u16 = 6379;

/// `redis://[user@]host[:port][/database]`, or `rediss://…` for TLS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RedisUrl {
    pub(super) tls: bool,
    pub(super) user: Option<String>,
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) database: u16,
}

impl RedisUrl {
    /// The Redis user, if the URL has one.
    pub fn user(&self) -> Option<&str> {
        self.user.as_deref()
    }

    /// Whether it is `rediss://`.
    pub fn is_tls(&self) -> bool {
        self.tls
    }

    /// Whether the connection goes to another machine without TLS.
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
            return Err("other users can read a password in the URL; write it to a file and name the file in \
                        --store-password-file"
                .into());
        }
        if parsed.query().is_some() || parsed.fragment().is_some() {
            return Err(FORM.into());
        }
        let database = match parsed.path().strip_prefix('/').unwrap_or_default() {
            "" => 0,
            number => number.parse().map_err(|_| format!("after the slash comes the number of a database; {FORM}"))?,
        };
        // `[::1]` in a URL, `::1` for a socket.
        let host = parsed.host_str().filter(|host| !host.is_empty()).ok_or(FORM)?;
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        // The crate decodes percent escapes.
        let info = text.into_connection_info().map_err(|_| FORM)?;
        let user = info.redis_settings().username().map(str::to_owned);
        Ok(Self { tls, user, host, port: parsed.port().unwrap_or(PORT_DEFAULT), database })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_parsed_and_shown_in_a_form_that_can_be_parsed() {
        for (text, shown) in [
            ("redis://127.0.0.1", "redis://127.0.0.1:6379/0"),
            ("redis://localhost:7000/3", "redis://localhost:7000/3"),
            ("rediss://watchword@redis.internal", "rediss://watchword@redis.internal:6379/0"),
            ("redis://[::1]:6380/", "redis://[::1]:6380/0"),
        ] {
            let url: RedisUrl = text.parse().unwrap();
            assert_eq!(url.to_string(), shown);
            assert_eq!(shown.parse(), Ok(url), "the shown form is a URL");
        }
    }

    #[test]
    fn other_urls_are_refused_and_the_error_never_contains_a_password() {
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
        // In a password with a slash, the part before it looks like a host and a port.
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
    fn plain_text_to_another_machine_is_detected() {
        let plain = |text: &str| text.parse::<RedisUrl>().unwrap().is_plain_beyond_loopback();
        assert!(plain("redis://redis.internal") && plain("redis://10.0.0.1"));
        assert!(!plain("rediss://redis.internal") && !plain("redis://127.0.0.1") && !plain("redis://[::1]"));
    }
}
