//! A connection to Watchword with deadlines, TLS and keepalive, proof of work, and the refusals that calls return.
//!
//! Guarantees that every call has a deadline, that proof of work has a limit, and that a refusal of the client has the form
//! of a refusal of the server. Does not know how tokens are kept or verified.

mod challenge;
mod connect;
mod deadline;
mod proof_of_work;
pub(super) mod refusal;
mod status;

pub use self::{
    connect::{Builder, Client, Login},
    deadline::Calls,
    status::StatusExt,
};
