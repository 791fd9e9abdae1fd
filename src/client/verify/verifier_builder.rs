//! The settings of a verifier.

use std::{path::PathBuf, sync::Arc, time::Duration};

use super::{
    Verifier,
    fetch::DocumentSource,
    key_cache::{KeyCache, STALE_IF_ERROR_DEFAULT, STALE_IF_ERROR_MAX},
    verifier::VerifierParts,
};
use crate::client::{Client, Clock, SetupError, System};

/// The longest allowed leeway.
const LEEWAY_MAX: Duration = Duration::from_secs(60);

/// The settings of a new verifier.
#[derive(Debug)]
pub struct VerifierBuilder {
    issuer: String,
    audience: String,
    keys_at: Option<String>,
    ca_file: Option<PathBuf>,
    leeway: Duration,
    stale_if_error: Duration,
    introspection: Option<Client>,
    clock: Arc<dyn Clock>,
}

impl VerifierBuilder {
    pub(super) fn new(issuer: String, audience: String) -> Self {
        Self {
            issuer,
            audience,
            keys_at: None,
            ca_file: None,
            leeway: Duration::ZERO,
            stale_if_error: STALE_IF_ERROR_DEFAULT,
            introspection: None,
            clock: Arc::new(System),
        }
    }

    /// The URL of the keys. Default: `<issuer>/.well-known/jwks.json`. An http:// URL beyond loopback logs a warning,
    /// because an attacker on the network can then forge tokens.
    pub fn keys_at(mut self, url: impl Into<String>) -> Self {
        self.keys_at = Some(url.into());
        self
    }

    /// A PEM file of the CA certificates that sign the certificate of that server. Default: the CA certificates of the host.
    pub fn ca_file(mut self, file: impl Into<PathBuf>) -> Self {
        self.ca_file = Some(file.into());
        self
    }

    /// How much the clock of this host may differ from that of the issuer: whole seconds, at most 60 s. Default: 0. A token
    /// is valid for that much longer.
    pub fn leeway(mut self, leeway: Duration) -> Self {
        self.leeway = leeway;
        self
    }

    /// How long the keys are used beyond their `max-age` (five minutes) while they cannot be fetched: at most 1 h.
    /// Default: 10 min. For so long an attacker who keeps this host from the keys can use a stolen key that was
    /// dropped. Zero: tokens are refused with [`Unavailable`](super::VerifyError::Unavailable) as soon as the keys are
    /// older than `max-age`.
    pub fn stale_if_error(mut self, limit: Duration) -> Self {
        self.stale_if_error = limit;
        self
    }

    /// Also introspects each token whose signature is valid. Ended sessions are refused at once, the username is known, and
    /// all tokens are refused while Watchword is not reachable.
    pub fn introspect_with(mut self, client: &Client) -> Self {
        self.introspection = Some(client.clone());
        self
    }

    /// The clock, for tests.
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Creates the verifier. The keys are fetched for the first token.
    ///
    /// # Errors
    ///
    /// When a setting is wrong.
    pub fn build(self) -> Result<Verifier, SetupError> {
        if self.leeway > LEEWAY_MAX {
            return Err(SetupError::new(format!("the leeway of {:?} is more than a minute", self.leeway)));
        }
        if self.stale_if_error > STALE_IF_ERROR_MAX {
            let limit = self.stale_if_error;
            return Err(SetupError::new(format!("keys that are stale for {limit:?} are older than any token")));
        }
        let keys_at =
            self.keys_at.unwrap_or_else(|| format!("{}/.well-known/jwks.json", self.issuer.trim_end_matches('/')));
        let source = DocumentSource::new(&keys_at, self.ca_file.as_deref())?;
        Ok(Verifier::new(VerifierParts {
            issuer: self.issuer,
            audience: self.audience,
            leeway: self.leeway.as_secs(),
            keys: KeyCache::new(source, self.stale_if_error, self.clock.clone()),
            introspection: self.introspection,
            clock: self.clock,
        }))
    }
}
