//! What operators do with accounts and keys: the second facade beside `Auth`.
//!
//! Each admin action runs to completion and is reported to the observer with its outcome, also if it is
//! refused. Does not know the API over which operators call.

mod account_state;
mod server_info;
mod signing_key;
mod users;

use std::sync::Arc;

pub use self::{
    account_state::AccountState,
    users::{AdminUser, UserSelector},
};
use super::{
    abuse::AttemptLimits,
    account::UserWriter,
    ports::{Environment, Store},
    session::Sessions,
    token::KeyRingCache,
};
use crate::common::completion::Completion;

/// The use cases of operators.
pub struct Admin {
    pub(in crate::domain) store: Arc<dyn Store>,
    pub(in crate::domain) environment: Environment,
    pub(in crate::domain) keys: Arc<KeyRingCache>,
    pub(in crate::domain) limits: Arc<AttemptLimits>,
    pub(in crate::domain) users: UserWriter,
    pub(in crate::domain) sessions: Arc<Sessions>,
    pub(in crate::domain) completion: Completion,
}
