//! Why a token source has no access token.

use std::{error::Error, fmt};

use tonic::Status;

/// Why there is no access token.
#[derive(Debug, Clone)]
pub enum TokenError {
    /// The session has ended (TOKEN_REVOKED, TOKEN_EXPIRED, TOKEN_INVALID): log in again. This source stays in this state.
    LoginNeeded(Status),
    /// The old token has expired and could not be refreshed, because Watchword was not reachable. Retry later.
    Unavailable(Status),
}

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
            TokenError::LoginNeeded(cause) => write!(f, "log in again: {}", cause.message()),
            TokenError::Unavailable(cause) => write!(f, "no access token: {}", cause.message()),
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
