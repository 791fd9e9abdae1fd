//! A stream of lines to a file, standard output or standard error: calls append to a buffer, and a thread writes it.
//!
//! When the disk is full, slow or stuck, or the reader stops, lines are dropped and counted; calls never wait. After an
//! error the writer opens the file again and continues at the same byte, so only the end of the process can cut a line in two.

use std::{
    fs::{File, OpenOptions},
    io::{self, Write},
    os::{
        fd::AsFd,
        unix::fs::{MetadataExt, OpenOptionsExt},
    },
    path::{Path, PathBuf},
    sync::{Arc, Condvar, Mutex, MutexGuard},
    thread,
    time::Duration,
};

use prometheus_client::metrics::counter::Counter;
use tokio::{sync::watch, time};

use crate::common::lock::{ignore_poison, lock};

/// Bytes of audit lines that may wait for the writer: about 10 000 lines, or seconds of logins.
const AUDIT_BYTES_MAX: usize = 4 * 1024 * 1024;

/// The same for log lines.
const LOG_BYTES_MAX: usize = 1024 * 1024;

/// Which lines a stream carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lines {
    Audit,
    Log,
}

/// The capacity in bytes that an empty buffer keeps.
const CAPACITY_KEPT_BYTES: usize = 64 * 1024;

/// The time between two attempts to write after an error.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// The stream. Dropping it ends the writer after it has written the lines that wait.
pub(super) struct LineStream {
    buffer: Arc<SharedBuffer>,
    /// Closes when the writer ends.
    writer_ended: watch::Receiver<()>,
}

/// What became of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pushed {
    Kept,
    /// The first since lines were written.
    FirstDropped,
    Dropped,
}

/// What calls and the writer share.
struct SharedBuffer {
    kind: Lines,
    state: Mutex<BufferState>,
    changed: Condvar,
    dropped: Counter,
}

#[derive(Default)]
struct BufferState {
    lines: Vec<u8>,
    reopen: bool,
    closing: bool,
    /// Lines that were dropped since the last write.
    dropped: u64,
    /// Whether the last attempt to write failed.
    is_failing: bool,
    /// For operators: writing failed, or lines were lost since the last write.
    problem: Option<String>,
}

/// Where lines are written.
pub(super) struct Sink {
    file: File,
    /// `None` for standard output and standard error.
    path: Option<PathBuf>,
}

/// The lines that the writer is writing.
#[derive(Default)]
struct LineBatch {
    lines: Vec<u8>,
    written: usize,
}

// === impl LineStream ===

impl LineStream {
    /// Starts the writer.
    pub(super) fn start(kind: Lines, sink: Sink, dropped: Counter) -> io::Result<Self> {
        let buffer = Arc::new(SharedBuffer { kind, state: Mutex::default(), changed: Condvar::new(), dropped });
        let (alive, writer_ended) = watch::channel(());
        let writer = buffer.clone();
        thread::Builder::new().name(kind.name().into()).spawn(move || {
            writer.run_writer(sink);
            drop(alive);
        })?;
        Ok(Self { buffer, writer_ended })
    }

    /// Appends a line, or drops it when the buffer is full.
    pub(super) fn push(&self, line: &[u8], is_routine: bool) -> Pushed {
        let bytes_max = self.buffer.kind.bytes_max();
        // Half of it for lines that any client can cause: a flood of refusals must not displace logins.
        let bytes_max = if is_routine { bytes_max / 2 } else { bytes_max };
        let mut state = self.buffer.lock();
        if state.lines.len() + line.len() > bytes_max {
            let kind = self.buffer.kind.name();
            state.problem.get_or_insert_with(|| format!("{kind} lines arrive faster than they can be written"));
            state.dropped += 1;
            let is_first = state.dropped == 1;
            drop(state);
            self.buffer.dropped.inc();
            return if is_first { Pushed::FirstDropped } else { Pushed::Dropped };
        }
        state.lines.extend_from_slice(line);
        drop(state);
        self.buffer.changed.notify_one();
        Pushed::Kept
    }

    /// Makes the writer open the file again.
    pub(super) fn reopen(&self) {
        self.buffer.lock().reopen = true;
        self.buffer.changed.notify_one();
    }

    /// What operators should know of the stream.
    pub(super) fn problem(&self) -> Option<String> {
        self.buffer.lock().problem.clone()
    }

    /// Writes the lines that wait and ends the writer, or gives up after `within`. Answers whether it ended.
    pub(super) async fn close(&self, within: Duration) -> bool {
        self.buffer.close();
        let mut ended = self.writer_ended.clone();
        time::timeout(within, async { while ended.changed().await.is_ok() {} }).await.is_ok()
    }
}

impl Drop for LineStream {
    fn drop(&mut self) {
        self.buffer.close();
    }
}

// === impl SharedBuffer ===

impl SharedBuffer {
    fn lock(&self) -> MutexGuard<'_, BufferState> {
        lock(&self.state)
    }

    fn close(&self) {
        self.lock().closing = true;
        self.changed.notify_one();
    }

    /// Writes lines until the stream is closed: the writer thread.
    fn run_writer(&self, mut sink: Sink) {
        let (mut batch, mut has_failed) = (LineBatch::default(), false);
        while let Some(reopen) = self.next(&mut batch, has_failed) {
            let opened = if reopen || has_failed { sink.reopen(&mut batch) } else { Ok(()) };
            let written = opened.and_then(|()| batch.write_to(&mut sink.file));
            has_failed = written.is_err();
            if self.record_result(written) && has_failed {
                let lost = batch.lines_left() + lines_in(&self.lock().lines);
                self.dropped.inc_by(lost);
                return tracing::error!(lost, "the last {} lines were lost", self.kind.name());
            }
        }
    }

    /// Waits until there are lines to write or a write to repeat. Returns whether to open the file again, or `None` at the
    /// end.
    fn next(&self, batch: &mut LineBatch, has_failed: bool) -> Option<bool> {
        let has_no_request = |state: &mut BufferState| !state.reopen && !state.closing;
        let state = self.lock();
        let mut state = if has_failed {
            let waited = self.changed.wait_timeout_while(state, RETRY_AFTER, has_no_request);
            ignore_poison(waited).0
        } else {
            let waited = self.changed.wait_while(state, |state| has_no_request(state) && state.lines.is_empty());
            ignore_poison(waited)
        };
        if batch.lines.is_empty() {
            std::mem::swap(&mut batch.lines, &mut state.lines);
        }
        if state.closing && batch.lines.is_empty() {
            return None;
        }
        Some(std::mem::take(&mut state.reopen))
    }

    /// Records the result of a write. Returns whether the stream is closing. An error is logged once, until a write
    /// succeeds.
    fn record_result(&self, written: io::Result<()>) -> bool {
        let (error, kind) = (written.err(), self.kind.name());
        let (had_failed, dropped, closing) = {
            let mut state = self.lock();
            let had_failed = std::mem::replace(&mut state.is_failing, error.is_some());
            state.problem = error.as_ref().map(|cause| format!("{kind} lines cannot be written: {cause}"));
            let dropped = if error.is_none() { std::mem::take(&mut state.dropped) } else { 0 };
            (had_failed, dropped, state.closing)
        };
        // Not under the lock: the log may be as slow as this stream, or be this stream.
        match error {
            Some(cause) if !had_failed => tracing::error!(%cause, "{kind} lines cannot be written; retrying"),
            None if had_failed => tracing::warn!("{kind} lines are written again"),
            Some(_) | None => {}
        }
        if dropped > 0 {
            tracing::error!(lost = dropped, "{kind} lines were lost: they arrived faster than they could be written");
        }
        closing
    }
}

impl Lines {
    fn name(self) -> &'static str {
        match self {
            Lines::Audit => "audit",
            Lines::Log => "log",
        }
    }

    fn bytes_max(self) -> usize {
        match self {
            Lines::Audit => AUDIT_BYTES_MAX,
            Lines::Log => LOG_BYTES_MAX,
        }
    }
}

// === impl Sink ===

impl Sink {
    /// Standard output or standard error, without the locks and buffers of Rust's own.
    pub(super) fn standard(stream: &impl AsFd) -> io::Result<Self> {
        Ok(Self { file: File::from(stream.as_fd().try_clone_to_owned()?), path: None })
    }

    /// A file that only its owner can read. Created when it is missing.
    pub(super) fn file(path: &Path) -> io::Result<Self> {
        Ok(Self { file: open(path)?, path: Some(path.to_owned()) })
    }

    /// Opens the file again. If it is another file, `batch` continues with a whole line.
    fn reopen(&mut self, batch: &mut LineBatch) -> io::Result<()> {
        let Some(path) = &self.path else { return Ok(()) };
        let file = open(path)?;
        if device_and_inode(&file)? != device_and_inode(&self.file)? {
            batch.rewind();
        }
        self.file = file;
        Ok(())
    }
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).mode(0o600).open(path)
}

fn device_and_inode(file: &File) -> io::Result<(u64, u64)> {
    file.metadata().map(|file| (file.dev(), file.ino()))
}

// === impl LineBatch ===

impl LineBatch {
    /// Writes the bytes that are left.
    fn write_to(&mut self, file: &mut impl Write) -> io::Result<()> {
        while self.written < self.lines.len() {
            match file.write(&self.lines[self.written..]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(bytes) => self.written += bytes,
                Err(cause) if cause.kind() == io::ErrorKind::Interrupted => {}
                Err(cause) => return Err(cause),
            }
        }
        self.lines.clear();
        self.lines.shrink_to(CAPACITY_KEPT_BYTES);
        self.written = 0;
        Ok(())
    }

    /// Goes back to the beginning of the current line.
    fn rewind(&mut self) {
        let line_ends = self.lines[..self.written].iter().rposition(|byte| *byte == b'\n');
        self.written = line_ends.map_or(0, |at| at + 1);
    }

    fn lines_left(&self) -> u64 {
        lines_in(&self.lines[self.written..])
    }
}

fn lines_in(bytes: &[u8]) -> u64 {
    bytes.iter().filter(|byte| **byte == b'\n').map(|_| 1).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file on a disk with this many free bytes.
    struct SmallDisk(Vec<u8>, usize);

    impl Write for SmallDisk {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let taken = bytes.len().min(self.1 - self.0.len());
            if taken == 0 {
                return Err(io::ErrorKind::StorageFull.into());
            }
            self.0.extend_from_slice(&bytes[..taken]);
            Ok(taken)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn line_cut_by_a_full_disk_continues_in_the_same_file_and_restarts_in_another() {
        for (taken, in_another) in [(0, "one\ntwo\n"), (2, "one\ntwo\n"), (4, "two\n"), (6, "two\n")] {
            let batch = || LineBatch { lines: b"one\ntwo\n".to_vec(), written: 0 };
            let (mut same, mut other) = (batch(), batch());
            let (mut file, mut full) = (SmallDisk(Vec::new(), taken), SmallDisk(Vec::new(), taken));
            assert!(same.write_to(&mut file).is_err() && other.write_to(&mut full).is_err());
            file.1 = usize::MAX;
            same.write_to(&mut file).unwrap();
            assert_eq!(file.0, b"one\ntwo\n", "{taken}");
            other.rewind();
            assert_eq!(other.lines_left(), u64::try_from(in_another.lines().count()).unwrap());
            let mut new = SmallDisk(Vec::new(), usize::MAX);
            other.write_to(&mut new).unwrap();
            assert_eq!(new.0, in_another.as_bytes(), "{taken}");
            assert!(same.lines.is_empty() && other.lines.is_empty(), "written lines are not written again");
        }
    }
}
