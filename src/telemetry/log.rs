//! The log: one line per event on standard error, as text or JSON.
//!
//! Guarantees that a node never waits for the reader of its standard error: lines go through a buffer, and are dropped and
//! counted while it is full (`line_stream.rs`). Commands, which end by themselves, write directly.

use std::{
    io::{self, Write},
    panic,
    sync::{LazyLock, OnceLock},
    time::Duration,
};

use prometheus_client::metrics::counter::Counter;
use tracing::{Level, Metadata, Subscriber, level_filters::LevelFilter};
use tracing_subscriber::{
    Layer, Registry,
    filter::Targets,
    fmt::{self, MakeWriter},
    layer::SubscriberExt,
    registry::LookupSpan,
    util::SubscriberInitExt,
};

use super::line_stream::{LineStream, Lines, Pushed, Sink};

/// The target of events that belong into the audit log.
pub(super) const AUDIT_TARGET: &str = "watchword::audit";

/// How long the end of a node waits for the reader of its log.
const CLOSE_TIME_MAX: Duration = Duration::from_millis(500);

/// The form of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// Text, for people.
    Text,
    /// For programs: one JSON object per line.
    Json,
}

/// Counts the lines of this process that the log has lost.
#[derive(Default)]
pub(super) struct LostLines {
    pub(super) lines: Counter,
    /// Those of the audit log among them.
    pub(super) audit_lines: Counter,
}

/// Lines that the log has lost.
pub(super) static LOST: LazyLock<LostLines> = LazyLock::new(LostLines::default);

/// The log of a node, once it has started.
static STREAM: OnceLock<LineStream> = OnceLock::new();

/// Starts the log of a command. Later calls have no effect.
pub fn start(format: Format, level: Level, colours: bool) {
    start_with(format, level, colours, io::stderr);
}

/// Starts the log of a node, which never waits for the reader of standard error. Panics are logged too. To be ended with
/// [`close_log`].
///
/// # Errors
/// Standard error is closed, or there is no thread for the writer.
pub fn start_buffered(format: Format, level: Level, colours: bool) -> io::Result<()> {
    let stream = LineStream::start(Lines::Log, Sink::standard(&io::stderr())?, LOST.lines.clone())?;
    drop(STREAM.set(stream));
    start_with(format, level, colours, BufferedLog);
    panic::set_hook(Box::new(|panic| {
        let text = panic.payload_as_str().unwrap_or("without a text");
        tracing::error!(location = panic.location().map(tracing::field::display), "panic: {text}");
    }));
    Ok(())
}

/// Ends the log of a node. Waits a moment for the lines that are not written yet; after that they are lost without a report.
pub async fn close_log() {
    if let Some(stream) = STREAM.get() {
        stream.close(CLOSE_TIME_MAX).await;
    }
}

/// What operators should know of the log.
pub(super) fn problem() -> Option<String> {
    STREAM.get()?.problem()
}

fn start_with<W>(format: Format, level: Level, colours: bool, writer: W)
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    // Libraries log at ERROR only. At lower levels h2 logs each invalid frame, of which a peer can send millions, and
    // whole paths, which contain passwords on the original routes.
    let filter = Targets::new().with_target("watchword", level).with_default(LevelFilter::ERROR);
    let lines = Registry::default().with(lines(format, colours, writer).with_filter(filter));
    // Fails only when a log was started before.
    drop(lines.try_init());
}

fn lines<S, W>(format: Format, colours: bool, writer: W) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let layer = fmt::layer().with_writer(writer).with_target(false);
    match format {
        Format::Text => layer.with_ansi(colours).boxed(),
        Format::Json => layer.json().flatten_event(true).with_current_span(false).boxed(),
    }
}

/// Writes to [`STREAM`].
struct BufferedLog;

/// Takes one line.
struct BufferedLine {
    is_audit: bool,
}

impl<'a> MakeWriter<'a> for BufferedLog {
    type Writer = BufferedLine;

    fn make_writer(&'a self) -> BufferedLine {
        BufferedLine { is_audit: false }
    }

    fn make_writer_for(&'a self, event: &Metadata<'_>) -> BufferedLine {
        BufferedLine { is_audit: event.target() == AUDIT_TARGET }
    }
}

impl Write for BufferedLine {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let pushed = STREAM.get().map_or(Pushed::Dropped, |stream| stream.push(line, false));
        if pushed != Pushed::Kept && self.is_audit {
            LOST.audit_lines.inc();
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
