//! The audit log: who did what, when, from where, and the outcome. Written to the log, or to a stream of its own.
//!
//! `audit_record.rs` turns an event into a record; `audit_merge.rs` merges equal ones; `line_stream.rs` writes
//! lines to a file. None of them blocks a call.

use std::{
    io,
    path::PathBuf,
    str::FromStr,
    sync::{Arc, Mutex},
    time::Duration,
};

use prometheus_client::metrics::counter::Counter;
use serde::Serialize;

use super::{
    audit_merge::{AuditMerger, MergeStep, RoutineLines},
    audit_record::{AuditRecord, Severity},
    line_stream::{LineStream, Lines, Pushed, Sink},
    log::{self, AUDIT_TARGET, LOST},
};
use crate::{
    common::lock::lock,
    domain::{Clock, ConfigurationWarning, Event, Observer},
};

/// The version of the line format. Raised when a field is removed or changes its meaning, not when one is added.
const SCHEMA: u32 = 2;

/// Where the audit log is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AuditLog {
    /// To the log.
    Log,
    /// Nowhere.
    Off,
    /// To standard output, one JSON object per line.
    Stdout,
    /// To this file, one JSON object per line.
    File(PathBuf),
}

/// Writes the events that belong into the audit log, and passes every event on.
pub struct Audit {
    target: AuditTarget,
    clock: Arc<dyn Clock>,
    next: Arc<dyn Observer>,
    dropped: Counter,
    merger: Mutex<AuditMerger>,
}

enum AuditTarget {
    Log,
    Off,
    Stream(LineStream),
}

#[derive(Serialize)]
struct AuditLine<'a> {
    ts: String,
    schema: u32,
    #[serde(flatten)]
    record: &'a AuditRecord<'a>,
}

impl Audit {
    /// Opens the target of the audit log. `next` receives every event after it.
    pub fn start(setting: &AuditLog, clock: Arc<dyn Clock>, next: Arc<dyn Observer>) -> io::Result<Self> {
        let dropped = match setting {
            AuditLog::Log => LOST.audit_lines.clone(),
            AuditLog::Off | AuditLog::Stdout | AuditLog::File(_) => Counter::default(),
        };
        let stream = |sink: io::Result<Sink>| {
            sink.and_then(|sink| LineStream::start(Lines::Audit, sink, dropped.clone())).map(AuditTarget::Stream)
        };
        let target = match setting {
            AuditLog::Log => AuditTarget::Log,
            AuditLog::Off => AuditTarget::Off,
            AuditLog::Stdout => stream(Sink::standard(&io::stdout()))?,
            AuditLog::File(path) => stream(Sink::file(path))?,
        };
        let routine = match target {
            AuditTarget::Log | AuditTarget::Off => RoutineLines::ByKind,
            AuditTarget::Stream(_) => RoutineLines::BySource,
        };
        Ok(Self { target, clock, next, dropped, merger: Mutex::new(AuditMerger::new(routine)) })
    }

    /// Opens the file again, after log rotation has moved it away. Returns at once.
    pub fn reopen(&self) {
        if let AuditTarget::Stream(stream) = &self.target {
            stream.reopen();
        }
    }

    /// The warning for operators while lines cannot be written or were lost.
    pub fn warning(&self) -> Option<ConfigurationWarning> {
        let problem = match &self.target {
            AuditTarget::Log => log::problem()?,
            AuditTarget::Stream(stream) => stream.problem()?,
            AuditTarget::Off => return None,
        };
        let text = format!("{problem}; {} lines were lost since the start", self.dropped.get());
        Some(ConfigurationWarning { setting: "--audit-log", text })
    }

    /// Counts the events that were lost.
    pub(super) fn dropped(&self) -> &Counter {
        &self.dropped
    }

    /// Writes the lines of events that were merged and whose time has ended. To be called once a second.
    pub fn write_merged(&self) {
        let ended = lock(&self.merger).ended(self.clock.monotonic());
        ended.iter().for_each(|record| self.write(record));
    }

    /// Writes the lines that wait, for at most `within`.
    pub async fn close(&self, within: Duration) {
        let merged = lock(&self.merger).all();
        merged.iter().for_each(|record| self.write(record));
        if let AuditTarget::Stream(stream) = &self.target {
            tracing::info!("writing the last audit lines");
            if !stream.close(within).await {
                tracing::error!(after = ?within, "the last audit lines could not be written in time; is the disk stuck?");
            }
        }
    }

    fn take(&self, record: &AuditRecord<'_>) {
        let MergeStep { before, is_written } = lock(&self.merger).take(record, self.clock.monotonic());
        before.iter().chain(is_written.then_some(record)).for_each(|record| self.write(record));
    }

    fn write(&self, record: &AuditRecord<'_>) {
        match &self.target {
            AuditTarget::Log => write_to_log(record),
            AuditTarget::Off => {}
            AuditTarget::Stream(stream) => self.push(stream, record),
        }
    }

    fn push(&self, stream: &LineStream, record: &AuditRecord<'_>) {
        let ts = humantime::format_rfc3339_nanos(self.clock.now()).to_string();
        let mut line =
            serde_json::to_vec(&AuditLine { ts, schema: SCHEMA, record }).expect("texts and numbers are JSON");
        line.push(b'\n');
        // Logged once until lines are written again: an attacker may control their number.
        if stream.push(&line, record.severity == Severity::Routine) == Pushed::FirstDropped {
            tracing::error!("audit line lost: lines arrive faster than they can be written");
        }
    }
}

impl Observer for Audit {
    fn on(&self, event: &Event<'_>) {
        if let Some(record) = AuditRecord::of(event) {
            self.take(&record);
        }
        self.next.on(event);
    }
}

/// Writes a record to the log, without the user agent, which the caller chooses.
fn write_to_log(record: &AuditRecord<'_>) {
    macro_rules! line {
        ($level:ident) => {
            tracing::$level!(
                target: AUDIT_TARGET,
                event = record.event,
                outcome = record.outcome.name(),
                reason = record.reason,
                count = record.count,
                sources = record.sources,
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
    match record.severity {
        Severity::Warning => line!(warn),
        Severity::Notice | Severity::Routine => line!(info),
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
