//! The error table: how each domain error looks in every protocol.
//!
//! Guarantees: every error has one row with its gRPC code, HTTP status, reason and text. Every gRPC error carries exactly
//! one `google.rpc.ErrorInfo`. An error after which a retry is safe carries the wait, in each form that clients read.
//! No row holds a secret.
//!
//! Only this folder builds a `tonic::Status`. It does not know why an error occurred: the cause is in the log.

mod row;
mod status;
mod table;
mod unimplemented;

pub use self::{
    row::ErrorRow,
    status::status,
    table::error_row,
    unimplemented::{second_message, unimplemented, unknown_health_service},
};
