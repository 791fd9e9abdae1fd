//! T32, T33, T35: the node or Redis is killed during registrations. No acknowledged user is lost, and no user is stored
//! in part.

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

const CLIENTS: usize = 4;

/// Logs in, and repeats the call while the hash queue is full.
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

/// The users whose registration was acknowledged.
#[derive(Clone, Default)]
struct Acknowledged {
    names: Arc<Mutex<Vec<String>>>,
    count: Arc<AtomicUsize>,
    /// Set when the clients should stop.
    stop: Arc<AtomicBool>,
}

impl Acknowledged {
    fn count(&self) -> usize {
        self.count.load(Ordering::SeqCst)
    }

    /// Starts clients that register users one after the other until the node is gone or `stop` is set.
    fn start_clients(&self, channel: &Channel, round: usize) -> Vec<JoinHandle<()>> {
        (0..CLIENTS).map(|client| tokio::spawn(self.clone().register_users(channel.clone(), round, client))).collect()
    }

    async fn register_users(self, channel: Channel, round: usize, client: usize) {
        let mut auth = AuthClient::new(channel);
        for number in 0.. {
            let name = format!("r{round}c{client}n{number}");
            let request =
                pb::RegisterRequest { username: name.clone(), password: password(&name), ..Default::default() };
            match auth.register(request).await {
                Ok(_) => {
                    self.names.lock().unwrap().push(name);
                    self.count.fetch_add(1, Ordering::SeqCst);
                }
                _ if self.stop.load(Ordering::SeqCst) => return,
                // Not acknowledged, so it may or may not be stored; the store may come back.
                Err(status) if !status.details().is_empty() => tokio::task::yield_now().await,
                // Not a response of Watchword: the node is gone.
                Err(_) => return,
            }
            if self.stop.load(Ordering::SeqCst) {
                return;
            }
        }
    }

    /// Waits for a few more registrations; the number differs by round, so that each kill comes at another moment.
    async fn wait_for_more(&self, before: usize, round: usize) {
        while self.count() <= before + round % 7 {
            tokio::task::yield_now().await;
        }
    }

    /// The acknowledged users that cannot log in at the node.
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

/// Kills the node repeatedly; returns the number of acknowledged users and the names of the lost ones.
async fn kill_nodes(flags: &[String], kills: usize) -> (usize, Vec<String>) {
    let acknowledged = Acknowledged::default();
    for round in 0..kills {
        let node = start(flags);
        let before = acknowledged.count();
        let clients = acknowledged.start_clients(&channel(&node.grpc).await, round);
        acknowledged.wait_for_more(before, round).await;
        node.kill();
        for client in clients {
            client.await.unwrap();
        }
    }
    let node = start(flags);
    (acknowledged.count(), acknowledged.lost(&node.grpc).await)
}

/// T32. `tests/run --all` makes the required 100 kills.
#[tokio::test(flavor = "multi_thread")]
async fn no_acknowledged_user_is_lost_when_the_node_is_killed_during_registrations() {
    let kills = if is_full() { 100 } else { 20 };
    for kind in StoreKind::DURABLE {
        let place = TestStore::new(kind);
        let (acknowledged, lost) = kill_nodes(&place.flags(), kills).await;
        assert!(acknowledged > kills, "{kind:?}: only {acknowledged} registrations were acknowledged");
        assert!(lost.is_empty(), "{kind:?}: acknowledged and lost: {lost:?}");
    }
}

/// The control: a store that acknowledges and keeps nothing.
#[tokio::test(flavor = "multi_thread")]
async fn memory_store_loses_all_acknowledged_users_when_the_node_is_killed() {
    let (acknowledged, lost) = kill_nodes(&TestStore::new(StoreKind::Memory).flags(), 2).await;
    assert_eq!(lost.len(), acknowledged, "the control found no loss");
}

/// Kills redis-server repeatedly while the node runs; returns the number of acknowledged users and the names of the lost
/// ones.
async fn kill_redis(redis: &RedisServer, kills: usize) -> (usize, Vec<String>) {
    let acknowledged = Acknowledged::default();
    let folder = TempDir::new().unwrap();
    // One node for all kills: with the default alert it would ask for proof of work after 1 000 registrations.
    let node = Node::start(folder.path(), &["--store", &redis.url(), "--failure-alert-action", "alert"]);
    let clients = acknowledged.start_clients(&channel(&node.grpc).await, 0);
    for round in 0..kills {
        acknowledged.wait_for_more(acknowledged.count(), round).await;
        redis.kill();
        redis.restart();
    }
    acknowledged.stop.store(true, Ordering::SeqCst);
    for client in clients {
        client.await.unwrap();
    }
    let mut client = AuthClient::new(channel(&node.grpc).await);
    while login(&mut client, "nobody", "wrong password").await != Err("INVALID_CREDENTIALS".into()) {
        tokio::task::yield_now().await;
    }
    (acknowledged.count(), acknowledged.lost(&node.grpc).await)
}

/// T35. `tests/run --all` makes the required 50 kills.
#[tokio::test(flavor = "multi_thread")]
async fn no_acknowledged_user_is_lost_when_redis_is_killed_during_registrations() {
    let kills = if is_full() { 50 } else { 20 };
    let (acknowledged, lost) = kill_redis(&RedisServer::start(), kills).await;
    assert!(acknowledged > kills, "only {acknowledged} registrations were acknowledged");
    assert!(lost.is_empty(), "acknowledged and lost: {lost:?}");
}

/// The control: Redis with a setting that `strict` durability refuses loses users.
#[tokio::test(flavor = "multi_thread")]
async fn redis_without_append_only_file_loses_acknowledged_users() {
    let redis = RedisServer::with(&["--appendonly", "no"]);
    let flags = ["--store", &redis.url(), "--redis-durability", "relaxed"];
    let acknowledged = Acknowledged::default();
    let folder = TempDir::new().unwrap();
    let node = Node::start(folder.path(), &flags);
    let clients = acknowledged.start_clients(&channel(&node.grpc).await, 0);
    acknowledged.wait_for_more(0, 3).await;
    redis.kill();
    acknowledged.stop.store(true, Ordering::SeqCst);
    for client in clients {
        client.await.unwrap();
    }
    redis.restart();
    // The running node detects the loss itself; a new node accepts the empty Redis as a new store.
    let node = Node::start(folder.path(), &flags);
    let lost = acknowledged.lost(&node.grpc).await;
    assert_eq!(lost.len(), acknowledged.count(), "the control found no loss");
}

/// T33: the node is killed while it recovers from the previous kill. `tests/run --all` makes the required 50 kills.
#[tokio::test(flavor = "multi_thread")]
async fn no_acknowledged_user_is_lost_when_the_node_is_killed_during_recovery() {
    let folder = TempDir::new().unwrap();
    let acknowledged = Acknowledged::default();
    for round in 0..if is_full() { 50 } else { 10 } {
        let node = Node::start(folder.path(), &[]);
        let before = acknowledged.count();
        let clients = acknowledged.start_clients(&channel(&node.grpc).await, round);
        acknowledged.wait_for_more(before, round).await;
        node.kill();
        for client in clients {
            client.await.unwrap();
        }
        kill_during_recovery(folder.path());
    }
    let node = Node::start(folder.path(), &[]);
    let lost = acknowledged.lost(&node.grpc).await;
    assert!(lost.is_empty(), "acknowledged and lost: {lost:?}");
}

/// Starts a node and kills it as soon as it has locked the folder, which is when it opens the store file.
fn kill_during_recovery(folder: &Path) {
    let mut node = command(&["--grpc-addr", "127.0.0.1:0", "--http-addr", "off", "--ops-addr", "off", "--data-dir"]);
    let mut node = node.arg(folder).stderr(std::process::Stdio::null()).spawn().unwrap();
    let owner = node.id().to_string();
    while fs::read_to_string(folder.join("lock")).unwrap_or_default().trim() != owner {
        assert!(node.try_wait().unwrap().is_none(), "the node exited before it was killed");
    }
    node.kill().unwrap();
    node.wait().unwrap();
}

/// T35: Redis syncs its append-only file before it answers, so a success is acknowledged only after the sync. Observed in
/// the order of the system calls of redis-server.
#[tokio::test(flavor = "multi_thread")]
async fn redis_syncs_its_file_before_a_registration_is_acknowledged() {
    let folder = TempDir::new().unwrap();
    let trace = folder.path().join("trace");
    // -D: redis-server stays a direct child of the test.
    let strace = ["strace", "-D", "-f", "-q", "-s", "200", "-e", "trace=write,fdatasync,fsync", "-o"];
    let redis = RedisServer::under(&[&strace[..], &[trace.to_str().unwrap()]].concat());
    let node = Node::start(folder.path(), &["--store", &redis.url()]);
    let mut client = AuthClient::new(channel(&node.grpc).await);
    let request = pb::RegisterRequest { username: "ada".into(), password: password("ada"), ..Default::default() };
    client.register(request).await.unwrap();
    let written =
        |trace: &str| trace.lines().position(|line| line.contains("watchword:user:ada") && line.contains("write("));
    // The trace is complete once the traced process has ended.
    redis.kill();
    let trace = fs::read_to_string(&trace).unwrap();
    let written = written(&trace).unwrap_or_else(|| panic!("the claim was not written:\n{trace}"));
    let after: Vec<_> = trace.lines().skip(written + 1).collect();
    let synced = after.iter().position(|line| line.contains("sync(") && line.contains("= 0"));
    // The answer to the claim, a RESP3 null: the name was free.
    let answered = after.iter().position(|line| line.contains(r#""_\r\n"#));
    let (Some(synced), Some(answered)) = (synced, answered) else { panic!("no sync or no answer:\n{trace}") };
    assert!(synced < answered, "answered before the sync:\n{}", after.join("\n"));
}
