//! The log: a node whose standard error is not read answers, counts what it loses, and ends on a signal.

use std::{
    io::{BufRead, BufReader, Write},
    process::{Child, ChildStderr, Command, ExitStatus, Stdio},
};

use tempfile::TempDir;
use tokio::time::timeout;
use tonic::transport::{Channel, Endpoint};
use watchword::api::{
    health::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient},
    pb::{self, auth_admin_client::AuthAdminClient},
};

use crate::support::{WAIT_MAX, channel, command, http};

/// A node, and its standard error, of which only the lines up to its addresses have been read.
struct UnreadNode {
    child: Child,
    log: BufReader<ChildStderr>,
    admin: AuthAdminClient<Channel>,
    health: HealthClient<Channel>,
    ops: String,
    _folder: TempDir,
}

impl UnreadNode {
    async fn start() -> Self {
        let folder = TempDir::new().unwrap();
        let mut child = command(&["--grpc-addr", "127.0.0.1:0", "--ops-addr", "127.0.0.1:0", "--http-addr", "off"])
            .arg("--data-dir")
            .arg(folder.path().join("data"))
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // A small buffer, so that little that was logged later has been read.
        let mut log = BufReader::with_capacity(64, child.stderr.take().unwrap());
        let [grpc, ops] = ["api=\"grpc\" address=", "api=\"ops\" address="].map(|what| {
            let line = read_until(&mut log, what);
            line.rsplit("address=").next().unwrap().trim().to_owned()
        });
        let health = HealthClient::new(channel(&grpc).await);
        let socket = format!("unix://{}", folder.path().join("data/admin.sock").display());
        let admin = AuthAdminClient::new(Endpoint::from_shared(socket).unwrap().connect().await.unwrap());
        Self { child, log, admin, health, ops, _folder: folder }
    }

    /// Makes calls that are audited, each with a line of the log, until one is lost. All of them are answered.
    async fn call_until_lines_are_lost(&self) {
        let before = self.metric("watchword_log_dropped_total").await;
        while self.metric("watchword_log_dropped_total").await == before {
            let calls = (0..500).map(async |_| {
                self.admin.clone().get_server_info(pb::GetServerInfoRequest {}).await.unwrap();
            });
            timeout(WAIT_MAX, futures_util::future::join_all(calls)).await.expect("calls wait for the log");
        }
        let health = self.health.clone().check(HealthCheckRequest::default()).await.unwrap();
        assert_eq!(health.into_inner().status(), ServingStatus::Serving);
    }

    async fn metric(&self, name: &str) -> u64 {
        let page = http(self.ops.parse().unwrap(), "GET", "/metrics", &[], "").await.body;
        let line =
            page.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_else(|| panic!("no {name}:\n{page}"));
        line.trim().parse().unwrap()
    }
}

impl Drop for UnreadNode {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Reads the log up to the next line that contains `text`.
fn read_until(log: &mut BufReader<ChildStderr>, text: &str) -> String {
    let found = log.lines().map(Result::unwrap).find(|line| line.contains(text));
    found.unwrap_or_else(|| panic!("the log ended without {text}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn unread_log_loses_lines_that_are_counted_and_stops_no_call() {
    let mut node = UnreadNode::start().await;
    node.call_until_lines_are_lost().await;
    assert!(node.metric("watchword_audit_dropped_total").await > 0, "audit lines of the log are lost with it");
    let ready = http(node.ops.parse().unwrap(), "GET", "/readyz", &[], "").await.body;
    assert!(ready.contains("warning: log lines arrive faster than they can be written"), "{ready}");

    let line = read_until(&mut node.log, "log lines were lost");
    let lost: u64 = line.rsplit("lost=").next().unwrap().parse().unwrap();
    assert!(lost > 0 && lost <= node.metric("watchword_log_dropped_total").await, "{line}");
}

#[tokio::test(flavor = "multi_thread")]
async fn unread_log_does_not_delay_the_end_of_a_node() {
    let mut node = UnreadNode::start().await;
    node.call_until_lines_are_lost().await;
    assert!(Command::new("kill").args(["-TERM", &node.child.id().to_string()]).status().unwrap().success());
    assert!(ended(&mut node.child).await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn start_that_is_refused_does_not_wait_for_the_reader_of_its_error() {
    const PIPE_BYTES: usize = 64 * 1024;
    let (_reader, mut full) = std::io::pipe().unwrap();
    full.write_all(&[b'x'; PIPE_BYTES]).unwrap();
    let mut child = command(&["--grpc-addr", "0.0.0.0:0"]).stderr(full).spawn().unwrap();
    assert_eq!(ended(&mut child).await.code(), Some(2));
}

/// Waits for the end of a process.
async fn ended(child: &mut Child) -> ExitStatus {
    let ended = async {
        loop {
            if let Some(status) = child.try_wait().unwrap() {
                return status;
            }
            tokio::task::yield_now().await;
        }
    };
    timeout(WAIT_MAX, ended).await.expect("the process waits for the reader of its standard error")
}
