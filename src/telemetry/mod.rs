//! What operators see. Implements `domain::Observer`.

mod audit;
mod audit_record;
mod audit_stream;
mod log;
mod metrics;

pub use self::{
    audit::{Audit, AuditLog},
    log::{Format, start},
    metrics::{Metrics, Now},
};
