//! The state of a token source: the tokens, their times, and the result of the last refresh.

use std::time::{Duration, Instant};

use tonic::Status;

use crate::{
    api::pb,
    client::{request_id::request_id, single_flight::SingleFlight},
    common::bearer,
};

/// When an access token is refreshed, in fifths of its lifetime.
const DUE_FIFTHS: u32 = 4;

/// The lifetime of a token without the claims for it: the default of the contract.
const LIFETIME_DEFAULT: Duration = Duration::from_secs(300);

/// The longest lifetime that is believed.
pub(super) const LIFETIME_MAX: Duration = Duration::from_secs(86_400);

pub(super) struct TokenState {
    pub(super) tokens: pb::Tokens,
    /// Makes the refresh of these tokens repeatable: the same for every attempt, until there are new tokens.
    pub(super) request_id: String,
    /// When the access token is refreshed.
    pub(super) refresh_at: Instant,
    /// When the access token expires.
    pub(super) expires_at: Instant,
    pub(super) last_refresh: LastRefresh,
    pub(super) refresh: SingleFlight,
}

/// The result of the last refresh.
pub(super) enum LastRefresh {
    Succeeded,
    Failed { cause: Status, retry_at: Instant },
    SessionEnded { cause: Status },
}

impl TokenState {
    /// Tokens that were requested at `requested`.
    pub(super) fn new(tokens: pb::Tokens, requested: Instant) -> Self {
        let lifetime = bearer::lifetime(&tokens.access_token).unwrap_or(LIFETIME_DEFAULT).min(LIFETIME_MAX);
        let refresh_at = requested + lifetime * DUE_FIFTHS / 5;
        Self {
            tokens,
            request_id: request_id(),
            refresh_at,
            expires_at: requested + lifetime,
            last_refresh: LastRefresh::Succeeded,
            refresh: SingleFlight::default(),
        }
    }
}
