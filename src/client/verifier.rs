//! Checks access tokens by the published keys, and if wanted by asking Watchword too.
//!
//! Offline a token counts until it expires, whatever became of its session: minutes. With
//! [`introspect_with`](VerifierBuilder::introspect_with) a session that was ended does not count from then on, and nobody is
//! let in while Watchword cannot be asked.

use std::{
    error::Error,
    fmt,
    path::PathBuf,
    sync::Arc,
    time::{Duration, SystemTime},
};

use serde_json::Value;

use super::{Client, Clock, Identity, SetupError, System, fetch::Source, keys::Keys};
use crate::{api::pb::TokenUse, common::bearer};

/// The most that the clocks of two machines may differ.
const LEEWAY_MAX: Duration = Duration::from_secs(60);

/// Checks access tokens. Cheap to clone; all clones share their keys.
#[derive(Debug, Clone)]
pub struct Verifier(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    issuer: String,
    audience: String,
    leeway: u64,
    keys: Keys,
    introspection: Option<Client>,
    clock: Arc<dyn Clock>,
}

/// A verifier to be made.
#[derive(Debug)]
pub struct VerifierBuilder {
    issuer: String,
    audience: String,
    keys_at: Option<String>,
    ca_file: Option<PathBuf>,
    leeway: Duration,
    introspection: Option<Client>,
    clock: Arc<dyn Clock>,
}

/// Why a token lets nobody in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VerifyError {
    /// Not an access token of this issuer for this audience, or not yet one.
    Invalid,
    /// Its time is over: whoever sent it should refresh it.
    Expired,
    /// Its session was ended; only Watchword knows.
    Revoked,
    /// The keys cannot be had, or Watchword cannot be asked: nobody knows. Worth another try.
    Unavailable,
}

// === impl Verifier ===

impl Verifier {
    /// Begins a verifier of the tokens whose `iss` and `aud` are exactly these: the service's `--token-issuer` and
    /// `--token-audience`.
    pub fn builder(issuer: impl Into<String>, audience: impl Into<String>) -> VerifierBuilder {
        VerifierBuilder {
            issuer: issuer.into(),
            audience: audience.into(),
            keys_at: None,
            ca_file: None,
            leeway: Duration::ZERO,
            introspection: None,
            clock: Arc::new(System),
        }
    }

    /// Checks a token: ES256 by a published key, `typ` at+jwt, `iss`, `aud`, `exp`, `iat`, `nbf`, 2 KiB at most (RFC 9068
    /// section 4). Needs a tokio runtime.
    ///
    /// # Errors
    ///
    /// See [`VerifyError`].
    pub async fn verify(&self, token: &str) -> Result<Identity, VerifyError> {
        let identity = self.verify_offline(token).await?;
        match &self.0.introspection {
            None => Ok(identity),
            Some(client) => introspect(client, token, identity).await,
        }
    }

    async fn verify_offline(&self, token: &str) -> Result<Identity, VerifyError> {
        let Shared { issuer, audience, leeway, keys, clock, .. } = &*self.0;
        // Made-up text asks for no keys.
        let head = bearer::head(token).ok_or(VerifyError::Invalid)?;
        let keys = keys.with(head).await.map_err(|_| VerifyError::Unavailable)?;
        let claims = bearer::claims(token, issuer, audience, |head| keys.get(head)).ok_or(VerifyError::Invalid)?;
        let now = clock.now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        in_its_time(&claims, now, *leeway)?;
        identity(&claims).ok_or(VerifyError::Invalid)
    }
}

/// The end is outside, as everywhere at Watchword: a token that expires now has expired.
fn in_its_time(claims: &Value, now: u64, leeway: u64) -> Result<(), VerifyError> {
    let (Some(expires), Some(issued)) = (claims["exp"].as_u64(), claims["iat"].as_u64()) else {
        return Err(VerifyError::Invalid);
    };
    let begins = match &claims["nbf"] {
        Value::Null => issued,
        not_before => not_before.as_u64().ok_or(VerifyError::Invalid)?.max(issued),
    };
    if begins > now.saturating_add(leeway) {
        return Err(VerifyError::Invalid);
    }
    if now >= expires.saturating_add(leeway) { Err(VerifyError::Expired) } else { Ok(()) }
}

fn identity(claims: &Value) -> Option<Identity> {
    let expires = Duration::from_secs(claims["exp"].as_u64()?);
    Some(Identity {
        user_id: claims["sub"].as_str()?.to_owned(),
        session_id: claims["sid"].as_str()?.to_owned(),
        username: None,
        expire_time: SystemTime::UNIX_EPOCH.checked_add(expires)?,
    })
}

async fn introspect(client: &Client, token: &str, identity: Identity) -> Result<Identity, VerifyError> {
    let found = client.introspect(token).await.map_err(|cause| {
        tracing::warn!(code = ?cause.code(), "a token could not be asked about");
        VerifyError::Unavailable
    })?;
    if !found.active {
        return Err(VerifyError::Revoked);
    }
    let is_the_same = found.token_use() == TokenUse::Access
        && (&found.user_id, &found.session_id) == (&identity.user_id, &identity.session_id);
    if is_the_same { Ok(Identity { username: Some(found.username), ..identity }) } else { Err(VerifyError::Invalid) }
}

// === impl VerifierBuilder ===

impl VerifierBuilder {
    /// Where the keys are; by default `<issuer>/.well-known/jwks.json`. An http:// address beyond loopback is a warning in the
    /// log: whoever is on the way can make tokens.
    pub fn keys_at(mut self, url: impl Into<String>) -> Self {
        self.keys_at = Some(url.into());
        self
    }

    /// A PEM file of the authorities that sign the certificate at that address. Default: those that the machine trusts.
    pub fn ca_file(mut self, file: impl Into<PathBuf>) -> Self {
        self.ca_file = Some(file.into());
        self
    }

    /// By how much this machine's clock may differ from the issuer's: whole seconds, 0 by default, 60 s at most. A token
    /// counts so much longer.
    pub fn leeway(mut self, leeway: Duration) -> Self {
        self.leeway = leeway;
        self
    }

    /// Also asks Watchword about each token that is good by itself: sees at once that a session was ended, learns the username,
    /// and lets nobody in while Watchword cannot be asked.
    pub fn introspect_with(mut self, client: &Client) -> Self {
        self.introspection = Some(client.clone());
        self
    }

    /// Where time comes from, for tests.
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Makes the verifier. The keys are fetched when the first token comes.
    ///
    /// # Errors
    ///
    /// When a setting is wrong.
    pub fn build(self) -> Result<Verifier, SetupError> {
        if self.leeway > LEEWAY_MAX {
            return Err(SetupError::new(format!("a leeway of {:?} is more than a minute", self.leeway)));
        }
        let keys_at =
            self.keys_at.unwrap_or_else(|| format!("{}/.well-known/jwks.json", self.issuer.trim_end_matches('/')));
        let source = Source::new(&keys_at, self.ca_file.as_deref())?;
        Ok(Verifier(Arc::new(Shared {
            issuer: self.issuer,
            audience: self.audience,
            leeway: self.leeway.as_secs(),
            keys: Keys::of(source, self.clock.clone()),
            introspection: self.introspection,
            clock: self.clock,
        })))
    }
}

// === impl VerifyError ===

impl fmt::Display for VerifyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            VerifyError::Invalid => "the token is not valid",
            VerifyError::Expired => "the token has expired",
            VerifyError::Revoked => "the session was ended",
            VerifyError::Unavailable => "access tokens cannot be checked now; try again",
        })
    }
}

impl Error for VerifyError {}
