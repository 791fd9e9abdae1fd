//! The binary in a process of its own, and what the operating system says about processes.

use std::{
    fs,
    io::{BufRead, BufReader},
    path::Path,
    process::{self, Child, Command, Stdio},
    thread,
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tonic::transport::{Channel, Endpoint};

/// The binary that was built with this program.
pub(crate) const OURS: &str = env!("CARGO_BIN_EXE_watchword");

/// Units of CPU time in `/proc`; the same on every Linux that Rust runs on.
const TICKS_PER_SECOND: f64 = 100.0;

/// On the disk of the target folder: `/tmp` may be memory, where nothing is durable.
pub(crate) const SCRATCH: &str = env!("CARGO_TARGET_TMPDIR");

/// A new folder there.
pub(crate) fn scratch() -> TempDir {
    TempDir::new_in(SCRATCH).expect("cargo made the folder")
}

/// A running server; dropping it asks it to end, and waits.
pub(crate) struct Server {
    child: Child,
    address: String,
}

impl Server {
    /// Starts it on the embedded store and waits until it listens.
    pub(crate) fn start(folder: &Path) -> Self {
        Self::start_on(folder, &[])
    }

    /// The same with more flags.
    pub(crate) fn start_on(folder: &Path, flags: &[&str]) -> Self {
        Self::start_build(OURS, folder, flags)
    }

    /// The same with another build of the binary.
    pub(crate) fn start_build(program: &str, folder: &Path, flags: &[&str]) -> Self {
        let mut command = Command::new(program);
        command
            .args(["--grpc-addr", "127.0.0.1:0", "--http-addr", "127.0.0.1:0", "--ops-addr", "127.0.0.1:0"])
            .arg("--data-dir")
            .arg(folder)
            .args(flags);
        Self::spawn(command)
    }

    /// Starts any program that says where it listens as the binary does.
    pub(crate) fn spawn(mut command: Command) -> Self {
        let mut child = command.env_clear().stderr(Stdio::piped()).spawn().expect("it was built with this program");
        let mut log = BufReader::new(child.stderr.take().expect("it is piped")).lines();
        let address = log
            .by_ref()
            .map(|line| line.expect("the log is text"))
            .find(|line| line.contains("=\"grpc\" address="))
            .and_then(|line| Some(line.split_once("address=")?.1.to_owned()))
            .expect("the server says where it listens");
        // Somebody must read on, or the server waits for its log.
        thread::spawn(move || log.for_each(drop));
        Self { child, address }
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// `kill -9`, and waits.
    pub(crate) fn kill(&mut self) {
        self.end(Signal::KILL);
    }

    /// Asks it to end, and waits.
    pub(crate) fn stop(&mut self) {
        self.end(Signal::TERM);
    }

    fn end(&mut self, signal: Signal) {
        if self.child.try_wait().expect("it is ours").is_none() {
            kill_process(Pid::from_child(&self.child), signal).expect("it is ours and not waited for");
            self.child.wait().expect("it is ours and not waited for");
        }
    }

    /// A new connection.
    pub(crate) async fn channel(&self) -> Channel {
        let endpoint = Endpoint::from_shared(format!("http://{}", self.address)).expect("the log holds an address");
        endpoint.connect().await.expect("the server listens")
    }

    /// A size in `/proc/PID/status`.
    pub(crate) fn memory_mib(&self, field: &str) -> f64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.id())).expect("the server runs");
        let line = status.lines().find_map(|line| line.strip_prefix(field)).expect("every process has memory");
        let kib: f64 = line.trim().trim_end_matches(" kB").parse().expect("it is a number of kB");
        kib / 1024.0
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

/// CPU time so far of those threads of a process whose name is wanted.
pub(crate) fn cpu_of_threads(process: u32, wanted: impl Fn(&str) -> bool) -> Duration {
    let threads = fs::read_dir(format!("/proc/{process}/task")).expect("the process runs");
    // A thread that ended meanwhile has no files.
    let nanos = threads.flatten().filter_map(|thread| {
        let read = |file| fs::read_to_string(thread.path().join(file)).ok();
        wanted(&read("comm")?).then_some(())?;
        read("schedstat")?.split(' ').next()?.parse::<u64>().ok()
    });
    Duration::from_nanos(nanos.sum())
}

/// CPU seconds so far that neither this process nor the servers had, those included that a neighbour of this virtual
/// machine had.
pub(crate) fn cpu_of_others(servers: &[&Server]) -> f64 {
    let all = ticks("/proc/stat", "cpu ");
    // user, nice, system, (idle, waiting for a disk,) interrupts twice, stolen
    let busy = all[..3].iter().chain(&all[5..8]).sum::<f64>();
    let ours = servers.iter().map(|server| server.id()).chain([process::id()]).map(|id| {
        let fields = ticks(&format!("/proc/{id}/stat"), ") ");
        // utime and stime
        fields[10] + fields[11]
    });
    (busy - ours.sum::<f64>()) / TICKS_PER_SECOND
}

/// The numbers after `start` in the first line of a file.
fn ticks(file: &str, start: &str) -> Vec<f64> {
    let text = fs::read_to_string(file).expect("Linux has it");
    let line = text.lines().next().unwrap_or_default();
    let numbers = line.split_once(start).map_or("", |(_, numbers)| numbers);
    numbers.split_whitespace().filter_map(|number| number.parse().ok()).collect()
}
