//! What operators see. Implements `domain::Observer`.

mod audit;
mod log;

pub use self::{
    audit::Audit,
    log::{Format, start},
};
