//! The log: one line an event on standard error, as text or JSON.

use tracing::Level;
use tracing_subscriber::fmt;

/// How a line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// For people.
    Text,
    /// For machines: one JSON object a line.
    Json,
}

/// Starts the log of this process. Later calls change nothing.
pub fn start(format: Format, level: Level, colours: bool) {
    let builder = fmt().with_max_level(level).with_writer(std::io::stderr).with_target(level > Level::INFO);
    // Fails only when a log was started before, and that one serves.
    drop(match format {
        Format::Text => builder.with_ansi(colours).try_init(),
        Format::Json => builder.json().flatten_event(true).with_current_span(false).try_init(),
    });
}
