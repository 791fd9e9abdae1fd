//! What the rules need from outside: a store, a clock, randomness, an observer.
//!
//! `store`, `telemetry` and the tests implement these traits. A store's error becomes a caller's error in one place
//! (`environment.rs`), and a compare-and-set is repeated in one place (`compare_and_set.rs`). Does not know any rule.

mod clock;
mod compare_and_set;
mod entropy;
mod environment;
mod observer;
mod store;

pub use self::{
    clock::{Clock, Elapsed, Sleep, System},
    entropy::Entropy,
    environment::Environment,
    observer::Observer,
    store::{
        ChangeHandler, ChangeNotice, Changed, Claim, ConfigurationWarning, Replace, Revision, Store, StoreHealth,
        Stored, WATCH_DURATION,
    },
};
pub(in crate::domain) use self::{compare_and_set::cas_attempts, environment::StoreResult};
