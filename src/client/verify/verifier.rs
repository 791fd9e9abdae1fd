//! Verifies access tokens with the published keys, and on request also by introspection.
//!
//! Offline, a token is valid until it expires (minutes), even if its session has ended. With
//! [`introspect_with`](VerifierBuilder::introspect_with) the tokens of an ended session are refused at once, and all tokens
//! are refused while Watchword is not reachable.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use serde_json::Value;

use super::{Identity, VerifierBuilder, VerifyError, key_cache::KeyCache};
use crate::{
    api::pb::TokenUse,
    client::{Client, Clock},
    common::bearer,
};

/// Verifies access tokens. Cheap to clone: all clones share the keys.
#[derive(Debug, Clone)]
pub struct Verifier(Arc<VerifierParts>);

/// What the clones of a verifier share.
#[derive(Debug)]
pub(super) struct VerifierParts {
    pub(super) issuer: String,
    pub(super) audience: String,
    /// In seconds.
    pub(super) leeway: u64,
    pub(super) keys: KeyCache,
    pub(super) introspection: Option<Client>,
    pub(super) clock: Arc<dyn Clock>,
}

impl Verifier {
    /// The settings of a verifier for tokens with exactly this `iss` and `aud`: the `--token-issuer` and `--token-audience`
    /// of the service.
    pub fn builder(issuer: impl Into<String>, audience: impl Into<String>) -> VerifierBuilder {
        VerifierBuilder::new(issuer.into(), audience.into())
    }

    pub(super) fn new(parts: VerifierParts) -> Self {
        Self(Arc::new(parts))
    }

    /// Verifies a token: ES256 by a published key, `typ` at+jwt, `iss`, `aud`, `exp`, `iat`, `nbf`, at most 2 KiB (RFC 9068
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
        let VerifierParts { issuer, audience, leeway, keys, clock, .. } = &*self.0;
        // A text without the form of a token causes no fetch of keys.
        let header = bearer::header_of(token).ok_or(VerifyError::Invalid)?;
        let keys = keys.with(header).await.map_err(|_| VerifyError::Unavailable)?;
        let claims = bearer::claims(token, issuer, audience, |header| keys.get(header)).ok_or(VerifyError::Invalid)?;
        let now = clock.now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        check_times(&claims, now, *leeway)?;
        identity(&claims).ok_or(VerifyError::Invalid)
    }
}

/// The expiry is exclusive, as in the service: a token that expires now has expired.
fn check_times(claims: &Value, now: u64, leeway: u64) -> Result<(), VerifyError> {
    let (Some(expires), Some(issued)) = (claims["exp"].as_u64(), claims["iat"].as_u64()) else {
        return Err(VerifyError::Invalid);
    };
    let valid_from = match &claims["nbf"] {
        Value::Null => issued,
        not_before => not_before.as_u64().ok_or(VerifyError::Invalid)?.max(issued),
    };
    if valid_from > now.saturating_add(leeway) {
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
    let introspected = client.introspect(token).await.map_err(|cause| {
        tracing::warn!(code = ?cause.code(), "token could not be introspected");
        VerifyError::Unavailable
    })?;
    if !introspected.active {
        return Err(VerifyError::Revoked);
    }
    let is_same_session = introspected.token_use() == TokenUse::Access
        && (&introspected.user_id, &introspected.session_id) == (&identity.user_id, &identity.session_id);
    if is_same_session {
        Ok(Identity { username: Some(introspected.username), ..identity })
    } else {
        Err(VerifyError::Invalid)
    }
}
