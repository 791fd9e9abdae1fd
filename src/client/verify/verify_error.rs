//! Why an access token is refused.

use std::{error::Error, fmt};

/// Why an access token is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VerifyError {
    /// Not an access token of this issuer for this audience, or not valid yet.
    Invalid,
    /// It has expired. The client should refresh it.
    Expired,
    /// Its session has ended. Only introspection can find this out.
    Revoked,
    /// The keys or Watchword are not reachable, so the token cannot be checked. Retry later.
    Unavailable,
}

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
