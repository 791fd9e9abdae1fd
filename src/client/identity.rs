//! Who is calling, for handlers behind [`VerifyLayer`](super::VerifyLayer).

use std::time::SystemTime;

use axum_core::extract::FromRequestParts;
use http::{StatusCode, request::Parts};

/// Whom a verified access token speaks for.
///
/// The layer puts it into the request's extensions. An axum handler takes it as an argument; a tonic method finds it with
/// `request.extensions().get::<Identity>()`.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Identity {
    /// The user's permanent identifier (`sub`), a UUID of version 7.
    pub user_id: String,
    /// The session that the token belongs to (`sid`).
    pub session_id: String,
    /// The user's name in its canonical form; only when Watchword was asked, since tokens hold no names.
    pub username: Option<String>,
    /// When the token expires (`exp`).
    pub expire_time: SystemTime,
}

impl<S: Sync> FromRequestParts<S> for Identity {
    /// 500: without the layer nobody can be let in, and no token that a caller could send would mend it.
    type Rejection = StatusCode;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, StatusCode> {
        parts.extensions.get::<Identity>().cloned().ok_or_else(|| {
            tracing::error!("a handler asks for an Identity, and no VerifyLayer is in front of it");
            StatusCode::INTERNAL_SERVER_ERROR
        })
    }
}
