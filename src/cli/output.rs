//! What commands print: results on standard output, faults on standard error.

use std::{
    io::{self, Write},
    process::ExitCode,
    sync::mpsc,
    thread,
    time::Duration,
};

/// How long the end of a command waits for the reader of its standard error.
const WRITE_TIME_MAX: Duration = Duration::from_millis(500);

pub(super) fn print(text: &str) -> Result<ExitCode, String> {
    io::stdout().write_all(text.as_bytes()).map_err(|cause| cause.to_string())?;
    Ok(ExitCode::SUCCESS)
}

pub(super) fn warn(text: &str) {
    // Standard error may be closed.
    drop(writeln!(io::stderr(), "watchword: warning: {text}"));
}

pub(super) fn fail(cause: &str) -> ExitCode {
    fail_with(cause, 1)
}

pub(super) fn fail_with(cause: &str, code: u8) -> ExitCode {
    // On a thread: standard error may be closed or not be read, and the exit must not wait for that.
    let (line, (written, end)) = (format!("watchword: {cause}\n"), mpsc::channel());
    thread::spawn(move || written.send(io::stderr().write_all(line.as_bytes())));
    drop(end.recv_timeout(WRITE_TIME_MAX));
    ExitCode::from(code)
}

/// `text` without characters that a terminal executes: it may come from a user or from a file name.
pub(super) fn without_controls(text: &str) -> String {
    let shown = text.chars().map(|c| if c.is_control() { c.escape_default().to_string() } else { c.to_string() });
    shown.collect()
}
