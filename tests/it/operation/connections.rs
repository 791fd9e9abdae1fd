//! Whoever connects: silence, garbage, crowds, and connections that grow old.

use std::{net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use watchword::net::Limits;

use crate::support::{
    Api, App, Setup, StoreKind,
    frames::{ACK, Frame, GOAWAY, PING, PREFACE, SETTINGS, begun, closed, frame, next_frame},
    http, password, raw,
};

fn limited(change: impl Fn(&mut Limits) + Send + 'static) -> Setup {
    App::with(StoreKind::Memory).change(move |config| change(&mut config.limits))
}

#[tokio::test]
async fn whoever_connects_and_says_nothing_or_not_enough_is_cut() {
    let app = limited(|limits| limits.handshake = Duration::from_millis(200)).start().await;
    for api in [app.grpc_socket(), app.http_socket(), app.ops_socket()] {
        for beginning in [&b""[..], b"P", b"PRI * HTTP/2.0\r\n", b"GET / HTTP/1.1\r\n", b"GET / HTTP/1.1\r\nhost: loc"]
        {
            let mut stream = TcpStream::connect(api).await.unwrap();
            stream.write_all(beginning).await.unwrap();
            closed(stream).await;
        }
    }
    app.registered("ada").await;
}

#[tokio::test]
async fn garbage_on_any_port_is_closed_or_answered_and_the_server_goes_on() {
    let app = limited(|limits| limits.handshake = Duration::from_millis(200)).start().await;
    let tls_hello = [&[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3][..], &[7; 505]].concat();
    let bad_frames = [PREFACE, &[0xff; 64]].concat();
    let wrong_preface = b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\nand so on and so on".to_vec();
    let header_flood =
        format!("GET / HTTP/1.1\r\n{}", "x: yyyyyyyyyyyyyyyyyyyyyyyyyyyy\r\n".repeat(4_000)).into_bytes();
    for api in [app.grpc_socket(), app.http_socket(), app.ops_socket()] {
        for garbage in
            [&tls_hello, &bad_frames, &wrong_preface, &header_flood, &vec![0; 100_000], &b"\r\n\r\n\r\n".repeat(20)]
        {
            raw(api, garbage).await;
        }
    }
    app.registered("ada").await;
    for api in Api::ALL {
        assert_eq!(api.login(&app, "ada", &password("ada")).await.outcome(), "ok");
    }
}

#[tokio::test]
async fn beyond_the_limit_new_connections_are_closed_and_room_comes_back() {
    let app = limited(|limits| limits.connections_max = 4).start().await;
    let mut held = Vec::new();
    for _ in 0..4 {
        let mut stream = TcpStream::connect(app.http_socket()).await.unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"HTTP/1.1 200");
        held.push(stream);
    }
    assert!(closed(TcpStream::connect(app.http_socket()).await.unwrap()).await.is_empty());
    assert_eq!(http(app.ops_socket(), "GET", "/healthz", &[], "").await.status, 200, "every door has its own room");
    drop(held);
    loop {
        let mut stream = TcpStream::connect(app.http_socket()).await.unwrap();
        drop(stream.write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").await);
        if closed(stream).await.starts_with(b"HTTP/1.1 200") {
            break;
        }
    }
}

/// Speaks just enough HTTP/2 to see the frames.
async fn frames_until_closed(to: SocketAddr) -> Vec<Frame> {
    let mut stream = begun(to, &frame(SETTINGS, 0, 0, &[])).await;
    let mut frames = Vec::new();
    while let Some(next) = next_frame(&mut stream).await {
        if next.kind == PING && next.flags != ACK {
            // A ping wants its echo; so a graceful shutdown goes on.
            drop(stream.write_all(&frame(PING, ACK, 0, &next.payload)).await);
        }
        frames.push(next);
    }
    frames
}

#[tokio::test]
async fn an_old_connection_is_asked_to_go_before_it_is_closed() {
    let app = limited(|limits| limits.age = Duration::from_millis(100)).start().await;
    let frames = frames_until_closed(app.grpc_socket()).await;
    let goaways: Vec<_> = frames.iter().filter(|frame| frame.kind == GOAWAY).collect();
    assert!(!goaways.is_empty(), "{frames:?}");
    assert!(goaways.iter().all(|frame| frame.payload[4..8] == [0; 4]), "no error: {goaways:?}");
}

#[tokio::test]
async fn an_idle_connection_is_asked_to_go() {
    let app = limited(|limits| limits.idle = Duration::from_millis(100)).start().await;
    let frames = frames_until_closed(app.grpc_socket()).await;
    assert!(frames.iter().any(|frame| frame.kind == GOAWAY), "{frames:?}");
}

#[tokio::test]
async fn the_first_settings_frame_names_the_limits() {
    let app = limited(|limits| limits.idle = Duration::from_millis(100)).start().await;
    let frames = frames_until_closed(app.grpc_socket()).await;
    let settings: Vec<(u16, u32)> = frames[0]
        .payload
        .chunks(6)
        .map(|entry| {
            (u16::from_be_bytes([entry[0], entry[1]]), u32::from_be_bytes([entry[2], entry[3], entry[4], entry[5]]))
        })
        .collect();
    assert!(settings.contains(&(3, 128)), "streams: {settings:?}");
    assert!(settings.contains(&(6, 16 * 1024)), "header bytes: {settings:?}");
}

#[tokio::test]
async fn a_connection_in_use_is_not_idle() {
    let app = limited(|limits| limits.idle = Duration::from_millis(200)).start().await;
    let mut stream = TcpStream::connect(app.http_socket()).await.unwrap();
    // A second connection that says nothing more than its beginning lives for two idle times; this one longer.
    let idle = tokio::spawn(frames_until_closed(app.grpc_socket()));
    let mut answer = [0; 4_096];
    while !idle.is_finished() {
        stream.write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
        let read = stream.read(&mut answer).await.unwrap();
        assert!(answer[..read].starts_with(b"HTTP/1.1 200") && !answer[..read].windows(5).any(|at| at == b"close"));
    }
    stream.write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
    assert!(stream.read(&mut answer).await.unwrap() > 0);
}

#[tokio::test]
async fn a_running_watch_does_not_count_as_idle() {
    use watchword::api::health::{HealthCheckRequest, health_client::HealthClient};
    let app = limited(|limits| limits.idle = Duration::from_millis(100)).start().await;
    let mut health = HealthClient::new(app.channel().await);
    let mut watch = health.watch(HealthCheckRequest::default()).await.unwrap().into_inner();
    assert!(watch.message().await.unwrap().is_some());
    // The idle connection beside it goes in this time, and the watched one does not.
    frames_until_closed(app.grpc_socket()).await;
    let more = timeout(Duration::from_millis(100), watch.message()).await;
    assert!(more.is_err(), "the watch ended: {more:?}");
}

#[tokio::test]
async fn doors_listen_on_unix_sockets_too() {
    let folder = tempfile::TempDir::new().unwrap();
    let path = folder.path().join("http.sock");
    let address = format!("unix:{}", path.display());
    let app = App::with(StoreKind::Memory).args(&["--http-addr", &address]).start().await;
    let mut stream = tokio::net::UnixStream::connect(&path).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.ends_with("Hello World!"), "{answer}");
    app.stopped().await;
    assert!(!path.exists(), "the socket's file goes with the server");
}

#[tokio::test]
async fn a_socket_left_by_a_killed_process_is_taken_over_and_a_living_one_is_not() {
    let folder = tempfile::TempDir::new().unwrap();
    let path = folder.path().join("left.sock");
    // Binding without unlinking is what a killed process leaves.
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let address = format!("unix:{}", path.display());
    let app = App::with(StoreKind::Memory).args(&["--http-addr", &address]).start().await;
    let second = watchword::net::Listener::bind(&address.parse().unwrap(), watchword::net::Access::Group);
    assert!(second.is_err(), "the living socket was taken over");
    app.stopped().await;
}
