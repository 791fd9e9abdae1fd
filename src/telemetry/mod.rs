//! What operators see. Implements `domain::Observer`.

mod audit;
mod log;
mod metrics;
mod record;
mod stream;

pub use self::{
    audit::{Audit, AuditLog},
    log::{Format, start},
    metrics::{Metrics, Now},
};
