//! The binary in a separate process, and CPU and memory of processes from /proc.

use std::{
    fs,
    io::{BufRead, BufReader},
    net::SocketAddr,
    path::Path,
    process::{self, Child, Command, Stdio},
    thread,
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tonic::transport::{Channel, Endpoint};

/// The path of the binary that cargo built with this program.
pub(crate) const OURS: &str = env!("CARGO_BIN_EXE_watchword");

/// Units of CPU time in `/proc`, equal on all Linux platforms of Rust.
const TICKS_PER_SECOND: f64 = 100.0;

/// A folder on the disk of the target folder, because `/tmp` can be a memory file system, where syncs cost nothing.
pub(crate) const SCRATCH: &str = env!("CARGO_TARGET_TMPDIR");

/// A new temporary folder in [`SCRATCH`].
pub(crate) fn scratch() -> TempDir {
    TempDir::new_in(SCRATCH).expect("cargo creates the folder")
}

/// A running server. Dropping it sends SIGTERM and waits.
pub(crate) struct Server {
    child: Child,
    address: String,
}

impl Server {
    /// Starts the binary on the embedded store and waits until it listens.
    pub(crate) fn start(folder: &Path) -> Self {
        Self::start_on(folder, &[])
    }

    /// Starts the binary with additional flags.
    pub(crate) fn start_on(folder: &Path, flags: &[&str]) -> Self {
        Self::start_build(OURS, folder, flags)
    }

    /// Starts another build of the binary.
    pub(crate) fn start_build(program: &str, folder: &Path, flags: &[&str]) -> Self {
        let mut command = Command::new(program);
        command
            .args(["--grpc-addr", "127.0.0.1:0", "--http-addr", "127.0.0.1:0", "--ops-addr", "127.0.0.1:0"])
            .arg("--data-dir")
            .arg(folder)
            .args(flags);
        Self::spawn(command)
    }

    /// Starts any program that prints its address in the form of the binary's log.
    pub(crate) fn spawn(mut command: Command) -> Self {
        let mut child = command.env_clear().stderr(Stdio::piped()).spawn().expect("cargo built it with this program");
        let mut log = BufReader::new(child.stderr.take().expect("it is piped")).lines();
        let address = log
            .by_ref()
            .map(|line| line.expect("the log is text"))
            .find(|line| line.contains("=\"grpc\" address="))
            .and_then(|line| Some(line.split_once("address=")?.1.to_owned()))
            .expect("the server prints its address");
        // Keeps reading, or the server would block on its log.
        thread::spawn(move || log.for_each(drop));
        Self { child, address }
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// The address of the gRPC listener.
    pub(crate) fn socket(&self) -> SocketAddr {
        self.address.parse().expect("the log has a valid address")
    }

    /// Sends SIGKILL and waits.
    pub(crate) fn kill(&mut self) {
        self.end(Signal::KILL);
    }

    /// Sends SIGTERM and waits.
    pub(crate) fn stop(&mut self) {
        self.end(Signal::TERM);
    }

    fn end(&mut self, signal: Signal) {
        if self.child.try_wait().expect("it is a child").is_none() {
            kill_process(Pid::from_child(&self.child), signal).expect("it is a child that was not awaited");
            self.child.wait().expect("it is a child that was not awaited");
        }
    }

    /// A new connection.
    pub(crate) async fn channel(&self) -> Channel {
        let endpoint = Endpoint::from_shared(format!("http://{}", self.address)).expect("the log has a valid address");
        endpoint.connect().await.expect("the server listens")
    }

    /// A memory field of `/proc/PID/status`, in MiB.
    pub(crate) fn memory_mib(&self, field: &str) -> f64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.id())).expect("the server runs");
        let line = status.lines().find_map(|line| line.strip_prefix(field)).expect("every process has this field");
        let kib: f64 = line.trim().trim_end_matches(" kB").parse().expect("it is a number of kB");
        kib / 1024.0
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

/// The CPU time so far of the threads of a process whose name is wanted.
pub(crate) fn cpu_of_threads(process: u32, wanted: impl Fn(&str) -> bool) -> Duration {
    let threads = fs::read_dir(format!("/proc/{process}/task")).expect("the process runs");
    // A thread that has ended has no files.
    let nanos = threads.flatten().filter_map(|thread| {
        let read = |file| fs::read_to_string(thread.path().join(file)).ok();
        wanted(&read("comm")?).then_some(())?;
        read("schedstat")?.split(' ').next()?.parse::<u64>().ok()
    });
    Duration::from_nanos(nanos.sum())
}

/// The CPU seconds so far of all other processes, without this one and the servers, and including the time stolen by
/// other virtual machines of the host.
pub(crate) fn cpu_of_others(servers: &[&Server]) -> f64 {
    let all = ticks("/proc/stat", "cpu ");
    // user, nice, system, (idle, iowait,) irq, softirq, steal
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
    let text = fs::read_to_string(file).expect("Linux has this file");
    let line = text.lines().next().unwrap_or_default();
    let numbers = line.split_once(start).map_or("", |(_, numbers)| numbers);
    numbers.split_whitespace().filter_map(|number| number.parse().ok()).collect()
}
