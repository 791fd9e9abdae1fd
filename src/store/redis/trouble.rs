//! Why Redis cannot be used, in words that say what to change.

use std::fmt;

use redis::{ErrorKind, RedisError};

/// A reason, and whether time alone may mend it.
#[derive(Debug)]
pub(super) struct Trouble {
    text: String,
    passing: bool,
}

impl Trouble {
    /// Whether it may mend itself: a server that starts, a network that comes back.
    pub(super) fn is_passing(&self) -> bool {
        self.passing
    }

    /// No answer within the time; `tls` is whether it was asked in TLS, which a plain Redis takes for the beginning of
    /// a long line.
    pub(super) fn silent(tls: bool) -> Self {
        let hint = if tls { "; if it speaks no TLS, use redis:// instead of rediss://" } else { "" };
        Self { text: format!("does not answer in time{hint}"), passing: true }
    }

    pub(super) fn loading() -> Self {
        Self { text: "is still reading its file (LOADING)".into(), passing: true }
    }

    /// What ended a connection that worked.
    pub(super) fn broken(error: &RedisError) -> Self {
        Self { text: format!("broke: {error}"), passing: true }
    }

    pub(super) fn unfit(text: String) -> Self {
        Self { text, passing: false }
    }

    /// Reads the crate's error.
    pub(super) fn of(error: &RedisError) -> Self {
        let final_ = |text: String| Self { text, passing: false };
        let passing = |text: String| Self { text, passing: true };
        let said = error.to_string();
        let tls = said.contains("InvalidContentType") || said.contains("corrupt message");
        match (error.kind(), error.code()) {
            (_, Some("LOADING")) => Self::loading(),
            (_, Some("NOAUTH")) => final_("asks for a password: name its file with --store-password-file".into()),
            (ErrorKind::AuthenticationFailed, _) | (_, Some("WRONGPASS")) => {
                final_("refuses the password: look at --store-password-file, and at the user in --store".into())
            }
            (_, Some("NOPERM")) => {
                final_(format!("does not allow this user all that Watchword needs, which README lists: {said}"))
            }
            (_, Some("MASTERDOWN" | "CLUSTERDOWN" | "TRYAGAIN" | "BUSY" | "READONLY")) => passing(said),
            (ErrorKind::Server(_), _) if said.contains("switch database") => {
                final_("has no such database: look at the number behind the slash in --store".into())
            }
            (ErrorKind::Server(_) | ErrorKind::Extension, _) => final_(format!("refuses: {said}")),
            (ErrorKind::Parse, _) => final_("is no Redis: it answers something else".into()),
            (ErrorKind::Client, _) => passing(said),
            _ if tls => final_("does not speak TLS: use redis:// instead of rediss://".into()),
            _ if said.contains("certificate") => {
                final_(format!("shows a certificate that is not trusted: look at --store-ca-file ({said})"))
            }
            _ if error.is_timeout() => Self::silent(false),
            _ if error.is_connection_refusal() => passing(format!("cannot be reached: {said}")),
            _ if error.is_connection_dropped() => {
                passing("closed the connection at once: is it a Redis, and does it want TLS (rediss://)?".into())
            }
            _ => passing(format!("cannot be reached: {said}")),
        }
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}
