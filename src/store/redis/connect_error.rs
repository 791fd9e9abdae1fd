//! Why Redis cannot be used, in words that say what to change.

use std::fmt;

use redis::{ErrorKind, RedisError};

/// A reason, and whether time alone may mend it.
#[derive(Debug)]
pub(super) struct Trouble {
    text: String,
    passing: bool,
    broken: bool,
}

impl Trouble {
    /// Whether it may mend itself: a server that starts, a network that comes back.
    pub(super) fn is_passing(&self) -> bool {
        self.passing
    }

    /// Whether only the connection broke: the next one may be as good as the last.
    pub(super) fn is_broken(&self) -> bool {
        self.broken
    }

    /// No answer within the time; `tls` is whether it was asked in TLS, which a plain Redis takes for the beginning of
    /// a long line.
    pub(super) fn silent(tls: bool) -> Self {
        let hint = if tls { "; if it speaks no TLS, use redis:// instead of rediss://" } else { "" };
        Self { text: format!("does not answer in time{hint}"), passing: true, broken: false }
    }

    pub(super) fn passing(text: impl Into<String>) -> Self {
        Self { text: text.into(), passing: true, broken: false }
    }

    /// What ended a connection that worked.
    pub(super) fn broken(error: &RedisError) -> Self {
        // A refusal of Redis's own is no broken connection.
        Self { broken: error.code().is_none(), ..Self::passing(format!("broke: {}", first_sentence(error))) }
    }

    pub(super) fn unfit(text: String) -> Self {
        Self { text, passing: false, broken: false }
    }

    /// Reads the crate's error.
    pub(super) fn of(error: &RedisError) -> Self {
        let final_ = |text: String| Self::unfit(text);
        let passing = |text: String| Self::passing(text);
        let said = first_sentence(error);
        let tls = said.contains("InvalidContentType") || said.contains("corrupt message");
        match (error.kind(), error.code()) {
            (_, Some("LOADING")) => passing("is still reading its file (LOADING)".into()),
            _ if said.contains("NOAUTH") || said.contains("Authentication required") => {
                final_("asks for a password: name its file with --store-password-file".into())
            }
            // The crate hides what Redis said to AUTH.
            (ErrorKind::AuthenticationFailed, _) | (_, Some("WRONGPASS")) => final_(
                "refuses the password, or has no room for one more client (maxclients): look at --store-password-file, \
                 and at the user in --store"
                    .into(),
            ),
            (_, Some("NOPERM")) => {
                final_(format!("does not allow this user all that Watchword needs, which docs/reference/storage.md lists: {said}"))
            }
            (_, Some("MASTERDOWN" | "CLUSTERDOWN" | "TRYAGAIN" | "BUSY" | "READONLY")) => passing(said),
            _ if said.contains("max number of clients") => {
                passing("has no room for one more client: raise its maxclients".into())
            }
            (ErrorKind::Server(_), _) if said.contains("index is out of range") => {
                final_("has no such database: look at the number behind the slash in --store".into())
            }
            (ErrorKind::Server(_), _) if said.contains("switch database") => final_(format!(
                "does not allow this user all that Watchword needs, which docs/reference/storage.md lists: SELECT ({said})"
            )),
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
                passing(
                    "closed the connection at once: is it a Redis, does it want TLS (rediss://), is it full \
                     (maxclients) or in protected mode? Its log says"
                        .into(),
                )
            }
            _ => passing(format!("cannot be reached: {said}")),
        }
    }
}

/// What Redis said, without the arguments that it repeats, which may be names; of many errors the first.
pub(super) fn first_sentence(error: &RedisError) -> String {
    let said = error.to_string();
    let said = said.split(", with args").next().unwrap_or_default();
    said.split("), (").next().unwrap_or_default().to_owned()
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}
