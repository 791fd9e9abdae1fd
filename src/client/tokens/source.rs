//! Refreshes the tokens of a login for all callers.
//!
//! After four fifths of its lifetime an access token is refreshed, once for all callers and in its own task, so a caller
//! that goes away loses neither the refresh nor the rotated token. No caller waits while the old token is valid. A refresh
//! whose outcome is unknown is repeated with the same refresh token and request id, for which the server answers the same
//! successor for 10 minutes, so a lost response does not end the session. Lifetimes are measured from the request for the
//! tokens, so a host with a wrong clock refreshes no more often than others.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use tonic::{Request, Status};

use super::{
    AuthorizeLayer, TokenError,
    state::{LIFETIME_MAX, LastRefresh, TokenState},
};
use crate::{
    api::pb::{self, ErrorReason},
    client::{Client, StatusExt, connection::refusal, single_flight::FlightEnd},
    common::lock::lock,
};

/// A token that expires within this time is not returned, because it would expire before the call arrives.
const EXPIRY_MARGIN: Duration = Duration::from_secs(2);

/// Attempts of a refresh whose outcome is unknown, the timeout of each, and the pause between them. Together less than the
/// 10 s that a caller waits.
const ATTEMPTS_MAX: u32 = 3;
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(3);
const ATTEMPT_PAUSE: Duration = Duration::from_millis(200);

/// The time until a failed refresh is repeated, unless the server sends one.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// The tokens of a login. Cheap to clone: all clones share them.
#[derive(Clone)]
pub struct TokenSource(Arc<SharedTokens>);

struct SharedTokens {
    client: Client,
    state: Mutex<TokenState>,
}

/// What a caller does next.
enum TokenStep {
    Use(String),
    Wait(FlightEnd),
}

// === impl TokenSource ===

impl TokenSource {
    /// Takes the tokens of a new login.
    pub fn new(client: &Client, tokens: pb::Tokens) -> Self {
        let state = TokenState::new(tokens, client.clock().monotonic());
        Self(Arc::new(SharedTokens { client: client.clone(), state: Mutex::new(state) }))
    }

    /// Takes tokens of any age that a program has kept. The first caller refreshes them.
    pub fn resume(client: &Client, tokens: pb::Tokens) -> Self {
        let source = Self::new(client, tokens);
        source.expire();
        source
    }

    /// An access token that is valid for at least two more seconds, or in an outage until it expires.
    ///
    /// Waits for Watchword only if the old one has expired, and at most ten seconds. Needs a tokio runtime.
    ///
    /// # Errors
    ///
    /// See [`TokenError`].
    pub async fn access_token(&self) -> Result<String, TokenError> {
        match self.next_step()? {
            TokenStep::Use(token) => Ok(token),
            TokenStep::Wait(refresh) => {
                refresh.wait().await;
                self.refreshed()
            }
        }
    }

    /// The current tokens, for programs that keep them over a restart. The refresh token changes with every refresh.
    pub fn tokens(&self) -> pb::Tokens {
        self.state().tokens.clone()
    }

    /// Logs out: ends the session.
    ///
    /// # Errors
    ///
    /// Those of the contract's RevokeToken. It is safe to retry.
    pub async fn sign_out(&self) -> Result<(), Status> {
        let token = self.tokens().refresh_token;
        self.0.client.auth().revoke_token(pb::RevokeTokenRequest { token }).await?;
        Ok(())
    }

    /// A layer that puts `authorization: Bearer` on every call of any gRPC client.
    pub fn layer(&self) -> AuthorizeLayer {
        AuthorizeLayer::new(self.clone())
    }

    /// Records that a server refused this token as expired. The next caller gets another one.
    pub(super) fn report_expired(&self, token: &str) {
        // Another caller may have reported it before, and it may be refreshed by now.
        if self.state().tokens.access_token == token {
            self.expire();
        }
    }

    pub(super) fn client(&self) -> &Client {
        &self.0.client
    }

    fn expire(&self) {
        let now = self.0.client.clock().monotonic();
        let mut state = self.state();
        (state.refresh_at, state.expires_at) = (now, now);
    }

    fn next_step(&self) -> Result<TokenStep, TokenError> {
        let now = self.0.client.clock().monotonic();
        // Held until the refresh has started, so that it starts once.
        let mut state = self.state();
        let token = state.tokens.access_token.clone();
        match &state.last_refresh {
            LastRefresh::SessionEnded { cause } => return Err(TokenError::LoginNeeded(cause.clone())),
            _ if now < state.refresh_at => return Ok(TokenStep::Use(token)),
            LastRefresh::Failed { retry_at, .. } if now < *retry_at && now < state.expires_at => {
                return Ok(TokenStep::Use(token));
            }
            LastRefresh::Failed { cause, retry_at } if now < *retry_at => {
                return Err(TokenError::Unavailable(cause.clone()));
            }
            LastRefresh::Failed { .. } | LastRefresh::Succeeded => {}
        }
        let refresh = state.refresh.join(refresh(self.clone()));
        Ok(if now + EXPIRY_MARGIN < state.expires_at { TokenStep::Use(token) } else { TokenStep::Wait(refresh) })
    }

    /// The result of a refresh, even if the token expires soon: a session in its last second is not refreshed for ever.
    fn refreshed(&self) -> Result<String, TokenError> {
        let now = self.0.client.clock().monotonic();
        let state = self.state();
        match &state.last_refresh {
            LastRefresh::SessionEnded { cause } => Err(TokenError::LoginNeeded(cause.clone())),
            LastRefresh::Failed { cause, .. } if now >= state.expires_at => Err(TokenError::Unavailable(cause.clone())),
            LastRefresh::Failed { .. } | LastRefresh::Succeeded => Ok(state.tokens.access_token.clone()),
        }
    }

    fn state(&self) -> MutexGuard<'_, TokenState> {
        lock(&self.0.state)
    }
}

impl fmt::Debug for TokenSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenSource")
    }
}

/// The refresh task: stores new tokens, or the cause of the failure.
async fn refresh(source: TokenSource) {
    let client = &source.0.client;
    let (refresh_token, request_id) = {
        let state = source.state();
        (state.tokens.refresh_token.clone(), state.request_id.clone())
    };
    for attempt in 1.. {
        let requested = client.clock().monotonic();
        let request = pb::RefreshTokenRequest { refresh_token: refresh_token.clone(), request_id: request_id.clone() };
        let mut request = Request::new(request);
        request.set_timeout(ATTEMPT_TIMEOUT);
        let response = client.auth().refresh_token(request).await;
        let result = response.and_then(|response| {
            response.into_inner().tokens.ok_or_else(|| refusal::invalid_response("the response lacks the tokens"))
        });
        let cause = match result {
            Ok(tokens) => {
                let mut state = source.state();
                // This task is the current refresh.
                *state =
                    TokenState { refresh: std::mem::take(&mut state.refresh), ..TokenState::new(tokens, requested) };
                return;
            }
            Err(cause) => cause,
        };
        let pause = cause.retry_after().unwrap_or(ATTEMPT_PAUSE);
        match cause.auth_reason() {
            Some(ErrorReason::TokenRevoked | ErrorReason::TokenExpired | ErrorReason::TokenInvalid) => {
                source.state().last_refresh = LastRefresh::SessionEnded { cause };
                return;
            }
            Some(
                ErrorReason::Overloaded
                | ErrorReason::RateLimited
                | ErrorReason::Draining
                | ErrorReason::StoreUnavailable,
            ) => {}
            // The outcome is unknown. Repeat now: the next caller may come after the time in which the server repeats its
            // answer (`--refresh-repeat`), and would then end the session.
            _ if attempt < ATTEMPTS_MAX && pause <= RETRY_AFTER => {
                tokio::time::sleep(pause).await;
                continue;
            }
            _ => {}
        }
        tracing::warn!(code = ?cause.code(), reason = ?cause.auth_reason(), "access token could not be refreshed");
        let retry_at = client.clock().monotonic() + cause.retry_after().unwrap_or(RETRY_AFTER).min(LIFETIME_MAX);
        source.state().last_refresh = LastRefresh::Failed { cause, retry_at };
        return;
    }
}
