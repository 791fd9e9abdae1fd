//! Flags of the log and of the audit log.

use clap::{Args, ValueEnum};

use crate::telemetry;

/// The log and the audit log.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Logging and audit")]
pub struct LoggingArgs {
    /// The log.
    #[command(flatten)]
    pub log: LogArgs,

    /// Destination of the audit log: log (lines of the log), off, stdout, or the path of a file, which SIGHUP reopens. stdout
    /// and files receive one JSON object per line
    #[arg(long, env = "WATCHWORD_AUDIT_LOG", value_name = "WHERE", default_value = "log")]
    pub audit_log: telemetry::AuditLog,
}

/// The log on standard error.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
#[command(next_help_heading = "Logging and audit")]
pub struct LogArgs {
    /// Format of the log, which is written to standard error
    #[arg(long, env = "WATCHWORD_LOG_FORMAT", value_name = "FORMAT", default_value = "text")]
    pub log_format: telemetry::Format,

    /// Least severe level that is logged
    #[arg(long, env = "WATCHWORD_LOG_LEVEL", value_name = "LEVEL", default_value = "info")]
    pub log_level: Level,
}

/// Severity of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Level {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

impl From<Level> for tracing::Level {
    fn from(level: Level) -> Self {
        match level {
            Level::Error => tracing::Level::ERROR,
            Level::Warn => tracing::Level::WARN,
            Level::Info => tracing::Level::INFO,
            Level::Debug => tracing::Level::DEBUG,
            Level::Trace => tracing::Level::TRACE,
        }
    }
}
