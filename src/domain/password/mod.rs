//! Passwords: the policy for new ones, and the bounded pool that hashes them.
//!
//! Only a [`QueuePermit`] of the [`HashPool`] turns a password into its stored form or compares the two. Does not know
//! accounts, rate limits or stores.

mod blocklist;
mod hash_pool;
mod hash_queue;
mod hash_time;
mod hash_worker;
mod kernel;
mod made_of;
mod pepper;
mod policy;

pub(in crate::domain) use self::hash_worker::HashBegun;
pub(in crate::domain) use self::policy::check_differs;
pub use self::{
    blocklist::{BLOCKLIST_BYTES_MAX, Blocklist},
    hash_pool::{HashPool, QueuePermit},
    hash_queue::{JobSource, Purpose},
    hash_worker::PoolSettings,
    kernel::Kernel,
    pepper::Pepper,
    policy::{ContextWord, Policy},
};
pub use super::model::{Cost, Md5Hex, PasswordHash, PepperKeyId};
