//! Sessions: a login creates one, a refresh continues it; a logout, a password change or time ends it.
//!
//! A session is valid only while its epoch equals the user's, in the one record that every check reads: whatever raises the
//! epoch ends all sessions, and no race leaves one alive. A positive check may be answered again from the introspection
//! cache for less than a second. Does not know passwords or how a user authenticated.

mod authenticate;
mod create;
mod introspect;
mod introspection_cache;
mod list;
mod refresh;
mod repeat;
mod revoke;
mod writer;

use std::sync::Arc;

pub(in crate::domain) use self::{
    authenticate::AuthenticatedSession, introspection_cache::IntrospectionCache, writer::SessionWriter,
};
pub use self::{
    introspect::{Introspection, TokenTypeHint, TokenUse},
    list::SessionPage,
};
use super::{
    abuse::AttemptLimits,
    ports::{Environment, Store},
    token::{KeyRingCache, TokenSettings},
};
use crate::common::completion::Completion;

/// Creates, checks, lists and ends sessions.
pub(in crate::domain) struct Sessions {
    pub(in crate::domain) store: Arc<dyn Store>,
    pub(in crate::domain) environment: Environment,
    pub(in crate::domain) keys: Arc<KeyRingCache>,
    pub(in crate::domain) limits: Arc<AttemptLimits>,
    pub(in crate::domain) settings: TokenSettings,
    pub(in crate::domain) cache: Arc<IntrospectionCache>,
    pub(in crate::domain) writer: Arc<SessionWriter>,
    pub(in crate::domain) completion: Completion,
}
