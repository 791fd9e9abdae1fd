//! Why Redis cannot be used, in words that say what to change.
//!
//! Never contains the arguments of a command, because they may be usernames. Does not know what happens next, only whether
//! time alone may fix the cause.

use std::fmt;

use redis::{ErrorKind, RedisError};

/// Why a connection cannot be made, or failed.
#[derive(Debug)]
pub(super) struct ConnectError {
    text: String,
    is_temporary: bool,
    is_connection_error: bool,
}

impl ConnectError {
    /// Whether time alone may fix the cause: a server that starts, a network that returns.
    pub(super) fn is_temporary(&self) -> bool {
        self.is_temporary
    }

    /// Whether only the connection failed, so that the next one may work.
    pub(super) fn is_connection_error(&self) -> bool {
        self.is_connection_error
    }

    /// No answer in time. With `tls` the cause may be a plain Redis, which reads TLS as the beginning of a long line.
    pub(super) fn timeout(tls: bool) -> Self {
        let hint = if tls { "; if it does not speak TLS, use redis:// instead of rediss://" } else { "" };
        Self { text: format!("does not answer in time{hint}"), is_temporary: true, is_connection_error: false }
    }

    pub(super) fn temporary(text: impl Into<String>) -> Self {
        Self { text: text.into(), is_temporary: true, is_connection_error: false }
    }

    /// What ended a connection that worked. An error that Redis answered is not a connection error.
    pub(super) fn connection_lost(error: &RedisError) -> Self {
        let text = format!("ended the connection: {}", first_sentence(error));
        Self { text, is_temporary: true, is_connection_error: error.code().is_none() }
    }

    pub(super) fn permanent(text: String) -> Self {
        Self { text, is_temporary: false, is_connection_error: false }
    }

    /// Translates an error of the crate.
    pub(super) fn of(error: &RedisError) -> Self {
        let permanent = |text: String| Self::permanent(text);
        let temporary = |text: String| Self::temporary(text);
        let said = first_sentence(error);
        let tls = said.contains("InvalidContentType") || said.contains("corrupt message");
        match (error.kind(), error.code()) {
            (_, Some("LOADING")) => temporary("is still loading its file (LOADING)".into()),
            _ if said.contains("NOAUTH") || said.contains("Authentication required") => {
                permanent("asks for a password: name its file with --store-password-file".into())
            }
            // The crate hides the answer to AUTH.
            (ErrorKind::AuthenticationFailed, _) | (_, Some("WRONGPASS")) => permanent(
                "refuses the password, or accepts no more clients (maxclients): check --store-password-file, \
                 and the user in --store"
                    .into(),
            ),
            (_, Some("NOPERM")) => permanent(format!(
                "does not allow this user all that Watchword needs, which docs/reference/storage.md lists: {said}"
            )),
            (_, Some("MASTERDOWN" | "CLUSTERDOWN" | "TRYAGAIN" | "BUSY" | "READONLY")) => temporary(said),
            _ if said.contains("max number of clients") => {
                temporary("accepts no more clients: raise its maxclients".into())
            }
            (ErrorKind::Server(_), _) if said.contains("index is out of range") => {
                permanent("has no such database: check the number after the slash in --store".into())
            }
            (ErrorKind::Server(_), _) if said.contains("switch database") => permanent(format!(
                "does not allow this user all that Watchword needs, which docs/reference/storage.md lists: SELECT ({said})"
            )),
            (ErrorKind::Server(_) | ErrorKind::Extension, _) => permanent(format!("refuses: {said}")),
            (ErrorKind::Parse, _) => permanent("is not Redis: it answers something else".into()),
            (ErrorKind::Client, _) => temporary(said),
            _ if tls => permanent("does not speak TLS: use redis:// instead of rediss://".into()),
            _ if said.contains("certificate") => {
                permanent(format!("shows a certificate that is not trusted: check --store-ca-file ({said})"))
            }
            _ if error.is_timeout() => Self::timeout(false),
            _ if error.is_connection_refusal() => temporary(format!("cannot be reached: {said}")),
            _ if error.is_connection_dropped() => temporary(
                "closed the connection at once: is it a Redis, does it want TLS (rediss://), is it full \
                     (maxclients) or in protected mode? Its log says"
                    .into(),
            ),
            _ => temporary(format!("cannot be reached: {said}")),
        }
    }
}

/// What Redis said, without the arguments that it repeats. Of several errors the first.
pub(super) fn first_sentence(error: &RedisError) -> String {
    let said = error.to_string();
    let said = said.split(", with args").next().unwrap_or_default();
    said.split("), (").next().unwrap_or_default().to_owned()
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}
