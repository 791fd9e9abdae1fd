//! The log: one line an event on standard error, as text or JSON.

use tracing::{Level, Subscriber, level_filters::LevelFilter};
use tracing_subscriber::{
    Layer, Registry, filter::Targets, fmt, layer::SubscriberExt, registry::LookupSpan, util::SubscriberInitExt,
};

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
    // Libraries speak at ERROR only. Below it h2 logs a line for each odd frame, which a peer can send a million of,
    // and whole paths, which hold passwords on the original routes.
    let filter = Targets::new().with_target("watchword", level).with_default(LevelFilter::ERROR);
    let lines = Registry::default().with(lines(format, colours).with_filter(filter));
    // Fails only when a log was started before, and that one serves.
    drop(lines.try_init());
}

fn lines<S: Subscriber + for<'a> LookupSpan<'a>>(format: Format, colours: bool) -> Box<dyn Layer<S> + Send + Sync> {
    let layer = fmt::layer().with_writer(std::io::stderr).with_target(false);
    match format {
        Format::Text => layer.with_ansi(colours).boxed(),
        Format::Json => layer.json().flatten_event(true).with_current_span(false).boxed(),
    }
}
