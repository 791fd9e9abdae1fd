//! Raw HTTP/2 and HTTP/1 that costs the server more than its sender (T27), and crowds that use up its files (T28).

use std::{fs, net::SocketAddr, process::Command, time::Duration};

use rustix::process::{Pid, Resource, Rlimit, prlimit};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpStream, tcp::OwnedWriteHalf},
    time::{interval, timeout},
};
use watchword::{
    api::health::{HealthCheckRequest, health_client::HealthClient},
    common::host,
    net::Limits,
};

use crate::support::{
    App, BINARY, Node, PATIENCE, Setup, StoreKind, app, command_by,
    frames::{
        CONTINUATION, DATA, END_HEADERS, END_STREAM, HEADERS, PING, PRIORITY, RST_STREAM, SETTINGS, WINDOW_UPDATE,
        begun, call, call_head, closed, frame, header, next_frame, setting,
    },
};

const CHECK: &str = "/grpc.health.v1.Health/Check";
const LOGIN: &str = "/watchword.auth.v1.Auth/Login";

/// An empty message.
const EMPTY: [u8; 5] = [0; 5];

/// What a flood may add to a server's memory.
const GROWTH_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Requests at once on one connection, as the first SETTINGS frame says.
const STREAMS_MAX: u32 = 128;

/// A flood: its name, and what is sent in each of its rounds.
type Flood = (&'static str, fn(u32) -> Vec<u8>);

/// Floods that h2 itself would answer without end.
const OF_FRAMES: [Flood; 8] = [
    ("PING", |_| frame(PING, 0, 0, &[7; 8]).repeat(1_000)),
    ("SETTINGS", |_| setting(4, 65_535).repeat(1_000)),
    ("PRIORITY", |_| frame(PRIORITY, 0, 1, &[0, 0, 0, 0, 16]).repeat(1_000)),
    ("WINDOW_UPDATE", |_| frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1]).repeat(1_000)),
    ("WINDOW_UPDATE of a stream", |round| {
        on_one_stream(round, &frame(WINDOW_UPDATE, 0, 1, &[0, 0, 0, 1]).repeat(1_000))
    }),
    ("RST_STREAM of one stream", |round| on_one_stream(round, &frame(RST_STREAM, 0, 1, &[0, 0, 0, 8]).repeat(1_000))),
    ("frames of an unknown type", |_| frame(77, 0, 0, &[]).repeat(1_000)),
    // Over the limit, which is answered, and under four times the limit, which would end the connection.
    ("headers that are too large", |round| {
        on_new_streams(round, 10, |stream| {
            let part = header("x", &"y".repeat(100)).repeat(120);
            let first = frame(HEADERS, END_STREAM, stream, &[call_head(LOGIN, &[]), part.clone()].concat());
            [first, frame(CONTINUATION, END_HEADERS, stream, &part)].concat()
        })
    }),
];

/// Floods that h2 ends.
const OF_STREAMS: [Flood; 9] = [
    ("rapid reset (CVE-2023-44487)", |round| {
        on_new_streams(round, 100, |stream| [open(stream), frame(RST_STREAM, 0, stream, &[0, 0, 0, 8])].concat())
    }),
    ("resets provoked by a window of nothing (CVE-2025-8671)", |round| {
        on_new_streams(round, 100, |stream| [open(stream), frame(WINDOW_UPDATE, 0, stream, &[0; 4])].concat())
    }),
    ("resets provoked by too large a window (CVE-2025-8671)", |round| {
        on_new_streams(round, 100, |stream| {
            [open(stream), frame(WINDOW_UPDATE, 0, stream, &[0x7f, 0xff, 0xff, 0xff])].concat()
        })
    }),
    ("resets provoked by DATA after the end (CVE-2025-8671)", |round| {
        on_new_streams(round, 100, |stream| {
            [call(stream, LOGIN, &[], &EMPTY), frame(DATA, 0, stream, b"more")].concat()
        })
    }),
    ("resets provoked by a stream that depends on itself (CVE-2025-8671)", |round| {
        on_new_streams(round, 100, |stream| {
            [open(stream), frame(PRIORITY, 0, stream, &[&stream.to_be_bytes()[..], &[16]].concat())].concat()
        })
    }),
    ("more streams than allowed", |round| on_new_streams(round, 200, open)),
    ("CONTINUATION without an end (RUSTSEC-2024-0332)", |round| {
        let part = frame(CONTINUATION, 0, 1, &header("x", "y")).repeat(100);
        if round == 0 { [frame(HEADERS, 0, 1, &call_head(LOGIN, &[])), part].concat() } else { part }
    }),
    ("empty DATA (RUSTSEC-2026-0258)", |round| on_one_stream(round, &frame(DATA, 0, 1, &[]).repeat(1_000))),
    ("DATA of one byte", |round| on_one_stream(round, &frame(DATA, 0, 1, &[0]).repeat(1_000))),
];

/// A call whose body is still to come.
fn open(stream: u32) -> Vec<u8> {
    frame(HEADERS, END_HEADERS, stream, &call_head(LOGIN, &[]))
}

fn on_one_stream(round: u32, bytes: &[u8]) -> Vec<u8> {
    if round == 0 { [&open(1), bytes].concat() } else { bytes.to_vec() }
}

fn on_new_streams(round: u32, count: u32, bytes: impl Fn(u32) -> Vec<u8>) -> Vec<u8> {
    (round * count..(round + 1) * count).flat_map(|number| bytes(2 * number + 1)).collect()
}

/// Floods until the server has closed the connection; whatever it says is read.
async fn flood(to: SocketAddr, (name, round_bytes): Flood) {
    let (mut from_server, mut to_server) = begun(to, &frame(SETTINGS, 0, 0, &[])).await.into_split();
    let reader = tokio::spawn(async move { tokio::io::copy(&mut from_server, &mut tokio::io::sink()).await });
    let closed = async {
        for round in 0.. {
            if to_server.write_all(&round_bytes(round)).await.is_err() {
                break;
            }
        }
        // A reset connection is as closed as any.
        drop(reader.await);
    };
    timeout(PATIENCE, closed).await.unwrap_or_else(|_| panic!("nobody stops the flood: {name}"));
}

fn limited(change: impl Fn(&mut Limits) + Send + 'static) -> Setup {
    App::with(StoreKind::Memory).change(move |config| change(&mut config.limits))
}

#[tokio::test(flavor = "multi_thread")]
async fn floods_are_closed_while_others_are_served() {
    let app = app().await;
    for each in OF_FRAMES.into_iter().chain(OF_STREAMS) {
        tokio::join!(flood(app.grpc_socket(), each), app.introspect("the token of nobody"));
    }
    app.registered("ada").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn other_doors_close_floods_too() {
    let app = app().await;
    for api in [app.http_socket(), app.ops_socket()] {
        for each in [OF_FRAMES[0], OF_STREAMS[0]] {
            flood(api, each).await;
        }
    }
    app.registered("ada").await;
}

#[tokio::test]
async fn a_busy_client_with_many_pings_and_window_updates_is_served() {
    const CALLS_AT_ONCE: u32 = 100;
    let app = app().await;
    let mut stream = begun(app.grpc_socket(), &frame(SETTINGS, 0, 0, &[])).await;
    for round in 0..50 {
        let calls = on_new_streams(round, CALLS_AT_ONCE, |stream| {
            let beside = [frame(PING, 0, 0, &[7; 8]), frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 9])].concat().repeat(3);
            [call(stream, CHECK, &[], &EMPTY), beside].concat()
        });
        stream.write_all(&calls).await.unwrap();
        let mut answered = 0;
        while answered < CALLS_AT_ONCE {
            let frame = next_frame(&mut stream).await.unwrap_or_else(|| panic!("closed in round {round}"));
            answered += u32::from(frame.kind == HEADERS && frame.flags & END_STREAM != 0);
        }
    }
}

/// As many calls as a connection may have, with a window of so many bytes for each answer.
async fn calls_with_a_window_of(bytes: u32, to: SocketAddr) -> TcpStream {
    let calls = on_new_streams(0, STREAMS_MAX, |stream| call(stream, CHECK, &[], &EMPTY));
    let mut stream = begun(to, &[setting(4, bytes), calls].concat()).await;
    let mut answers = 0;
    while answers < STREAMS_MAX {
        answers += u32::from(next_frame(&mut stream).await.expect("answers begin").kind == HEADERS);
    }
    stream
}

#[tokio::test]
async fn whoever_does_not_take_his_answers_is_cut() {
    let app = limited(|limits| limits.write_stall = Duration::from_millis(200)).start().await;
    // With a window of nothing the answer waits in hyper, with one of a byte in h2.
    for window in [0, 1] {
        closed(calls_with_a_window_of(window, app.grpc_socket()).await).await;
    }
    app.registered("ada").await;
}

/// Sends calls and reads nothing.
async fn pour(to_server: &mut OwnedWriteHalf, bytes: &[u8]) {
    while to_server.write_all(bytes).await.is_ok() {}
}

#[tokio::test]
async fn whoever_reads_nothing_at_all_is_cut() {
    let app = limited(|limits| limits.write_stall = Duration::from_millis(200)).start().await;
    let (_unread, mut to_server) = TcpStream::connect(app.http_socket()).await.unwrap().into_split();
    // Answers without a body, so that nothing waits but bytes that the socket has no room for.
    let request = b"HEAD / HTTP/1.1\r\nhost: localhost\r\n\r\n".repeat(1_000);
    timeout(PATIENCE, pour(&mut to_server, &request)).await.expect("the server cuts who reads nothing");
    app.registered("ada").await;
}

#[tokio::test]
async fn a_quiet_watch_outlives_connections_that_take_nothing() {
    let app = limited(|limits| limits.write_stall = Duration::from_millis(100)).start().await;
    let mut health = HealthClient::new(app.channel().await);
    let mut watch = health.watch(HealthCheckRequest::default()).await.unwrap().into_inner();
    assert!(watch.message().await.unwrap().is_some());
    for _ in 0..3 {
        closed(calls_with_a_window_of(0, app.grpc_socket()).await).await;
    }
    let more = timeout(Duration::from_millis(100), watch.message()).await;
    assert!(more.is_err(), "the watch ended: {more:?}");
}

#[tokio::test]
async fn a_request_of_http_1_that_comes_byte_by_byte_is_cut() {
    let app = limited(|limits| limits.handshake = Duration::from_millis(200)).start().await;
    let head = format!("GET / HTTP/1.1\r\nhost: localhost\r\nx: {}", "y".repeat(100_000));
    let whole_head = b"GET / HTTP/1.1\r\nhost: localhost\r\ncontent-length: 100000\r\n\r\n";
    for (first, rest) in [(&head.as_bytes()[..40], &head.as_bytes()[40..]), (whole_head, &[b'y'; 100_000])] {
        let mut stream = TcpStream::connect(app.http_socket()).await.unwrap();
        stream.write_all(first).await.unwrap();
        let (from_server, mut to_server) = stream.into_split();
        let mut pace = interval(Duration::from_millis(20));
        let drip = async {
            for byte in rest {
                pace.tick().await;
                if to_server.write_all(&[*byte]).await.is_err() {
                    return;
                }
            }
        };
        tokio::select! {
            () = drip => {}
            _ = closed(from_server) => {}
        }
    }
    app.registered("ada").await;
}

async fn is_served(node: &Node) -> bool {
    let Ok(endpoint) = tonic::transport::Endpoint::from_shared(format!("http://{}", node.grpc)) else { return false };
    let Ok(channel) = endpoint.connect().await else { return false };
    HealthClient::new(channel).check(HealthCheckRequest::default()).await.is_ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn floods_leave_the_memory_of_the_process_where_it_was() {
    let folder = tempfile::TempDir::new().unwrap();
    let node = Node::start(folder.path(), &[]);
    let api = node.grpc.parse().unwrap();
    assert!(is_served(&node).await);
    let before = node.memory_kib("VmRSS:") * 1_024;
    let is_small = |what: &str| {
        let growth = (node.memory_kib("VmRSS:") * 1_024).saturating_sub(before);
        assert!(growth <= GROWTH_BYTES_MAX, "{what}: {growth} bytes more");
    };
    for each in OF_FRAMES.into_iter().chain(OF_STREAMS) {
        for _ in 0..3 {
            flood(api, each).await;
        }
        is_small(each.0);
    }
    let mut slow_readers = Vec::new();
    for _ in 0..32 {
        slow_readers.push(calls_with_a_window_of(0, api).await);
    }
    is_small("32 connections with a window of nothing");
    assert!(is_served(&node).await);
}

/// Waits until an honest caller is served, far sooner than silence is cut.
async fn is_served_soon(node: &Node) {
    let served = async { while !is_served(node).await {} };
    timeout(Limits::default().handshake / 2, served).await.expect("an honest caller is served");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crowd_larger_than_the_limit_on_open_files_does_not_end_the_node() {
    // For the crowd's own files.
    host::connections_max(1);
    let folder = tempfile::TempDir::new().unwrap();
    let mut limited = Command::new("sh");
    limited.args(["-c", "ulimit -n 256 && exec \"$0\" \"$@\"", BINARY]);
    let mut command = command_by(limited, &["--grpc-addr", "127.0.0.1:0", "--http-addr", "off", "--ops-addr", "off"]);
    command.arg("--data-dir").arg(folder.path());
    let mut node = Node::spawn(command).unwrap();
    let mut crowd = Vec::new();
    for _ in 0..1_000 {
        crowd.push(TcpStream::connect(&node.grpc).await.unwrap());
    }
    assert!(node.wait_for_line("too many connections").is_some());
    drop(crowd);
    is_served_soon(&node).await;
    node.signal("TERM");
    assert!(node.wait().0.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_without_a_free_file_goes_on_and_serves_again() {
    // For the crowd's own files.
    host::connections_max(1);
    let folder = tempfile::TempDir::new().unwrap();
    let mut node = Node::start(folder.path(), &[]);
    let pid = Pid::from_raw(node.pid().try_into().unwrap());
    let open = fs::read_dir(format!("/proc/{}/fd", node.pid())).unwrap().count() as u64;
    let few = Rlimit { current: Some(open + 3), maximum: Some(open + 3) };
    prlimit(pid, Resource::Nofile, few).unwrap();
    let mut crowd = Vec::new();
    for _ in 0..500 {
        crowd.push(TcpStream::connect(&node.grpc).await.unwrap());
    }
    assert!(node.wait_for_line("connection could not be accepted").is_some());
    drop(crowd);
    is_served_soon(&node).await;
    node.signal("TERM");
    assert!(node.wait().0.success());
}

#[tokio::test]
async fn a_silent_crowd_makes_room_by_itself() {
    assert!(Limits::default().handshake <= Duration::from_secs(10));
    let app = limited(|limits| {
        limits.handshake = Duration::from_millis(500);
        limits.connections_max = 4;
    });
    let app = app.start().await;
    let mut crowd = Vec::new();
    for _ in 0..40 {
        crowd.push(TcpStream::connect(app.http_socket()).await.unwrap());
    }
    let served = async {
        loop {
            let mut stream = TcpStream::connect(app.http_socket()).await.unwrap();
            drop(stream.write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").await);
            let mut answer = Vec::new();
            drop(stream.read_to_end(&mut answer).await);
            if answer.starts_with(b"HTTP/1.1 200") {
                break;
            }
        }
    };
    timeout(PATIENCE, served).await.expect("the crowd is cut");
}
