//! The authenticated user of a request, for handlers behind [`VerifyLayer`](super::VerifyLayer).

use std::time::SystemTime;

use axum_core::extract::FromRequestParts;
use http::{StatusCode, request::Parts};

/// The user and the session of a verified access token.
///
/// The layer puts it into the request's extensions. An axum handler takes it as an argument; a tonic method reads it with
/// `request.extensions().get::<Identity>()`.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Identity {
    /// The user's permanent identifier (`sub`), a UUID of version 7.
    pub user_id: String,
    /// The session that the token belongs to (`sid`).
    pub session_id: String,
    /// The canonical username. Only after introspection, since tokens contain no username.
    pub username: Option<String>,
    /// When the token expires (`exp`).
    pub expire_time: SystemTime,
}

impl<S: Sync> FromRequestParts<S> for Identity {
    /// 500: without the layer no request can be authenticated, whatever token a client sends.
    type Rejection = StatusCode;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, StatusCode> {
        parts.extensions.get::<Identity>().cloned().ok_or_else(|| {
            tracing::error!("handler takes an Identity, but there is no VerifyLayer in front of it");
            StatusCode::INTERNAL_SERVER_ERROR
        })
    }
}
