//! What operators see: the log, the audit log, and metrics.
//!
//! Receives every event of the rules as a `domain::Observer`. Guarantees that no line and no label contains a secret or a
//! username that a client sent, and that writing never blocks a call. Does not know how events come about, nor any protocol.

mod audit;
mod audit_merge;
mod audit_record;
mod line_stream;
mod log;
mod metrics;

pub use self::{
    audit::{Audit, AuditLog},
    log::{Format, close_log, start, start_buffered},
    metrics::{Metrics, MetricsSnapshot},
};
