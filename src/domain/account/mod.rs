//! Accounts: what users do with their own: register, change data and password, delete.
//!
//! Every change of a user record is a compare-and-set on that one record (`user_writer.rs`), runs to completion once it has
//! begun, and is noted. Whatever cannot be undone asks for the password again (ASVS 5.0 7.5.1). Does not know protocols or
//! operators.

mod change_password;
mod delete;
mod record_login;
mod register;
mod rehash;
mod rehash_tasks;
mod reset_password;
mod revoke_all_sessions;
mod update_data;
mod user_locks;
mod user_writer;

use std::sync::Arc;

pub(in crate::domain) use self::user_writer::UserWriter;
pub use self::{
    change_password::PasswordChange, register::Registration, reset_password::PasswordReset,
    revoke_all_sessions::SessionsToEnd, update_data::DataChange,
};
use self::{rehash_tasks::RehashTasks, user_locks::UserLocks};
use super::{
    abuse::{AttemptLimits, ChallengeRules, ProofOfWork},
    authn::Authenticator,
    password::{HashPool, Policy},
    ports::{Environment, Store},
    session::Sessions,
    token::KeyRingCache,
};
use crate::common::completion::Completion;

/// What input must satisfy; operators set it.
#[derive(Debug, Clone)]
pub struct Rules {
    /// What a new password must be.
    pub password_policy: Policy,
    /// Bytes of a user's data at most.
    pub data_bytes_max: usize,
    /// Where proof of work is required.
    pub challenges: ChallengeRules,
}

/// The use cases of users.
pub(in crate::domain) struct Accounts {
    pub(in crate::domain) store: Arc<dyn Store>,
    pub(in crate::domain) environment: Environment,
    pub(in crate::domain) keys: Arc<KeyRingCache>,
    pub(in crate::domain) pool: Arc<HashPool>,
    pub(in crate::domain) limits: Arc<AttemptLimits>,
    pub(in crate::domain) proof_of_work: Arc<ProofOfWork>,
    pub(in crate::domain) authenticator: Arc<Authenticator>,
    pub(in crate::domain) sessions: Arc<Sessions>,
    pub(in crate::domain) users: UserWriter,
    pub(in crate::domain) user_locks: Arc<UserLocks>,
    pub(in crate::domain) rehash_tasks: Arc<RehashTasks>,
    pub(in crate::domain) completion: Completion,
}
