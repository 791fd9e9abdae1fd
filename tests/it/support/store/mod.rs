//! The stores of the tests: a store of any kind, a store that fails on request, a simulated disk, and a redis-server.

pub mod disk;
pub mod fault;
pub mod redis;
mod test_store;

pub use self::test_store::{StoreKind, TestStore, environment, redis_settings};
