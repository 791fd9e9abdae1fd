//! A connection to Watchword with deadlines, TLS and keepalive, and the refusals that calls return.
//!
//! Guarantees that every call has a deadline, and that a refusal of the client has the form of a refusal of the server. Does
//! not know how tokens are kept or verified.

mod connect;
mod deadline;
pub(super) mod refusal;
mod status;

pub use self::{
    connect::{Builder, Client, Login},
    deadline::Calls,
    status::StatusExt,
};
