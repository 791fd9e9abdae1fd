//! T32, T33, T35: processes that are killed in the middle of registrations, on both sides of the store: nothing that
//! was acknowledged is lost, and nothing is half there.

use std::{
    fs,
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use tempfile::TempDir;
use tokio::task::JoinHandle;
use tonic::transport::Channel;
use watchword::api::pb::{self, auth_client::AuthClient};

use crate::support::{Node, StoreKind, TestStore, channel, command, is_full, password, reason, redis::RedisServer};

const CALLERS: usize = 4;

/// Logs in, however long the hash queue is.
pub async fn login(client: &mut AuthClient<Channel>, name: &str, password: &str) -> Result<(), String> {
    let request = pb::LoginRequest { username: name.into(), password: password.into(), ..Default::default() };
    loop {
        match client.login(request.clone()).await {
            Ok(_) => return Ok(()),
            Err(status) if reason(&status) == "OVERLOADED" => {}
            Err(status) => return Err(reason(&status)),
        }
    }
}

/// Who was told that he is registered.
#[derive(Clone, Default)]
struct Acknowledged {
    names: Arc<Mutex<Vec<String>>>,
    count: Arc<AtomicUsize>,
    /// Set when nobody need register any more.
    content: Arc<AtomicBool>,
}

impl Acknowledged {
    fn count(&self) -> usize {
        self.count.load(Ordering::SeqCst)
    }

    /// Callers who register one user after the other until the node is gone or the test is content.
    fn flood(&self, channel: &Channel, round: usize) -> Vec<JoinHandle<()>> {
        (0..CALLERS).map(|context| tokio::spawn(self.clone().register(channel.clone(), round, context))).collect()
    }

    async fn register(self, channel: Channel, round: usize, context: usize) {
        let mut client = AuthClient::new(channel);
        for number in 0.. {
            let name = format!("r{round}c{context}n{number}");
            let request =
                pb::RegisterRequest { username: name.clone(), password: password(&name), ..Default::default() };
            match client.register(request).await {
                Ok(_) => {
                    self.names.lock().unwrap().push(name);
                    self.count.fetch_add(1, Ordering::SeqCst);
                }
                _ if self.content.load(Ordering::SeqCst) => return,
                // Whether it was stored is nobody's promise; the store may come back.
                Err(status) if !status.details().is_empty() => tokio::task::yield_now().await,
                // Not an answer of ours: the node is gone.
                Err(_) => return,
            }
            if self.content.load(Ordering::SeqCst) {
                return;
            }
        }
    }

    /// Waits for a few more; a different number in each round, so that each is cut at another moment.
    async fn some_more(&self, before: usize, round: usize) {
        while self.count() <= before + round % 7 {
            tokio::task::yield_now().await;
        }
    }

    /// Those who cannot log in at the node at that address.
    async fn lost(&self, grpc: &str) -> Vec<String> {
        let mut client = AuthClient::new(channel(grpc).await);
        let (names, mut lost) = (self.names.lock().unwrap().clone(), Vec::new());
        for name in names {
            if login(&mut client, &name, &password(&name)).await.is_err() {
                lost.push(name);
            }
        }
        lost
    }
}

fn start(flags: &[String]) -> Node {
    let flags: Vec<_> = flags.iter().map(String::as_str).collect();
    Node::spawn(command(
        &[&["--grpc-addr", "127.0.0.1:0", "--http-addr", "off", "--ops-addr", "off"], &flags[..]].concat(),
    ))
    .unwrap_or_else(|log| panic!("the node did not start:\n{log}"))
}

/// Kills the node again and again; answers who was acknowledged, and who of them is lost.
async fn kill_nodes(flags: &[String], kills: usize) -> (usize, Vec<String>) {
    let acknowledged = Acknowledged::default();
    for round in 0..kills {
        let node = start(flags);
        let before = acknowledged.count();
        let callers = acknowledged.flood(&channel(&node.grpc).await, round);
        acknowledged.some_more(before, round).await;
        node.kill();
        for context in callers {
            context.await.unwrap();
        }
    }
    let node = start(flags);
    (acknowledged.count(), acknowledged.lost(&node.grpc).await)
}

/// `WATCHWORD_TEST_FULL=1` takes the 100 kills that T32 asks for.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_acknowledged_is_lost_by_kill_9_in_the_middle_of_registrations() {
    let kills = if is_full() { 100 } else { 20 };
    for kind in StoreKind::DURABLE {
        let place = TestStore::new(kind);
        let (acknowledged, lost) = kill_nodes(&place.flags(), kills).await;
        assert!(acknowledged > kills, "{kind:?}: only {acknowledged} registrations were acknowledged");
        assert!(lost.is_empty(), "{kind:?}: acknowledged and lost: {lost:?}");
    }
}

/// The control: a store that acknowledges before anything is kept.
#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_acknowledges_what_it_does_not_keep_is_found_out() {
    let (acknowledged, lost) = kill_nodes(&TestStore::new(StoreKind::Memory).flags(), 2).await;
    assert_eq!(lost.len(), acknowledged, "the control shows nothing");
}

/// Kills redis-server again and again under a node that stays; answers who was acknowledged, and who of them is lost.
async fn kill_redis(redis: &RedisServer, kills: usize) -> (usize, Vec<String>) {
    let acknowledged = Acknowledged::default();
    let folder = TempDir::new().unwrap();
    let node = Node::start(folder.path(), &["--store", &redis.url()]);
    let callers = acknowledged.flood(&channel(&node.grpc).await, 0);
    for round in 0..kills {
        acknowledged.some_more(acknowledged.count(), round).await;
        redis.kill();
        redis.restart();
    }
    acknowledged.content.store(true, Ordering::SeqCst);
    for context in callers {
        context.await.unwrap();
    }
    let mut client = AuthClient::new(channel(&node.grpc).await);
    while login(&mut client, "nobody", "wrong password").await != Err("INVALID_CREDENTIALS".into()) {
        tokio::task::yield_now().await;
    }
    (acknowledged.count(), acknowledged.lost(&node.grpc).await)
}

/// T35; `WATCHWORD_TEST_FULL=1` takes the 50 kills that it asks for.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_acknowledged_is_lost_by_kill_9_of_redis_in_the_middle_of_registrations() {
    let kills = if is_full() { 50 } else { 20 };
    let (acknowledged, lost) = kill_redis(&RedisServer::start(), kills).await;
    assert!(acknowledged > kills, "only {acknowledged} registrations were acknowledged");
    assert!(lost.is_empty(), "acknowledged and lost: {lost:?}");
}

/// The control: the settings that a start refuses are refused for a reason.
#[tokio::test(flavor = "multi_thread")]
async fn a_redis_without_its_append_only_file_is_found_out() {
    let redis = RedisServer::with(&["--appendonly", "no"]);
    let flags = ["--store", &redis.url(), "--redis-durability", "relaxed"];
    let acknowledged = Acknowledged::default();
    let folder = TempDir::new().unwrap();
    let node = Node::start(folder.path(), &flags);
    let callers = acknowledged.flood(&channel(&node.grpc).await, 0);
    acknowledged.some_more(0, 3).await;
    redis.kill();
    acknowledged.content.store(true, Ordering::SeqCst);
    for context in callers {
        context.await.unwrap();
    }
    redis.restart();
    // The node that was there finds out by itself; a new one takes the empty Redis for a new store.
    let node = Node::start(folder.path(), &flags);
    let lost = acknowledged.lost(&node.grpc).await;
    assert_eq!(lost.len(), acknowledged.count(), "the control shows nothing");
}

/// T33: killed while it recovers from the kill before. `WATCHWORD_TEST_FULL=1` takes the 50 times that it asks for.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_acknowledged_is_lost_by_a_kill_in_the_middle_of_a_recovery() {
    let folder = TempDir::new().unwrap();
    let acknowledged = Acknowledged::default();
    for round in 0..if is_full() { 50 } else { 10 } {
        let node = Node::start(folder.path(), &[]);
        let before = acknowledged.count();
        let callers = acknowledged.flood(&channel(&node.grpc).await, round);
        acknowledged.some_more(before, round).await;
        node.kill();
        for context in callers {
            context.await.unwrap();
        }
        kill_in_recovery(folder.path());
    }
    let node = Node::start(folder.path(), &[]);
    let lost = acknowledged.lost(&node.grpc).await;
    assert!(lost.is_empty(), "acknowledged and lost: {lost:?}");
}

/// Starts a node and kills it as soon as it has the folder, which is when it opens the file.
fn kill_in_recovery(folder: &Path) {
    let mut node = command(&["--grpc-addr", "127.0.0.1:0", "--http-addr", "off", "--ops-addr", "off", "--data-dir"]);
    let mut node = node.arg(folder).stderr(std::process::Stdio::null()).spawn().unwrap();
    let owner = node.id().to_string();
    while fs::read_to_string(folder.join("lock")).unwrap_or_default().trim() != owner {
        assert!(node.try_wait().unwrap().is_none(), "the node ended by itself");
    }
    node.kill().unwrap();
    node.wait().unwrap();
}

/// T35: Redis syncs its file before it answers, and only then does a caller hear of success. Seen from outside, in the
/// order of redis-server's system calls.
#[tokio::test(flavor = "multi_thread")]
async fn redis_has_synced_before_anybody_is_acknowledged() {
    let folder = TempDir::new().unwrap();
    let trace = folder.path().join("trace");
    // -D: the server stays the test's own child.
    let strace = ["strace", "-D", "-f", "-q", "-s", "200", "-e", "trace=write,fdatasync,fsync", "-o"];
    let redis = RedisServer::under(&[&strace[..], &[trace.to_str().unwrap()]].concat());
    let node = Node::start(folder.path(), &["--store", &redis.url()]);
    let mut client = AuthClient::new(channel(&node.grpc).await);
    let request = pb::RegisterRequest { username: "ada".into(), password: password("ada"), ..Default::default() };
    client.register(request).await.unwrap();
    let written =
        |trace: &str| trace.lines().position(|line| line.contains("watchword:user:ada") && line.contains("write("));
    // The trace is whole when what is traced has ended.
    redis.kill();
    let trace = fs::read_to_string(&trace).unwrap();
    let written = written(&trace).unwrap_or_else(|| panic!("the claim was not written:\n{trace}"));
    let after: Vec<_> = trace.lines().skip(written + 1).collect();
    let synced = after.iter().position(|line| line.contains("sync(") && line.contains("= 0"));
    // The answer to a claim, in RESP3: there was nobody.
    let answered = after.iter().position(|line| line.contains(r#""_\r\n"#));
    let (Some(synced), Some(answered)) = (synced, answered) else { panic!("no sync or no answer:\n{trace}") };
    assert!(synced < answered, "answered before the sync:\n{}", after.join("\n"));
}
