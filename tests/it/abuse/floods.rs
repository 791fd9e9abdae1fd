//! Floods of HTTP/2 frames and slow HTTP/1 requests (T27), and connections that exhaust the open files (T28).

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
    domain::{Clock, System},
    net::Limits,
};

use crate::support::{
    App, BINARY, Node, Setup, StoreKind, WAIT_MAX, app, command_by,
    frames::{
        CONTINUATION, DATA, END_HEADERS, END_STREAM, HEADERS, PING, PRIORITY, RST_STREAM, SETTINGS, WINDOW_UPDATE,
        begun, call, call_head, closed, frame, header, next_frame, setting,
    },
};

const CHECK: &str = "/grpc.health.v1.Health/Check";
const LOGIN: &str = "/watchword.auth.v1.Auth/Login";

/// An empty message.
const EMPTY: [u8; 5] = [0; 5];

/// The memory growth that a flood may cause.
const GROWTH_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Concurrent streams on one connection, as the server's first SETTINGS frame says.
const STREAMS_MAX: u32 = 128;

/// A flood: its name, and the bytes of each round.
type Flood = (&'static str, fn(u32) -> Vec<u8>);

/// Floods that h2 itself answers without a limit.
const FRAME_FLOODS: [Flood; 8] = [
    ("PING", |_| frame(PING, 0, 0, &[7; 8]).repeat(1_000)),
    ("SETTINGS", |_| setting(4, 65_535).repeat(1_000)),
    ("PRIORITY", |_| frame(PRIORITY, 0, 1, &[0, 0, 0, 0, 16]).repeat(1_000)),
    ("WINDOW_UPDATE", |_| frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1]).repeat(1_000)),
    ("WINDOW_UPDATE of a stream", |round| {
        on_one_stream(round, &frame(WINDOW_UPDATE, 0, 1, &[0, 0, 0, 1]).repeat(1_000))
    }),
    ("RST_STREAM of one stream", |round| on_one_stream(round, &frame(RST_STREAM, 0, 1, &[0, 0, 0, 8]).repeat(1_000))),
    ("frames of an unknown type", |_| frame(77, 0, 0, &[]).repeat(1_000)),
    // Over the header limit, which is answered, and under four times the limit, which would close the connection.
    ("headers that are too large", |round| {
        on_new_streams(round, 10, |stream| {
            let part = header("x", &"y".repeat(100)).repeat(120);
            let first = frame(HEADERS, END_STREAM, stream, &[call_head(LOGIN, &[]), part.clone()].concat());
            [first, frame(CONTINUATION, END_HEADERS, stream, &part)].concat()
        })
    }),
];

/// Floods that h2 stops.
const STREAM_FLOODS: [Flood; 9] = [
    ("rapid reset (CVE-2023-44487)", |round| {
        on_new_streams(round, 100, |stream| [open_stream(stream), frame(RST_STREAM, 0, stream, &[0, 0, 0, 8])].concat())
    }),
    ("resets provoked by a zero window increment (CVE-2025-8671)", |round| {
        on_new_streams(round, 100, |stream| [open_stream(stream), frame(WINDOW_UPDATE, 0, stream, &[0; 4])].concat())
    }),
    ("resets provoked by a window overflow (CVE-2025-8671)", |round| {
        on_new_streams(round, 100, |stream| {
            [open_stream(stream), frame(WINDOW_UPDATE, 0, stream, &[0x7f, 0xff, 0xff, 0xff])].concat()
        })
    }),
    ("resets provoked by DATA after END_STREAM (CVE-2025-8671)", |round| {
        on_new_streams(round, 100, |stream| {
            [call(stream, LOGIN, &[], &EMPTY), frame(DATA, 0, stream, b"more")].concat()
        })
    }),
    ("resets provoked by a stream that depends on itself (CVE-2025-8671)", |round| {
        on_new_streams(round, 100, |stream| {
            [open_stream(stream), frame(PRIORITY, 0, stream, &[&stream.to_be_bytes()[..], &[16]].concat())].concat()
        })
    }),
    ("more streams than allowed", |round| on_new_streams(round, 200, open_stream)),
    ("endless CONTINUATION (RUSTSEC-2024-0332)", |round| {
        let part = frame(CONTINUATION, 0, 1, &header("x", "y")).repeat(100);
        if round == 0 { [frame(HEADERS, 0, 1, &call_head(LOGIN, &[])), part].concat() } else { part }
    }),
    ("empty DATA (RUSTSEC-2026-0258)", |round| on_one_stream(round, &frame(DATA, 0, 1, &[]).repeat(1_000))),
    ("DATA of one byte", |round| on_one_stream(round, &frame(DATA, 0, 1, &[0]).repeat(1_000))),
];

/// A call without its body.
fn open_stream(stream: u32) -> Vec<u8> {
    frame(HEADERS, END_HEADERS, stream, &call_head(LOGIN, &[]))
}

fn on_one_stream(round: u32, bytes: &[u8]) -> Vec<u8> {
    if round == 0 { [&open_stream(1), bytes].concat() } else { bytes.to_vec() }
}

fn on_new_streams(round: u32, count: u32, bytes: impl Fn(u32) -> Vec<u8>) -> Vec<u8> {
    (round * count..(round + 1) * count).flat_map(|number| bytes(2 * number + 1)).collect()
}

/// Floods until the server has closed the connection, and reads all that the server sends.
async fn flood(to: SocketAddr, (name, round_bytes): Flood) {
    let (mut from_server, mut to_server) = begun(to, &frame(SETTINGS, 0, 0, &[])).await.into_split();
    let reader = tokio::spawn(async move { tokio::io::copy(&mut from_server, &mut tokio::io::sink()).await });
    let closed = async {
        for round in 0.. {
            if to_server.write_all(&round_bytes(round)).await.is_err() {
                break;
            }
        }
        // A reset connection is closed too.
        drop(reader.await);
    };
    timeout(WAIT_MAX, closed).await.unwrap_or_else(|_| panic!("the server does not stop the flood: {name}"));
}

fn limited(change: impl Fn(&mut Limits) + Send + 'static) -> Setup {
    App::with(StoreKind::Memory).change(move |config| change(&mut config.limits))
}

#[tokio::test(flavor = "multi_thread")]
async fn floods_are_closed_while_other_callers_are_served() {
    let app = app().await;
    for case in FRAME_FLOODS.into_iter().chain(STREAM_FLOODS) {
        tokio::join!(flood(app.grpc_socket(), case), app.introspect("an unknown token"));
    }
    app.registered("ada").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn http_and_ops_listeners_close_floods() {
    let app = app().await;
    for listener in [app.http_socket(), app.ops_socket()] {
        for case in [FRAME_FLOODS[0], STREAM_FLOODS[0]] {
            flood(listener, case).await;
        }
    }
    app.registered("ada").await;
}

#[tokio::test]
async fn busy_client_with_many_pings_and_window_updates_is_served() {
    const CALLS_AT_ONCE: u32 = 100;
    let app = app().await;
    let mut stream = begun(app.grpc_socket(), &frame(SETTINGS, 0, 0, &[])).await;
    for round in 0..50 {
        let calls = on_new_streams(round, CALLS_AT_ONCE, |stream| {
            let extra_frames =
                [frame(PING, 0, 0, &[7; 8]), frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 9])].concat().repeat(3);
            [call(stream, CHECK, &[], &EMPTY), extra_frames].concat()
        });
        stream.write_all(&calls).await.unwrap();
        let mut answered = 0;
        while answered < CALLS_AT_ONCE {
            let frame = next_frame(&mut stream).await.unwrap_or_else(|| panic!("closed in round {round}"));
            answered += u32::from(frame.kind == HEADERS && frame.flags & END_STREAM != 0);
        }
    }
}

/// Sends the same call on `count` new streams, and waits for all answers.
async fn answered(stream: &mut TcpStream, streams: &mut impl Iterator<Item = u32>, path: &str, count: usize) {
    let calls: Vec<u8> = streams.by_ref().take(count).flat_map(|id| call(id, path, &[], &EMPTY)).collect();
    stream.write_all(&calls).await.unwrap();
    let mut answers = 0;
    while answers < count {
        let next = timeout(WAIT_MAX, next_frame(stream)).await.expect("the connection is read again");
        answers += usize::from(next.expect("the connection stays open").flags & END_STREAM != 0);
    }
}

/// Cheap refusals on one connection are paced, so that they leave the cores to the hash workers. The connection goes on.
#[tokio::test]
async fn connection_with_many_refused_calls_is_read_slower_and_stays_open() {
    let app = limited(|limits| limits.refusals_per_second = 100).start().await;
    let mut stream = begun(app.grpc_socket(), &frame(SETTINGS, 0, 0, &[])).await;
    let (began, mut streams) = (System.monotonic(), (1..).step_by(2));
    // A hundred are free, and a hundred more were read with them.
    for _ in 0..3 {
        answered(&mut stream, &mut streams, LOGIN, 100).await;
    }
    let took = System.monotonic() - began;
    assert!(took >= Duration::from_millis(900), "300 refusals took {took:?}");
    answered(&mut stream, &mut streams, CHECK, 100).await;
    // Other connections are not affected.
    app.registered("ada").await;
}

/// The maximum number of calls on a connection, with a window of `bytes` for each answer.
async fn calls_with_window(bytes: u32, to: SocketAddr) -> TcpStream {
    let calls = on_new_streams(0, STREAMS_MAX, |stream| call(stream, CHECK, &[], &EMPTY));
    let mut stream = begun(to, &[setting(4, bytes), calls].concat()).await;
    let mut answers = 0;
    while answers < STREAMS_MAX {
        answers += u32::from(next_frame(&mut stream).await.expect("answers begin").kind == HEADERS);
    }
    stream
}

#[tokio::test]
async fn client_that_does_not_read_its_answers_is_disconnected() {
    let app = limited(|limits| limits.write_stall = Duration::from_millis(200)).start().await;
    // With a window of 0 bytes the answer waits in hyper, with a window of 1 byte in h2.
    for window in [0, 1] {
        closed(calls_with_window(window, app.grpc_socket()).await).await;
    }
    app.registered("ada").await;
}

/// Sends calls until the connection is closed, and reads nothing.
async fn send_until_closed(to_server: &mut OwnedWriteHalf, bytes: &[u8]) {
    while to_server.write_all(bytes).await.is_ok() {}
}

#[tokio::test]
async fn client_that_never_reads_its_socket_is_disconnected() {
    let app = limited(|limits| limits.write_stall = Duration::from_millis(200)).start().await;
    let (_unread, mut to_server) = TcpStream::connect(app.http_socket()).await.unwrap().into_split();
    // Answers without a body, so that only the full socket makes the server wait.
    let request = b"HEAD / HTTP/1.1\r\nhost: localhost\r\n\r\n".repeat(1_000);
    timeout(WAIT_MAX, send_until_closed(&mut to_server, &request))
        .await
        .expect("the server disconnects a client that reads nothing");
    app.registered("ada").await;
}

#[tokio::test]
async fn quiet_health_watch_survives_the_disconnection_of_stalled_connections() {
    let app = limited(|limits| limits.write_stall = Duration::from_millis(100)).start().await;
    let mut health = HealthClient::new(app.channel().await);
    let mut watch = health.watch(HealthCheckRequest::default()).await.unwrap().into_inner();
    assert!(watch.message().await.unwrap().is_some());
    for _ in 0..3 {
        closed(calls_with_window(0, app.grpc_socket()).await).await;
    }
    let message = timeout(Duration::from_millis(100), watch.message()).await;
    assert!(message.is_err(), "the watch ended: {message:?}");
}

#[tokio::test]
async fn slow_http_1_request_is_disconnected() {
    let app = limited(|limits| limits.handshake = Duration::from_millis(200)).start().await;
    let head = format!("GET / HTTP/1.1\r\nhost: localhost\r\nx: {}", "y".repeat(100_000));
    let whole_head = b"GET / HTTP/1.1\r\nhost: localhost\r\ncontent-length: 100000\r\n\r\n";
    for (first, rest) in [(&head.as_bytes()[..40], &head.as_bytes()[40..]), (whole_head, &[b'y'; 100_000])] {
        let mut stream = TcpStream::connect(app.http_socket()).await.unwrap();
        stream.write_all(first).await.unwrap();
        let (from_server, mut to_server) = stream.into_split();
        let mut pace = interval(Duration::from_millis(20));
        let send_slowly = async {
            for byte in rest {
                pace.tick().await;
                if to_server.write_all(&[*byte]).await.is_err() {
                    return;
                }
            }
        };
        tokio::select! {
            () = send_slowly => {}
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
async fn floods_do_not_grow_the_memory_of_the_process() {
    let folder = tempfile::TempDir::new().unwrap();
    let node = Node::start(folder.path(), &[]);
    let listener = node.grpc.parse().unwrap();
    assert!(is_served(&node).await);
    let before = node.memory_kib("VmRSS:") * 1_024;
    let assert_growth_is_small = |what: &str| {
        let growth = (node.memory_kib("VmRSS:") * 1_024).saturating_sub(before);
        assert!(growth <= GROWTH_BYTES_MAX, "{what}: memory grew by {growth} bytes");
    };
    for case in FRAME_FLOODS.into_iter().chain(STREAM_FLOODS) {
        for _ in 0..3 {
            flood(listener, case).await;
        }
        assert_growth_is_small(case.0);
    }
    let mut slow_readers = Vec::new();
    for _ in 0..32 {
        slow_readers.push(calls_with_window(0, listener).await);
    }
    assert_growth_is_small("32 connections with a window of 0 bytes");
    assert!(is_served(&node).await);
}

/// Waits until an honest caller is served, well before idle connections are closed.
async fn is_served_soon(node: &Node) {
    let served = async { while !is_served(node).await {} };
    timeout(Limits::default().handshake / 2, served).await.expect("an honest caller is served");
}

#[tokio::test(flavor = "multi_thread")]
async fn node_survives_more_connections_than_its_limit_of_open_files() {
    // The test itself needs open files for its connections.
    host::connections_max(1);
    let folder = tempfile::TempDir::new().unwrap();
    let mut limited = Command::new("sh");
    limited.args(["-c", "ulimit -n 256 && exec \"$0\" \"$@\"", BINARY]);
    let mut command = command_by(limited, &["--grpc-addr", "127.0.0.1:0", "--http-addr", "off", "--ops-addr", "off"]);
    command.arg("--data-dir").arg(folder.path());
    let mut node = Node::spawn(command).unwrap();
    let mut connections = Vec::new();
    for _ in 0..1_000 {
        connections.push(TcpStream::connect(&node.grpc).await.unwrap());
    }
    assert!(node.wait_for_line("too many connections").is_some());
    drop(connections);
    is_served_soon(&node).await;
    node.signal("TERM");
    assert!(node.wait().0.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn node_without_a_free_file_descriptor_recovers_and_serves_again() {
    // The test itself needs open files for its connections.
    host::connections_max(1);
    let folder = tempfile::TempDir::new().unwrap();
    let mut node = Node::start(folder.path(), &[]);
    let pid = Pid::from_raw(node.pid().try_into().unwrap());
    let open_files = fs::read_dir(format!("/proc/{}/fd", node.pid())).unwrap().count() as u64;
    let limit = Rlimit { current: Some(open_files + 3), maximum: Some(open_files + 3) };
    prlimit(pid, Resource::Nofile, limit).unwrap();
    let mut connections = Vec::new();
    for _ in 0..500 {
        connections.push(TcpStream::connect(&node.grpc).await.unwrap());
    }
    assert!(node.wait_for_line("connection could not be accepted").is_some());
    drop(connections);
    is_served_soon(&node).await;
    node.signal("TERM");
    assert!(node.wait().0.success());
}

#[tokio::test]
async fn silent_connections_are_closed_and_make_room_for_new_ones() {
    assert!(Limits::default().handshake <= Duration::from_secs(10));
    let app = limited(|limits| {
        limits.handshake = Duration::from_millis(500);
        limits.connections_max = 4;
    });
    let app = app.start().await;
    let mut connections = Vec::new();
    for _ in 0..40 {
        connections.push(TcpStream::connect(app.http_socket()).await.unwrap());
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
    timeout(WAIT_MAX, served).await.expect("the silent connections are closed");
}
