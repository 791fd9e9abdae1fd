//! Merges equal audit records into one line with a count.
//!
//! Guarantees that events which cost a client no hash cannot fill a disk: in a second, one event of one source, or of one
//! user and session, is two lines at most, the first at once and one for all others. Events that any client can cause
//! without a token have a limit together too, above which they are counted without their source. In the log, which people
//! read, they are two lines a minute for each kind. Does not know how lines are written.

use std::{
    collections::{HashMap, HashSet},
    time::{Duration, Instant},
};

use super::audit_record::{AuditRecord, Merging};
use crate::domain::{IpPrefix, Peer, SessionId, UserId};

/// How long equal records are merged.
const WINDOW: Duration = Duration::from_secs(1);

/// How long records of one kind are merged in the log.
const WINDOW_OF_KIND: Duration = Duration::from_secs(60);

/// Different sources of routine events in a window that have a line of their own, or that the line of their kind counts.
const SOURCES_MAX: usize = 100;

/// Different users and sessions in a window whose records are merged. Those of further ones are not: each session has a
/// rate limit.
const OWNERS_MAX: usize = 10_000;

/// How events are merged that any client can cause without a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RoutineLines {
    /// By source and second, for a stream.
    BySource,
    /// By kind and minute, for the log.
    ByKind,
}

/// The records that are being merged.
pub(super) struct AuditMerger {
    routine: RoutineLines,
    windows: HashMap<MergeKey, MergeWindow>,
    sources: usize,
}

/// What equal records have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum MergeKey {
    /// A user and a session, wherever the calls come from.
    Owner { what: EventKind, user: Option<UserId>, session: Option<SessionId> },
    /// A caller, as far as one client cannot change what it is.
    Source { what: EventKind, source: AuditSource, target: Option<UserId> },
    /// All callers beyond [`SOURCES_MAX`].
    OtherSources { what: EventKind },
    /// All callers, in the log.
    Kind { what: EventKind },
}

/// Event, reason and API.
type EventKind = (&'static str, Option<&'static str>, Option<&'static str>);

/// The networks of the peer and of the client address, and the operating-system user of a local peer.
type AuditSource = ([Option<IpPrefix>; 2], Option<u32>);

/// Equal records.
struct MergeWindow {
    ends: Instant,
    record: AuditRecord<'static>,
    /// How many of them are not written yet.
    unwritten: u64,
    /// Where those of one kind come from; at most [`SOURCES_MAX`].
    sources: HashSet<AuditSource>,
}

/// What becomes of one record.
#[derive(Debug)]
pub(super) struct MergeStep {
    /// The line of earlier records, which is written first.
    pub(super) before: Option<AuditRecord<'static>>,
    /// Whether the record itself is written now.
    pub(super) is_written: bool,
}

// === impl AuditMerger ===

impl AuditMerger {
    /// Nothing to merge yet.
    pub(super) fn new(routine: RoutineLines) -> Self {
        Self { routine, windows: HashMap::new(), sources: 0 }
    }

    /// Takes a record.
    pub(super) fn take(&mut self, record: &AuditRecord<'_>, now: Instant) -> MergeStep {
        let Some(key) = self.key(record) else { return MergeStep { before: None, is_written: true } };
        let mut before = None;
        match self.windows.get_mut(&key) {
            Some(window) if window.is_open(now) => {
                window.unwritten += 1;
                window.count_source(&key, record);
                return MergeStep { before: None, is_written: false };
            }
            Some(window) => before = window.line(),
            None => self.sources += usize::from(key.is_source()),
        }
        // A line without the source says no more than the one at the end, so the first record waits too.
        let is_written = !matches!(key, MergeKey::OtherSources { .. });
        let mut window = MergeWindow {
            ends: now + key.window(),
            record: key.kept(record),
            unwritten: u64::from(!is_written),
            sources: HashSet::new(),
        };
        window.count_source(&key, record);
        self.windows.insert(key, window);
        MergeStep { before, is_written }
    }

    /// The key under which a record is merged; `None` for one that is not.
    fn key(&self, record: &AuditRecord<'_>) -> Option<MergeKey> {
        let what = (record.event, record.reason, record.api);
        match record.merging {
            Merging::Never => None,
            Merging::ByOwner => {
                let user = record.subject_id.or(record.target_id);
                let key = MergeKey::Owner { what, user, session: record.session_id };
                let has_space = self.windows.len() < OWNERS_MAX + SOURCES_MAX || self.windows.contains_key(&key);
                has_space.then_some(key)
            }
            Merging::Routine if self.routine == RoutineLines::ByKind => Some(MergeKey::Kind { what }),
            Merging::Routine => {
                let key = MergeKey::Source { what, source: source(record), target: record.target_id };
                let has_space = self.sources < SOURCES_MAX || self.windows.contains_key(&key);
                Some(if has_space { key } else { MergeKey::OtherSources { what } })
            }
        }
    }

    /// Closes the windows that have ended, and answers their lines.
    pub(super) fn ended(&mut self, now: Instant) -> Vec<AuditRecord<'static>> {
        self.close(|window| !window.is_open(now))
    }

    /// Closes all windows, and answers their lines.
    pub(super) fn all(&mut self) -> Vec<AuditRecord<'static>> {
        self.close(|_| true)
    }

    fn close(&mut self, ends: impl Fn(&MergeWindow) -> bool) -> Vec<AuditRecord<'static>> {
        let closed = self.windows.extract_if(|_, window| ends(window));
        let (sources, lines): (Vec<_>, Vec<_>) = closed.map(|(key, window)| (key.is_source(), window.line())).unzip();
        self.sources -= sources.into_iter().filter(|is_source| *is_source).count();
        lines.into_iter().flatten().collect()
    }
}

impl MergeKey {
    fn is_source(&self) -> bool {
        matches!(self, MergeKey::Source { .. })
    }

    /// How long records are merged.
    fn window(&self) -> Duration {
        match self {
            MergeKey::Owner { .. } | MergeKey::Source { .. } | MergeKey::OtherSources { .. } => WINDOW,
            MergeKey::Kind { .. } => WINDOW_OF_KIND,
        }
    }

    /// What the line of further records says: no more than what they have in common.
    fn kept(&self, record: &AuditRecord<'_>) -> AuditRecord<'static> {
        let (peer, client, uid) = match self {
            MergeKey::Source { .. } => (record.peer, record.client, record.uid),
            MergeKey::Owner { .. } | MergeKey::OtherSources { .. } | MergeKey::Kind { .. } => (None, None, None),
        };
        let target_id = match self {
            MergeKey::Source { .. } | MergeKey::Owner { .. } => record.target_id,
            MergeKey::OtherSources { .. } | MergeKey::Kind { .. } => None,
        };
        AuditRecord {
            event: record.event,
            outcome: record.outcome,
            reason: record.reason,
            count: None,
            sources: None,
            api: record.api,
            peer,
            client,
            uid,
            user_agent: "",
            subject_id: record.subject_id,
            target_id,
            session_id: record.session_id,
            key_id: None,
            severity: record.severity,
            merging: record.merging,
        }
    }
}

impl MergeWindow {
    fn is_open(&self, now: Instant) -> bool {
        now < self.ends
    }

    /// Counts where a record comes from, if the line is that of a kind.
    fn count_source(&mut self, key: &MergeKey, record: &AuditRecord<'_>) {
        if matches!(key, MergeKey::Kind { .. }) && self.sources.len() < SOURCES_MAX {
            self.sources.insert(source(record));
        }
    }

    /// The line of the records that are not written yet.
    fn line(&self) -> Option<AuditRecord<'static>> {
        let sources = (!self.sources.is_empty()).then_some(self.sources.len());
        (self.unwritten > 0).then(|| AuditRecord { count: Some(self.unwritten), sources, ..self.record.clone() })
    }
}

/// Where a record comes from, as far as one client cannot change it.
fn source(record: &AuditRecord<'_>) -> AuditSource {
    let peer = match record.peer {
        Some(Peer::Ip(address)) => Some(IpPrefix::of(address)),
        Some(Peer::Local { .. }) | None => None,
    };
    ([peer, record.client.map(IpPrefix::of)], record.uid)
}
