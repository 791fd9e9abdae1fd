//! The log: one line per event on standard error, as text or JSON.

use tracing::{Level, Subscriber, level_filters::LevelFilter};
use tracing_subscriber::{
    Layer, Registry, filter::Targets, fmt, layer::SubscriberExt, registry::LookupSpan, util::SubscriberInitExt,
};

/// The form of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// Text, for people.
    Text,
    /// For programs: one JSON object per line.
    Json,
}

/// Starts the log of this process. Later calls have no effect.
pub fn start(format: Format, level: Level, colours: bool) {
    // Libraries log at ERROR only. At lower levels h2 logs each invalid frame, of which a peer can send millions, and
    // whole paths, which contain passwords on the original routes.
    let filter = Targets::new().with_target("watchword", level).with_default(LevelFilter::ERROR);
    let lines = Registry::default().with(lines(format, colours).with_filter(filter));
    // Fails only when a log was started before.
    drop(lines.try_init());
}

fn lines<S: Subscriber + for<'a> LookupSpan<'a>>(format: Format, colours: bool) -> Box<dyn Layer<S> + Send + Sync> {
    let layer = fmt::layer().with_writer(std::io::stderr).with_target(false);
    match format {
        Format::Text => layer.with_ansi(colours).boxed(),
        Format::Json => layer.json().flatten_event(true).with_current_span(false).boxed(),
    }
}
