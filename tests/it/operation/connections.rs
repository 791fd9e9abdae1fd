//! Connections: silent clients, garbage, connection limits, and connection age.

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
async fn connection_without_a_complete_request_is_closed_after_the_handshake_timeout() {
    let app = limited(|limits| limits.handshake = Duration::from_millis(200)).start().await;
    for api in [app.grpc_socket(), app.http_socket(), app.ops_socket()] {
        for prefix in [&b""[..], b"P", b"PRI * HTTP/2.0\r\n", b"GET / HTTP/1.1\r\n", b"GET / HTTP/1.1\r\nhost: loc"] {
            let mut stream = TcpStream::connect(api).await.unwrap();
            stream.write_all(prefix).await.unwrap();
            closed(stream).await;
        }
    }
    app.registered("ada").await;
}

#[tokio::test]
async fn garbage_on_any_listener_does_not_affect_other_connections() {
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
async fn connections_beyond_the_limit_are_closed_until_others_end() {
    let app = limited(|limits| limits.connections_max = 4).start().await;
    let mut open = Vec::new();
    for _ in 0..4 {
        let mut stream = TcpStream::connect(app.http_socket()).await.unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"HTTP/1.1 200");
        open.push(stream);
    }
    assert!(closed(TcpStream::connect(app.http_socket()).await.unwrap()).await.is_empty());
    assert_eq!(
        http(app.ops_socket(), "GET", "/healthz", &[], "").await.status,
        200,
        "each listener has its own connection limit"
    );
    drop(open);
    loop {
        let mut stream = TcpStream::connect(app.http_socket()).await.unwrap();
        drop(stream.write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").await);
        if closed(stream).await.starts_with(b"HTTP/1.1 200") {
            break;
        }
    }
}

/// A minimal HTTP/2 client that records all frames until the server closes the connection.
async fn frames_until_closed(to: SocketAddr) -> Vec<Frame> {
    let mut stream = begun(to, &frame(SETTINGS, 0, 0, &[])).await;
    let mut frames = Vec::new();
    while let Some(next) = next_frame(&mut stream).await {
        if next.kind == PING && next.flags != ACK {
            // A graceful shutdown waits for the acknowledgement of its PING.
            drop(stream.write_all(&frame(PING, ACK, 0, &next.payload)).await);
        }
        frames.push(next);
    }
    frames
}

#[tokio::test]
async fn connection_at_its_maximum_age_receives_goaway_before_it_is_closed() {
    let app = limited(|limits| limits.age = Duration::from_millis(100)).start().await;
    let frames = frames_until_closed(app.grpc_socket()).await;
    let goaways: Vec<_> = frames.iter().filter(|frame| frame.kind == GOAWAY).collect();
    assert!(!goaways.is_empty(), "{frames:?}");
    assert!(goaways.iter().all(|frame| frame.payload[4..8] == [0; 4]), "GOAWAY must have no error code: {goaways:?}");
}

#[tokio::test]
async fn idle_connection_receives_goaway() {
    let app = limited(|limits| limits.idle = Duration::from_millis(100)).start().await;
    let frames = frames_until_closed(app.grpc_socket()).await;
    assert!(frames.iter().any(|frame| frame.kind == GOAWAY), "{frames:?}");
}

#[tokio::test]
async fn first_settings_frame_announces_the_limits() {
    let app = limited(|limits| limits.idle = Duration::from_millis(100)).start().await;
    let frames = frames_until_closed(app.grpc_socket()).await;
    let settings: Vec<(u16, u32)> = frames[0]
        .payload
        .chunks(6)
        .map(|entry| {
            (u16::from_be_bytes([entry[0], entry[1]]), u32::from_be_bytes([entry[2], entry[3], entry[4], entry[5]]))
        })
        .collect();
    assert!(settings.contains(&(3, 128)), "SETTINGS_MAX_CONCURRENT_STREAMS: {settings:?}");
    assert!(settings.contains(&(6, 16 * 1024)), "SETTINGS_MAX_HEADER_LIST_SIZE: {settings:?}");
}

#[tokio::test]
async fn connection_with_requests_is_not_closed_as_idle() {
    let app = limited(|limits| limits.idle = Duration::from_millis(200)).start().await;
    let mut stream = TcpStream::connect(app.http_socket()).await.unwrap();
    // A second connection that sends only the preface lives for two idle times; this one must live longer.
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
async fn connection_with_an_open_health_watch_is_not_closed_as_idle() {
    use watchword::api::health::{HealthCheckRequest, health_client::HealthClient};
    let app = limited(|limits| limits.idle = Duration::from_millis(100)).start().await;
    let mut health = HealthClient::new(app.channel().await);
    let mut watch = health.watch(HealthCheckRequest::default()).await.unwrap().into_inner();
    assert!(watch.message().await.unwrap().is_some());
    // Meanwhile an idle connection is closed, and the one with the watch is not.
    frames_until_closed(app.grpc_socket()).await;
    let more = timeout(Duration::from_millis(100), watch.message()).await;
    assert!(more.is_err(), "the watch ended: {more:?}");
}

#[tokio::test]
async fn http_listener_on_a_unix_socket_answers_and_removes_its_file() {
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
    assert!(!path.exists(), "the socket file is left after the shutdown");
}

#[tokio::test]
async fn stale_unix_socket_is_replaced_and_one_in_use_is_not() {
    let folder = tempfile::TempDir::new().unwrap();
    let path = folder.path().join("left.sock");
    // A killed process leaves a socket file behind.
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let address = format!("unix:{}", path.display());
    let app = App::with(StoreKind::Memory).args(&["--http-addr", &address]).start().await;
    let second = watchword::net::Listener::bind(&address.parse().unwrap(), watchword::net::Access::Group);
    assert!(second.is_err(), "a socket in use was replaced");
    app.stopped().await;
}
