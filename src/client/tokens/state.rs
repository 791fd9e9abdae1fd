//! The state of a token source: the tokens, their times, and the result of the last refresh.

use std::time::{Duration, Instant};

use tonic::Status;

use crate::{api::pb, client::single_flight::SingleFlight, common::bearer};

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

/// A random UUID (version 4 of RFC 9562). Not derived from the token: its thief must not know it. Empty, which is no id,
/// where the system has no random bytes.
fn request_id() -> String {
    let mut bytes = [0; 16];
    if aws_lc_rs::rand::fill(&mut bytes).is_err() {
        return String::new();
    }
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex = |part: &[u8]| part.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let [a, b, c, d, e] = [&bytes[..4], &bytes[4..6], &bytes[6..8], &bytes[8..10], &bytes[10..]].map(hex);
    format!("{a}-{b}-{c}-{d}-{e}")
}
