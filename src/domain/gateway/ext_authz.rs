//! External authorization: authenticates a request that a gateway holds, so that it forwards what may pass and tells the
//! upstream who calls.
//!
//! The gateway asks for every request of its clients, so the store has a time budget here: a store that hangs must not delay
//! a whole site. Without an answer in time the call fails, and the gateway's settings decide what becomes of the request.

use std::time::Duration;

use super::Gateway;
use crate::domain::{
    context::{Bearer, CallContext},
    error::{Error, StoreError},
    ports::StoreResult,
    session::Introspection,
};

/// How long the store may take for one request: half of what Envoy waits for us when its settings do not say.
pub const STORE_BUDGET: Duration = Duration::from_millis(100);

/// Subtracted from the remaining time of the call, so that the response is sent before the API ends the call without one.
const MARGIN: Duration = Duration::from_millis(5);

/// The requests that the gateway forwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Route {
    /// Users.
    Required,
    /// Those of authenticated users, and those without credentials. Invalid credentials are refused, so that the client
    /// learns of it.
    Optional,
}

impl Gateway {
    /// Authenticates a request; `None` when it may pass without an identity.
    ///
    /// # Errors
    /// Those of an access token; `StoreUnavailable` when the store does not answer within [`STORE_BUDGET`], or before the
    /// caller's deadline if that is sooner; `CorruptRecord`.
    pub(in crate::domain) async fn authorize(
        &self,
        context: &CallContext,
        route: Route,
    ) -> Result<Option<Introspection>, Error> {
        if let (Route::Optional, Bearer::Missing) = (route, &context.bearer) {
            return Ok(None);
        }
        let clock = &self.environment.clock;
        let left = context.deadline.saturating_duration_since(clock.monotonic());
        let budget = STORE_BUDGET.min(left - MARGIN.min(left / 2));
        let answer = clock.timeout(budget, self.sessions.introspect_bearer(context)).await;
        answer.unwrap_or_else(|_| Err(StoreError::Unavailable).or_report(&self.environment)).map(Some)
    }
}
