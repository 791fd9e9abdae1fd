//! Why a node cannot start, and which setting to change.

use std::{fmt, io};

use crate::{net::BindError, store::OpenError, telemetry::AuditLog};

/// Why a node cannot start. The text names the setting to change.
#[derive(Debug)]
pub enum StartError {
    /// A listener cannot be bound.
    Bind {
        /// The setting of its address.
        flag: &'static str,
        /// The address and the cause.
        error: BindError,
    },
    /// The store cannot be opened.
    Store(OpenError),
    /// The audit log cannot be written.
    Audit {
        /// Its target.
        target: AuditLog,
        /// The error of the operating system.
        cause: io::Error,
    },
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StartError::Bind { flag, error } => {
                write!(f, "cannot listen at {}: {}; {flag} changes the address", error.address, error.cause)
            }
            StartError::Store(error) => error.fmt(f),
            StartError::Audit { target: AuditLog::File(path), cause } => {
                write!(f, "cannot write the audit log to {}: {cause}; --audit-log sets another file", path.display())
            }
            StartError::Audit { cause, .. } => {
                write!(f, "cannot write the audit log: {cause}; --audit-log sets another target")
            }
        }
    }
}

impl std::error::Error for StartError {}
