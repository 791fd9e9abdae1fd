//! Keeps the tokens of a login fresh, for all who call with them.
//!
//! From four fifths of an access token's life on it is refreshed, once for all callers and in a task of its own: a caller who
//! goes away takes neither the refresh nor the rotated token with him. Nobody waits while the old token counts. A refresh
//! whose outcome is not known is repeated with the same refresh token, as long as the server answers the same successor:
//! a lost reply must not end the session. Time is counted from when the tokens were asked for, so a machine whose
//! clock is wrong refreshes no more often than others.

use std::{
    error::Error,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tonic::{Request, Status};

use super::{
    AuthorizeLayer, Client, StatusExt,
    flight::{Flight, Landing},
    refusal,
};
use crate::{
    api::pb::{self, ErrorReason},
    common::bearer,
};

/// When a token is refreshed, in fifths of its life.
const DUE_FIFTHS: u32 = 4;

/// A token that ends within this time is not handed out: the call would come too late.
const MARGIN: Duration = Duration::from_secs(2);

/// For a token that does not say how long it lives: the contract's default.
const LIFE_DEFAULT: Duration = Duration::from_secs(300);

/// However long a token says that it lives.
const LIFE_MAX: Duration = Duration::from_secs(86_400);

/// A refresh whose outcome is not known is sent so often at most, each time for so long, with such a pause between: all within
/// the 10 s in which the server answers the same successor again.
const ATTEMPTS_MAX: u32 = 3;
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(3);
const ATTEMPT_PAUSE: Duration = Duration::from_millis(200);

/// When a refresh that failed is tried again, where the server does not say.
const RETRY: Duration = Duration::from_secs(1);

/// The tokens of a login. Cheap to clone; all clones share them.
#[derive(Clone)]
pub struct TokenSource(Arc<Shared>);

struct Shared {
    client: Client,
    state: Mutex<State>,
}

struct State {
    tokens: pb::Tokens,
    due: Instant,
    ends: Instant,
    standing: Standing,
    refresh: Flight,
}

/// What came of the last refresh.
enum Standing {
    Good,
    Failed { cause: Status, again: Instant },
    Ended { cause: Status },
}

/// What is to be done for a caller.
enum Next {
    Use(String),
    Wait(Landing),
}

/// Why there is no access token.
#[derive(Debug, Clone)]
pub enum TokenError {
    /// The session has ended (TOKEN_REVOKED, TOKEN_EXPIRED, TOKEN_INVALID): sign in again. This source stays as it is.
    LoginNeeded(Status),
    /// The old token is over and there is no new one: Watchword could not be asked. Try again later.
    Unavailable(Status),
}

// === impl TokenSource ===

impl TokenSource {
    /// Takes the tokens of a login that has just been answered.
    pub fn new(client: &Client, tokens: pb::Tokens) -> Self {
        let state = State::new(tokens, client.clock().monotonic());
        Self(Arc::new(Shared { client: client.clone(), state: Mutex::new(state) }))
    }

    /// Takes tokens that a program kept, of whatever age: the first caller refreshes them.
    pub fn resume(client: &Client, tokens: pb::Tokens) -> Self {
        let source = Self::new(client, tokens);
        source.end();
        source
    }

    /// An access token that counts for at least two more seconds, or in an outage until its end.
    ///
    /// Waits for Watchword only when the old one is over: ten seconds at most. Needs a tokio runtime.
    ///
    /// # Errors
    ///
    /// See [`TokenError`].
    pub async fn access_token(&self) -> Result<String, TokenError> {
        match self.at_once()? {
            Next::Use(token) => Ok(token),
            Next::Wait(landing) => {
                landing.wait().await;
                self.refreshed()
            }
        }
    }

    /// The present tokens, for programs that keep them over a restart: the refresh token changes with every refresh.
    pub fn tokens(&self) -> pb::Tokens {
        self.state().tokens.clone()
    }

    /// Ends the session: logout.
    ///
    /// # Errors
    ///
    /// Those of the contract's RevokeToken: try again.
    pub async fn sign_out(&self) -> Result<(), Status> {
        let token = self.tokens().refresh_token;
        self.0.client.auth().revoke_token(pb::RevokeTokenRequest { token }).await?;
        Ok(())
    }

    /// Puts `authorization: Bearer` on every call of a gRPC client, whatever its service is.
    pub fn layer(&self) -> AuthorizeLayer {
        AuthorizeLayer::new(self.clone())
    }

    /// Says that a server took this token for expired: the next caller gets another one.
    pub(super) fn has_expired(&self, token: &str) {
        // Somebody else may have said so before, and there is another one by now.
        if self.state().tokens.access_token == token {
            self.end();
        }
    }

    fn end(&self) {
        let now = self.0.client.clock().monotonic();
        let mut state = self.state();
        (state.due, state.ends) = (now, now);
    }

    fn at_once(&self) -> Result<Next, TokenError> {
        let now = self.0.client.clock().monotonic();
        // Held until the refresh has started, so that it starts once.
        let mut state = self.state();
        let token = state.tokens.access_token.clone();
        match &state.standing {
            Standing::Ended { cause } => return Err(TokenError::LoginNeeded(cause.clone())),
            _ if now < state.due => return Ok(Next::Use(token)),
            Standing::Failed { again, .. } if now < *again && now < state.ends => return Ok(Next::Use(token)),
            Standing::Failed { cause, again } if now < *again => return Err(TokenError::Unavailable(cause.clone())),
            Standing::Failed { .. } | Standing::Good => {}
        }
        let landing = state.refresh.join(refresh(self.clone()));
        Ok(if now + MARGIN < state.ends { Next::Use(token) } else { Next::Wait(landing) })
    }

    /// What a refresh has brought, however short it lives: a session in its last second is not refreshed for ever.
    fn refreshed(&self) -> Result<String, TokenError> {
        let now = self.0.client.clock().monotonic();
        let state = self.state();
        match &state.standing {
            Standing::Ended { cause } => Err(TokenError::LoginNeeded(cause.clone())),
            Standing::Failed { cause, .. } if now >= state.ends => Err(TokenError::Unavailable(cause.clone())),
            Standing::Failed { .. } | Standing::Good => Ok(state.tokens.access_token.clone()),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for TokenSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenSource")
    }
}

impl State {
    fn new(tokens: pb::Tokens, asked: Instant) -> Self {
        let life = bearer::lifetime(&tokens.access_token).unwrap_or(LIFE_DEFAULT).min(LIFE_MAX);
        let due = asked + life * DUE_FIFTHS / 5;
        Self { tokens, due, ends: asked + life, standing: Standing::Good, refresh: Flight::default() }
    }
}

/// The task: leaves new tokens, or why there are none.
async fn refresh(source: TokenSource) {
    let client = &source.0.client;
    let refresh_token = source.tokens().refresh_token;
    for attempt in 1.. {
        let asked = client.clock().monotonic();
        let mut request = Request::new(pb::RefreshTokenRequest { refresh_token: refresh_token.clone() });
        request.set_timeout(ATTEMPT_TIMEOUT);
        let answer = client.auth().refresh_token(request).await;
        let answer = answer.and_then(|answer| {
            answer.into_inner().tokens.ok_or_else(|| refusal::broken_answer("the answer lacks the tokens"))
        });
        let cause = match answer {
            Ok(tokens) => {
                let mut state = source.state();
                // The flight is this one.
                *state = State { refresh: std::mem::take(&mut state.refresh), ..State::new(tokens, asked) };
                return;
            }
            Err(cause) => cause,
        };
        let pause = cause.retry_after().unwrap_or(ATTEMPT_PAUSE);
        match cause.auth_reason() {
            Some(ErrorReason::TokenRevoked | ErrorReason::TokenExpired | ErrorReason::TokenInvalid) => {
                source.state().standing = Standing::Ended { cause };
                return;
            }
            Some(ErrorReason::Overloaded | ErrorReason::Draining | ErrorReason::StoreUnavailable) => {}
            // Nobody knows what became of it; when nobody comes for a token within 10 s, nobody will ask again in time.
            _ if attempt < ATTEMPTS_MAX && pause <= RETRY => {
                tokio::time::sleep(pause).await;
                continue;
            }
            _ => {}
        }
        tracing::warn!(code = ?cause.code(), reason = ?cause.auth_reason(), "an access token could not be refreshed");
        let again = client.clock().monotonic() + cause.retry_after().unwrap_or(RETRY).min(LIFE_MAX);
        source.state().standing = Standing::Failed { cause, again };
        return;
    }
}

// === impl TokenError ===

impl From<TokenError> for Status {
    fn from(error: TokenError) -> Self {
        match error {
            TokenError::LoginNeeded(cause) | TokenError::Unavailable(cause) => cause,
        }
    }
}

impl fmt::Display for TokenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TokenError::LoginNeeded(cause) => write!(f, "sign in again: {}", cause.message()),
            TokenError::Unavailable(cause) => write!(f, "no access token now: {}", cause.message()),
        }
    }
}

impl Error for TokenError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            TokenError::LoginNeeded(cause) | TokenError::Unavailable(cause) => Some(cause),
        }
    }
}
