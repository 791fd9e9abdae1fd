//! Flags of tokens and sessions: claims, lifetimes, and the services that may introspect.

use std::{path::PathBuf, time::Duration};

use clap::Args;

use super::values::duration_between;
use crate::http::{CLIENT_NAME, is_client_name};

/// Maximum lifetime of a session.
const SESSION_MAX: Duration = Duration::from_secs(90 * 86_400);

/// Maximum length of an issuer or an audience.
const NAME_CHARS_MAX: usize = 200;

/// Tokens and sessions.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
#[command(next_help_heading = "Tokens and sessions")]
pub struct TokenArgs {
    /// Claim `iss` of the tokens; the same on all nodes that share a store. Default: the URL of --http-addr. Required when the
    /// gRPC or HTTP listener can be reached from other machines
    #[arg(long, env = "WATCHWORD_TOKEN_ISSUER", value_name = "URL", value_parser = issuer)]
    pub token_issuer: Option<String>,

    /// Claim `aud` of the tokens: the services that accept them. Default: watchword. Required when the gRPC or HTTP listener
    /// can be reached from other machines
    #[arg(long, env = "WATCHWORD_TOKEN_AUDIENCE", value_name = "NAME", value_parser = claim)]
    pub token_audience: Option<String>,

    /// Claim `client_id` of the tokens: the client that sessions belong to. A service of --oauth-clients-file with this name may
    /// revoke their tokens (1 to 64 letters, digits, '-', '.' and '_')
    #[arg(long, env = "WATCHWORD_TOKEN_CLIENT_ID", value_name = "NAME", default_value = "watchword",
          value_parser = client_name)]
    pub token_client_id: String,

    /// Lifetime of an access token (10s to 1h)
    #[arg(long, env = "WATCHWORD_ACCESS_TOKEN_LIFETIME", value_name = "TIME", default_value = "5m",
          value_parser = |text: &str| duration_between(text, Duration::from_secs(10), Duration::from_secs(3_600)))]
    pub access_token_lifetime: Duration,

    /// Lifetime of a session since its last refresh (1m to 90d)
    #[arg(long, env = "WATCHWORD_SESSION_IDLE_LIFETIME", value_name = "TIME", default_value = "30d",
          value_parser = |text: &str| duration_between(text, Duration::from_secs(60), SESSION_MAX))]
    pub session_idle_lifetime: Duration,

    /// Lifetime of a session since its login (1m to 90d)
    #[arg(long, env = "WATCHWORD_SESSION_LIFETIME", value_name = "TIME", default_value = "90d",
          value_parser = |text: &str| duration_between(text, Duration::from_secs(60), SESSION_MAX))]
    pub session_lifetime: Duration,

    /// How long a refresh whose answer was lost may be repeated with the same request_id, while the new refresh token is
    /// unused (10s to 1h)
    #[arg(long, env = "WATCHWORD_REFRESH_REPEAT", value_name = "TIME", default_value = "10m",
          value_parser = |text: &str| duration_between(text, Duration::from_secs(10), Duration::from_secs(3_600)))]
    pub refresh_repeat: Duration,

    /// How long the introspection cache answers after the store confirmed an access token, or Redis that it has not changed
    /// (0s to 800ms). A session that ends on another node is refused here after this time; one that ends on this node, at once
    #[arg(long, env = "WATCHWORD_TOKEN_CHECK_REUSE", value_name = "TIME", default_value = "800ms",
          value_parser = |text: &str| duration_between(text, Duration::ZERO, Duration::from_millis(800)))]
    pub token_check_reuse: Duration,

    /// File of the services that may introspect and revoke tokens over HTTP (/oauth2/…), one NAME:SECRET per line. Default: no
    /// service may
    #[arg(long, env = "WATCHWORD_OAUTH_CLIENTS_FILE", value_name = "FILE")]
    pub oauth_clients_file: Option<PathBuf>,
}

/// The name of a client.
fn client_name(text: &str) -> Result<String, String> {
    if is_client_name(text) { Ok(text.to_owned()) } else { Err(format!("expected {CLIENT_NAME}")) }
}

/// An issuer: gateways find the keys below it (RFC 8414).
fn issuer(text: &str) -> Result<String, String> {
    let is_url = ["https://", "http://"].iter().any(|scheme| text.len() > scheme.len() && text.starts_with(scheme));
    if is_url { claim(text) } else { Err("expected a URL with its scheme: https://HOST".into()) }
}

/// An issuer or an audience.
fn claim(text: &str) -> Result<String, String> {
    if text.is_empty() || text.len() > NAME_CHARS_MAX || !text.chars().all(|c| c.is_ascii_graphic()) {
        return Err(format!("expected 1 to {NAME_CHARS_MAX} printable ASCII characters without blanks"));
    }
    Ok(text.to_owned())
}
