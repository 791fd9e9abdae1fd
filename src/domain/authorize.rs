//! Says whose request a gateway holds, so that it passes on what may pass and tells the upstream who calls.
//!
//! The gateway asks for every request of its own clients, so the store has a budget here: a store that stands still must
//! not hold up a whole site. No answer in time is no answer, and what then becomes of the request is the gateway's choice.

use std::time::Duration;

use super::{Auth, Bearer, CallContext, Error, Introspection, StoreError};

/// How long the store may take for one request: half of what Envoy waits for us when its settings do not say.
pub const STORE_BUDGET: Duration = Duration::from_millis(100);

/// Taken off what is left of the call, so that the answer is there before the door ends the call without one.
const MARGIN: Duration = Duration::from_millis(5);

/// Whom the gateway lets pass to where the request goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Route {
    /// Users.
    Required,
    /// Users, and whoever shows no credentials at all. Bad ones are refused here too: their client must learn of it.
    Optional,
}

impl Auth {
    /// Looks at the token of a request; `None` is a caller who may pass as nobody.
    ///
    /// # Errors
    /// Those of a bearer token; `StoreUnavailable` when the store does not answer within [`STORE_BUDGET`], or before the
    /// caller's deadline if that is sooner; `CorruptRecord`.
    pub async fn authorize(&self, context: &CallContext, route: Route) -> Result<Option<Introspection>, Error> {
        if let (Route::Optional, Bearer::Missing) = (route, &context.bearer) {
            return Ok(None);
        }
        let left = context.deadline.saturating_duration_since(self.clock().monotonic());
        let budget = STORE_BUDGET.min(left - MARGIN.min(left / 2));
        let answer = tokio::time::timeout(budget, self.bearer(context)).await;
        let (owner, claims) = answer.map_err(|_| self.store_error(StoreError::Unavailable))??;
        Ok(Some(self.access_introspection(owner, &claims)))
    }
}
