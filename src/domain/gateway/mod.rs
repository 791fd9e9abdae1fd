//! What gateways ask about requests that they hold.
//!
//! Answers from the introspection cache or the store, within a time budget. An answer in doubt is an error, never a success.
//! Does not know Envoy's protocol or any header.

mod ext_authz;

use std::sync::Arc;

pub use self::ext_authz::{Route, STORE_BUDGET};
use super::{ports::Environment, session::Sessions};

/// The use cases of gateways.
pub(in crate::domain) struct Gateway {
    pub(in crate::domain) environment: Environment,
    pub(in crate::domain) sessions: Arc<Sessions>,
}
