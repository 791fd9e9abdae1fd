//! Lines on their way to a file: callers leave them in memory, and a thread of its own writes them.
//!
//! A disk that is full, slow or stuck costs lines, which are counted, and never a caller's time. After an error the writer
//! tries again, with a file that it opens anew, and goes on where it was: no line is torn but by the end of the process.

use std::{
    fs::{File, OpenOptions},
    io::{self, Write},
    os::{
        fd::AsFd,
        unix::fs::{MetadataExt, OpenOptionsExt},
    },
    path::{Path, PathBuf},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use prometheus_client::metrics::counter::Counter;
use tokio::{sync::watch, time};

/// Bytes of lines that may wait for the writer: some 10 000 lines, which is seconds of a machine's logins.
const WAITING_BYTES_MAX: usize = 4 * 1024 * 1024;

/// The part of it that lines may fill which anybody can cause: a flood of refusals must not push logins out.
const COMMON_BYTES_MAX: usize = WAITING_BYTES_MAX / 2;

/// Bytes that a buffer keeps when it is empty.
const KEPT_BYTES: usize = 64 * 1024;

/// Between two attempts to write what could not be written.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Lines under way. Dropping it ends its writer, once that has written what waits.
pub(super) struct Stream {
    shared: Arc<Shared>,
    /// Ends with the writer.
    ended: watch::Receiver<()>,
}

struct Shared {
    queue: Mutex<Queue>,
    changed: Condvar,
    dropped: Counter,
}

#[derive(Default)]
struct Queue {
    lines: Vec<u8>,
    reopen: bool,
    closing: bool,
    /// Whether the last attempt to write failed.
    is_failing: bool,
    /// What an operator should know: that it failed, or that lines were lost since the last one.
    trouble: Option<String>,
}

/// What lines are written to.
pub(super) struct Sink {
    file: File,
    /// None when it is standard output.
    path: Option<PathBuf>,
}

/// Lines that are being written.
#[derive(Default)]
struct Batch {
    lines: Vec<u8>,
    written: usize,
}

// === impl Stream ===

impl Stream {
    /// Starts the writer.
    pub(super) fn start(sink: Sink, dropped: Counter) -> io::Result<Self> {
        let shared = Arc::new(Shared { queue: Mutex::default(), changed: Condvar::new(), dropped });
        let (alive, ended) = watch::channel(());
        let writer = shared.clone();
        thread::Builder::new().name("audit".into()).spawn(move || {
            writer.write(sink);
            drop(alive);
        })?;
        Ok(Self { shared, ended })
    }

    /// Takes a line, or drops it when there is no room.
    pub(super) fn push(&self, line: &[u8], is_common: bool) {
        let room = if is_common { COMMON_BYTES_MAX } else { WAITING_BYTES_MAX };
        let mut queue = self.shared.lock();
        if queue.lines.len() + line.len() > room {
            queue.trouble.get_or_insert_with(|| "lines come faster than they can be written".into());
            drop(queue);
            // Their number is in the metrics; how many they are may be an attacker's choice.
            if self.shared.dropped.inc() == 0 {
                tracing::error!("a line of the audit was lost: they come faster than they can be written");
            }
            return;
        }
        queue.lines.extend_from_slice(line);
        drop(queue);
        self.shared.changed.notify_one();
    }

    pub(super) fn reopen(&self) {
        self.shared.lock().reopen = true;
        self.shared.changed.notify_one();
    }

    pub(super) fn trouble(&self) -> Option<String> {
        self.shared.lock().trouble.clone()
    }

    /// Writes what waits and ends the writer, or gives up after `within`.
    pub(super) async fn close(&self, within: Duration) {
        tracing::info!("writing what is left of the audit");
        self.shared.close();
        let mut ended = self.ended.clone();
        if time::timeout(within, async { while ended.changed().await.is_ok() {} }).await.is_err() {
            tracing::error!(after = ?within, "the audit could not be written to its end; is the disk stuck?");
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.shared.close();
    }
}

// === impl Shared ===

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        // Nothing that can panic runs under the lock.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn close(&self) {
        self.lock().closing = true;
        self.changed.notify_one();
    }

    /// The writer's life.
    fn write(&self, mut sink: Sink) {
        let (mut batch, mut has_failed) = (Batch::default(), false);
        while let Some(reopen) = self.next(&mut batch, has_failed) {
            let opened = if reopen || has_failed { sink.reopen(&mut batch) } else { Ok(()) };
            let written = opened.and_then(|()| batch.write_to(&mut sink.file));
            has_failed = written.is_err();
            if self.note(written) && has_failed {
                let lost = batch.lines_left() + lines_in(&self.lock().lines);
                self.dropped.inc_by(lost);
                return tracing::error!(lost, "the last lines of the audit were lost");
            }
        }
    }

    /// Waits until there is something to write, or to try again, and whether to open the file anew; `None` at the end.
    fn next(&self, batch: &mut Batch, has_failed: bool) -> Option<bool> {
        let is_left_alone = |queue: &mut Queue| !queue.reopen && !queue.closing;
        let queue = self.lock();
        let mut queue = if has_failed {
            let waited = self.changed.wait_timeout_while(queue, RETRY_AFTER, is_left_alone);
            waited.unwrap_or_else(PoisonError::into_inner).0
        } else {
            let waited = self.changed.wait_while(queue, |queue| is_left_alone(queue) && queue.lines.is_empty());
            waited.unwrap_or_else(PoisonError::into_inner)
        };
        if batch.lines.is_empty() {
            std::mem::swap(&mut batch.lines, &mut queue.lines);
        }
        if queue.closing && batch.lines.is_empty() {
            return None;
        }
        Some(std::mem::take(&mut queue.reopen))
    }

    /// Takes notice of what became of an attempt; whether it was the last. An error is logged once, until it has gone.
    fn note(&self, written: io::Result<()>) -> bool {
        let failing = written.err();
        let (had_failed, closing) = {
            let mut queue = self.lock();
            let had_failed = std::mem::replace(&mut queue.is_failing, failing.is_some());
            queue.trouble = failing.as_ref().map(|cause| format!("the audit cannot be written: {cause}"));
            (had_failed, queue.closing)
        };
        // Without the lock: whoever reads the log may be as slow as whoever reads the audit.
        match failing {
            Some(cause) if !had_failed => tracing::error!(%cause, "the audit cannot be written; trying again"),
            None if had_failed => tracing::warn!("the audit is written again"),
            Some(_) | None => {}
        }
        closing
    }
}

// === impl Sink ===

impl Sink {
    /// Standard output, past the buffer that `println!` has.
    pub(super) fn stdout() -> io::Result<Self> {
        let file = File::from(io::stdout().as_fd().try_clone_to_owned()?);
        Ok(Self { file, path: None })
    }

    /// A file, for this user alone; made when it is missing.
    pub(super) fn file(path: &Path) -> io::Result<Self> {
        Ok(Self { file: open(path)?, path: Some(path.to_owned()) })
    }

    /// Opens the file again. In another one, `batch` goes on with a whole line.
    fn reopen(&mut self, batch: &mut Batch) -> io::Result<()> {
        let Some(path) = &self.path else { return Ok(()) };
        let file = open(path)?;
        if identity(&file)? != identity(&self.file)? {
            batch.rewind();
        }
        self.file = file;
        Ok(())
    }
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).mode(0o600).open(path)
}

/// Device and inode.
fn identity(file: &File) -> io::Result<(u64, u64)> {
    file.metadata().map(|file| (file.dev(), file.ino()))
}

// === impl Batch ===

impl Batch {
    /// Writes what is left.
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
        self.lines.shrink_to(KEPT_BYTES);
        self.written = 0;
        Ok(())
    }

    /// Back to the beginning of a line.
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

    /// A file that takes so many bytes.
    struct Small(Vec<u8>, usize);

    impl Write for Small {
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
    fn a_line_that_a_full_disk_tore_goes_on_in_the_same_file_and_is_whole_in_another() {
        for (taken, in_another) in [(0, "one\ntwo\n"), (2, "one\ntwo\n"), (4, "two\n"), (6, "two\n")] {
            let batch = || Batch { lines: b"one\ntwo\n".to_vec(), written: 0 };
            let (mut same, mut other) = (batch(), batch());
            let (mut file, mut full) = (Small(Vec::new(), taken), Small(Vec::new(), taken));
            assert!(same.write_to(&mut file).is_err() && other.write_to(&mut full).is_err());
            file.1 = usize::MAX;
            same.write_to(&mut file).unwrap();
            assert_eq!(file.0, b"one\ntwo\n", "{taken}");
            other.rewind();
            assert_eq!(other.lines_left(), u64::try_from(in_another.lines().count()).unwrap());
            let mut new = Small(Vec::new(), usize::MAX);
            other.write_to(&mut new).unwrap();
            assert_eq!(new.0, in_another.as_bytes(), "{taken}");
            assert!(same.lines.is_empty() && other.lines.is_empty(), "what is written is not written again");
        }
    }
}
