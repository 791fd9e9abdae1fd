//! The binary as a child process, for tests of signals, `kill -9`, locks and exit codes.

use std::{
    fs,
    io::{BufRead, BufReader, Read},
    path::Path,
    process::{Child, ChildStderr, Command, ExitStatus, Stdio},
    sync::mpsc,
    thread,
};

use super::WAIT_MAX;

/// The binary under test.
pub const BINARY: &str = env!("CARGO_BIN_EXE_watchword");

/// A running node. It is killed when dropped.
pub struct Node {
    child: Child,
    lines: mpsc::Receiver<String>,
    seen: Vec<String>,
    pub grpc: String,
}

/// A command of the binary, without the `WATCHWORD_` variables of this process.
pub fn command(args: &[&str]) -> Command {
    command_by(Command::new(BINARY), args)
}

/// Like [`command`], for a program that runs the binary, such as `strace`.
pub fn command_by(mut command: Command, args: &[&str]) -> Command {
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("WATCHWORD_")) {
        command.env_remove(name);
    }
    // Files that a command creates in its folder stay out of the repository.
    command.args(args).stdin(Stdio::null()).current_dir(env!("CARGO_TARGET_TMPDIR"));
    command
}

impl Node {
    /// Starts a node on a data folder and waits until it listens.
    pub fn start(folder: &Path, args: &[&str]) -> Self {
        Self::try_start(folder, args).unwrap_or_else(|log| panic!("the node did not start:\n{log}"))
    }

    /// Like [`Self::start`], but returns the log if the node exits instead.
    pub fn try_start(folder: &Path, args: &[&str]) -> Result<Self, String> {
        let mut command = command(&["--grpc-addr", "127.0.0.1:0", "--http-addr", "off", "--ops-addr", "off"]);
        command.arg("--data-dir").arg(folder).args(args);
        Self::spawn(command)
    }

    /// Runs a prepared command and waits until the node listens.
    pub fn spawn(mut command: Command) -> Result<Self, String> {
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let lines = read_lines(child.stderr.take().unwrap());
        let mut node = Self { child, lines, seen: Vec::new(), grpc: String::new() };
        match node.wait_for_line("api=\"grpc\" address=") {
            Some(line) => {
                node.grpc = line.rsplit("address=").next().unwrap().to_owned();
                Ok(node)
            }
            None => Err(node.seen.join("\n")),
        }
    }

    /// Waits for a new log line that contains `text`. `None` if the log ends first.
    pub fn wait_for_line(&mut self, text: &str) -> Option<String> {
        loop {
            match self.lines.recv_timeout(WAIT_MAX) {
                Ok(line) => {
                    self.seen.push(line.clone());
                    if line.contains(text) {
                        return Some(line);
                    }
                }
                Err(mpsc::RecvTimeoutError::Disconnected) => return None,
                Err(mpsc::RecvTimeoutError::Timeout) => {
                    panic!("no log line contains {text}:\n{}", self.seen.join("\n"))
                }
            }
        }
    }

    /// Like [`Self::wait_for_line`], but also finds a line that was already read.
    pub fn line(&mut self, text: &str) -> Option<String> {
        let seen = self.seen.iter().find(|line| line.contains(text)).cloned();
        seen.or_else(|| self.wait_for_line(text))
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The memory of the process, by the name of the field in `/proc`: `VmRSS:` now, `VmHWM:` the peak.
    pub fn memory_kib(&self, field: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(field)).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }

    /// Sends a signal by name, such as `TERM`.
    pub fn signal(&self, name: &str) {
        let sent = Command::new("kill").args([&format!("-{name}"), &self.pid().to_string()]).status().unwrap();
        assert!(sent.success());
    }

    /// Sends SIGKILL and waits until the process has exited.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Waits until the process has exited, and returns its status and its log.
    pub fn wait(mut self) -> (ExitStatus, String) {
        // No line contains this text, so this reads until the process closes its log.
        drop(self.wait_for_line("\u{0}"));
        (self.child.wait().unwrap(), self.seen.join("\n"))
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // The process may have exited already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn read_lines(stderr: ChildStderr) -> mpsc::Receiver<String> {
    let (send, lines) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(stderr).lines().map_while(Result::ok) {
            if send.send(line).is_err() {
                return;
            }
        }
    });
    lines
}

/// Runs the binary until it exits. Returns its exit code, standard output and standard error.
pub fn run(args: &[&str]) -> (i32, String, String) {
    // Limits a command that starts to serve instead of exiting.
    let mut limited = Command::new("timeout");
    limited.arg("30").arg(BINARY);
    run_command(command_by(limited, args))
}

/// Like [`run`], for a prepared command.
pub fn run_command(mut command: Command) -> (i32, String, String) {
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let (mut out, mut err) = (String::new(), String::new());
    child.stdout.take().unwrap().read_to_string(&mut out).unwrap();
    child.stderr.take().unwrap().read_to_string(&mut err).unwrap();
    (child.wait().unwrap().code().unwrap_or(-1), out, err)
}
