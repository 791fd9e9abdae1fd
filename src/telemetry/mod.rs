//! What operators see. Implements `domain::Observer`.

mod audit;
mod log;
mod metrics;

pub use self::{
    audit::Audit,
    log::{Format, start},
    metrics::{Metrics, Now},
};
