//! The audit: who did what, when, from where, and how it ended. In the log, or as a stream of its own.
//!
//! What it says of an event is `record.rs`, how lines get to a file `stream.rs`. It never keeps a call waiting.

use std::{io, path::PathBuf, str::FromStr, sync::Arc, time::Duration};

use prometheus_client::metrics::counter::Counter;
use serde::Serialize;

use super::{
    audit_record::{Record, Weight},
    audit_stream::{Sink, Stream},
};
use crate::domain::{Clock, ConfigurationWarning, Event, Observer};

/// Of the form of a line. A new field is no new form; a field that goes or means something else is.
const SCHEMA: u32 = 2;

/// Where the audit goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AuditLog {
    /// Into the log, among everything else.
    Log,
    /// Nowhere.
    Off,
    /// To standard output, a JSON object a line.
    Stdout,
    /// To this file, a JSON object a line.
    File(PathBuf),
}

/// Hears every event, writes down those that are somebody's act, and passes all of them on.
pub struct Audit {
    to: To,
    clock: Arc<dyn Clock>,
    then: Arc<dyn Observer>,
    dropped: Counter,
}

enum To {
    Log,
    Nobody,
    Stream(Stream),
}

#[derive(Serialize)]
struct Line<'a> {
    ts: String,
    schema: u32,
    #[serde(flatten)]
    record: &'a Record<'a>,
}

impl Audit {
    /// Opens what the audit goes to.
    pub fn start(setting: &AuditLog, clock: Arc<dyn Clock>, then: Arc<dyn Observer>) -> io::Result<Self> {
        let dropped = Counter::default();
        let stream =
            |sink: io::Result<Sink>| sink.and_then(|sink| Stream::start(sink, dropped.clone())).map(To::Stream);
        let to = match setting {
            AuditLog::Log => To::Log,
            AuditLog::Off => To::Nobody,
            AuditLog::Stdout => stream(Sink::stdout())?,
            AuditLog::File(path) => stream(Sink::file(path))?,
        };
        Ok(Self { to, clock, then, dropped })
    }

    /// Opens the file again, after somebody has moved it away. Returns at once.
    pub fn reopen(&self) {
        if let To::Stream(stream) = &self.to {
            stream.reopen();
        }
    }

    /// What an operator should look at.
    pub fn warning(&self) -> Option<ConfigurationWarning> {
        let To::Stream(stream) = &self.to else { return None };
        let trouble = stream.trouble()?;
        let text = format!("{trouble}; {} lines were lost since the start", self.dropped.get());
        Some(ConfigurationWarning { setting: "--audit-log", text })
    }

    /// Counts the events that were lost.
    pub(super) fn dropped(&self) -> &Counter {
        &self.dropped
    }

    /// Writes everything that waits, for at most `within`.
    pub async fn close(&self, within: Duration) {
        if let To::Stream(stream) = &self.to {
            stream.close(within).await;
        }
    }

    fn write(&self, stream: &Stream, record: &Record<'_>) {
        let ts = humantime::format_rfc3339_nanos(self.clock.now()).to_string();
        let mut line = serde_json::to_vec(&Line { ts, schema: SCHEMA, record }).expect("texts and numbers are JSON");
        line.push(b'\n');
        stream.push(&line, record.weight == Weight::Common);
    }
}

impl Observer for Audit {
    fn on(&self, event: &Event<'_>) {
        if let Some(record) = Record::of(event) {
            match &self.to {
                To::Log => log(&record),
                To::Nobody => {}
                To::Stream(stream) => self.write(stream, &record),
            }
        }
        self.then.on(event);
    }
}

/// Writes a record to the log. What a caller calls itself is left out there.
fn log(record: &Record<'_>) {
    macro_rules! line {
        ($level:ident) => {
            tracing::$level!(
                event = record.event,
                outcome = record.outcome.name(),
                reason = record.reason,
                api = record.api,
                peer = record.peer.map(tracing::field::display),
                client = record.client.map(tracing::field::display),
                uid = record.uid,
                subject_id = record.subject_id.map(tracing::field::display),
                target_id = record.target_id.map(tracing::field::display),
                session_id = record.session_id.map(tracing::field::display),
                key_id = record.key_id,
            )
        };
    }
    match record.weight {
        Weight::Alarming => line!(warn),
        Weight::Notable => line!(info),
        Weight::Common => line!(debug),
    }
}

impl FromStr for AuditLog {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "" => Err("expected log, off, stdout or the path of a file".into()),
            "log" => Ok(AuditLog::Log),
            "off" => Ok(AuditLog::Off),
            "stdout" => Ok(AuditLog::Stdout),
            path => Ok(AuditLog::File(path.into())),
        }
    }
}
