//! Host names and web pages: which requests the HTTP and the ops listener answer.

use std::net::SocketAddr;

use http_body_util::{BodyExt, Empty};
use hyper::{Request, Version, body::Bytes};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;

use crate::support::{App, Setup, StoreKind, app, http, raw};

/// Both listeners, with a path that both refuse to web pages.
fn listeners(app: &App) -> [(SocketAddr, &'static str); 2] {
    [(app.http_socket(), "/"), (app.ops_socket(), "/metrics")]
}

fn with(args: &[&str]) -> Setup {
    App::with(StoreKind::Memory).args(args)
}

#[tokio::test]
async fn loopback_listener_answers_only_to_loopback_host_names() {
    let app = app().await;
    for (to, path) in listeners(&app) {
        for (host, status) in [
            (format!("localhost:{}", to.port()), 200),
            ("LOCALHOST".into(), 200),
            ("localhost.".into(), 200),
            ("localhost:".into(), 200),
            ("127.0.0.1:1".into(), 200),
            ("127.9.9.9".into(), 200),
            ("[::1]:5000".into(), 200),
            ("rebound.example".into(), 403),
            ("rebound.example:80".into(), 403),
            ("localhost.example".into(), 403),
            ("127.0.0.1.example".into(), 403),
            ("evil.localhost".into(), 403),
            ("[::ffff:7f00:1]".into(), 403),
            (format!("[::ffff:127.0.0.1]:{}", to.port()), 403),
            ("[::127.0.0.1]".into(), 403),
            ("[64:ff9b::7f00:1]".into(), 403),
            ("0.0.0.0".into(), 403),
            ("[::]".into(), 403),
            ("2130706433".into(), 403),
            ("127.1".into(), 403),
            ("017700000001".into(), 403),
            ("user@localhost".into(), 400),
            ("localhost@rebound.example".into(), 400),
            ("localhost:5000@rebound.example".into(), 400),
            ("localhost:x".into(), 400),
            ("localhost:99999".into(), 400),
            ("localhost, rebound.example".into(), 400),
            ("localhost/".into(), 400),
            ("[::1".into(), 400),
            ("::1".into(), 400),
            ("".into(), 400),
        ] {
            let reply = http(to, "GET", path, &[("host", &host)], "").await;
            assert_eq!(reply.status, status, "{path} {host:?}: {reply:?}");
            assert!(status != 403 || reply.body.contains("--http-allow-host"), "{reply:?}");
        }
    }
}

#[tokio::test]
async fn request_without_exactly_one_host_is_malformed() {
    let app = with(&["--ops-addr", "0.0.0.0:0", "--http-allow-host", "a.example"]).start().await;
    let ops: SocketAddr = ([127, 0, 0, 1], app.ops_socket().port()).into();
    for (to, path) in [(app.http_socket(), "/"), (app.http_socket(), "/.well-known/jwks.json"), (ops, "/healthz")] {
        for (line, hosts, status) in [
            (format!("GET {path} HTTP/1.1"), "host: localhost\r\n", 200),
            (format!("GET {path} HTTP/1.1"), "host: localhost\r\nHost: localhost\r\n", 400),
            (format!("GET {path} HTTP/1.1"), "host: localhost\r\nhost: rebound.example\r\n", 400),
            (format!("GET {path} HTTP/1.1"), "", 400),
            (format!("GET http://localhost{path} HTTP/1.1"), "host: localhost\r\n", 200),
            (format!("GET http://localhost:80{path} HTTP/1.1"), "host: LOCALHOST\r\n", 200),
            (format!("GET http://localhost{path} HTTP/1.1"), "host: a.example\r\n", 400),
            (format!("GET http://a.example{path} HTTP/1.1"), "host: localhost\r\n", 400),
            (format!("GET http://a.example:1{path} HTTP/1.1"), "host: a.example:2\r\n", 400),
            (format!("GET http://user@localhost{path} HTTP/1.1"), "host: localhost\r\n", 400),
        ] {
            let request = format!("{line}\r\nconnection: close\r\n{hosts}\r\n");
            let reply = String::from_utf8(raw(to, request.as_bytes()).await).unwrap();
            assert!(reply.starts_with(&format!("HTTP/1.1 {status} ")), "{request:?}: {reply}");
        }
    }
    // HTTP/1.0 needs no Host, but then the listener cannot know what it was called.
    for (to, path, status) in [(app.http_socket(), "/", 403), (ops, "/healthz", 200)] {
        let reply = String::from_utf8(raw(to, format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes()).await).unwrap();
        assert!(reply.starts_with(&format!("HTTP/1.0 {status} ")), "{path}: {reply}");
    }
}

#[tokio::test]
async fn authority_of_http_2_counts_and_must_agree_with_host() {
    let app = app().await;
    for (to, path) in listeners(&app) {
        for (authority, hosts, status) in [
            (Some("localhost"), &[][..], 200),
            (Some("localhost"), &["localhost"], 200),
            (Some("localhost:5000"), &["LOCALHOST."], 200),
            (Some("rebound.example"), &[], 403),
            (Some("[::ffff:7f00:1]"), &[], 403),
            (Some("rebound.example"), &["localhost"], 400),
            (Some("localhost"), &["rebound.example"], 400),
            (Some("localhost"), &["localhost", "localhost"], 400),
        ] {
            let found = http_2(to, path, authority, hosts).await;
            assert_eq!(found, status, "{path} {authority:?} {hosts:?}");
        }
    }
}

async fn http_2(to: SocketAddr, path: &str, authority: Option<&str>, hosts: &[&str]) -> u16 {
    let io = TokioIo::new(TcpStream::connect(to).await.unwrap());
    let (mut sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.unwrap();
    tokio::spawn(connection);
    let uri = authority.map_or_else(|| path.to_owned(), |authority| format!("http://{authority}{path}"));
    let mut request = Request::get(uri).version(Version::HTTP_2);
    for host in hosts {
        request = request.header("host", *host);
    }
    let response = sender.send_request(request.body(Empty::<Bytes>::new()).unwrap()).await.unwrap();
    let status = response.status().as_u16();
    response.into_body().collect().await.unwrap();
    status
}

#[tokio::test]
async fn named_hosts_and_the_issuers_host_are_answered_to() {
    let args = [
        "--token-issuer",
        "https://Auth.example.com:8443/base",
        "--http-allow-host",
        "watchword,192.0.2.7,2001:db8::7",
    ];
    let app = with(&args).start().await;
    for (to, path) in listeners(&app) {
        for host in [
            "auth.example.com",
            "auth.example.com:443",
            "AUTH.example.com.",
            "watchword:5000",
            "192.0.2.7",
            "[2001:db8:0::7]:1",
        ] {
            assert_eq!(http(to, "GET", path, &[("host", host)], "").await.status, 200, "{path} {host}");
        }
        for host in ["example.com", "a.auth.example.com", "watchword.example", "192.0.2.8", "[::ffff:192.0.2.7]"] {
            assert_eq!(http(to, "GET", path, &[("host", host)], "").await.status, 403, "{path} {host}");
        }
    }
}

/// In a container the HTTP listener is on every address; probes and scrapers call the ops listener by the address of the pod.
#[tokio::test]
async fn listener_on_every_address_answers_to_the_address_of_the_connection() {
    let args = ["--http-addr", "[::]:0", "--ops-addr", "0.0.0.0:0", "--token-issuer", "https://a.example"];
    let app = with(&args).args(&["--token-audience", "a", "--legacy-routes", "on"]).insecure_plaintext().start().await;
    let [to, ops] = [app.http_socket(), app.ops_socket()].map(|of| SocketAddr::from(([127, 0, 0, 1], of.port())));
    for (host, status) in [
        ("127.0.0.1", 200),
        ("localhost", 200),
        ("a.example", 200),
        ("rebound.example", 403),
        ("[::ffff:127.0.0.1]", 403),
    ] {
        assert_eq!(http(to, "GET", "/", &[("host", host)], "").await.status, status, "{host}");
        assert_eq!(
            http(ops, "GET", "/healthz", &[("host", host)], "").await.status,
            200,
            "{host}: open beyond loopback"
        );
    }
}

#[tokio::test]
async fn pages_of_other_sites_are_refused_unless_their_origin_is_named() {
    let app = with(&[
        "--http-allow-origin",
        "https://www.example.com,http://shop.example:8080",
        "--http-allow-host",
        "auth.example.com",
    ])
    .start()
    .await;
    for (to, path) in listeners(&app) {
        for (host, headers, status) in [
            ("localhost", &[][..], 200),
            ("localhost", &[("origin", "http://localhost:3000")], 200),
            ("localhost", &[("origin", "http://localhost")], 200),
            ("127.0.0.1", &[("origin", "https://127.0.0.1:8443")], 200),
            ("auth.example.com", &[("origin", "https://auth.example.com")], 200),
            ("auth.example.com", &[("origin", "https://www.example.com")], 200),
            ("auth.example.com", &[("origin", "https://WWW.example.com:443"), ("sec-fetch-site", "same-site")], 200),
            ("localhost", &[("origin", "http://shop.example:8080"), ("sec-fetch-site", "cross-site")], 200),
            ("localhost", &[("sec-fetch-site", "same-origin")], 200),
            ("localhost", &[("sec-fetch-site", "none")], 200),
            ("localhost", &[("sec-fetch-site", "cross-site")], 403),
            ("localhost", &[("origin", "http://localhost"), ("sec-fetch-site", "cross-site")], 403),
            ("localhost", &[("origin", "http://127.0.0.1")], 403),
            ("localhost", &[("origin", "https://page.example")], 403),
            ("localhost", &[("origin", "http://localhost.example")], 403),
            ("localhost", &[("origin", "http://user@localhost")], 403),
            ("localhost", &[("origin", "null")], 403),
            ("localhost", &[("origin", "")], 403),
            ("localhost", &[("origin", "http://localhost"), ("origin", "https://page.example")], 403),
            ("auth.example.com", &[("origin", "http://www.example.com")], 403),
            ("auth.example.com", &[("origin", "https://www.example.com:8443")], 403),
            ("auth.example.com", &[("origin", "https://example.com")], 403),
            ("auth.example.com", &[("origin", "http://localhost:3000")], 403),
        ] {
            let sent = [&[("host", host)], headers].concat();
            let reply = http(to, "GET", path, &sent, "").await;
            assert_eq!(reply.status, status, "{path} {sent:?}");
            assert!(status != 403 || reply.body.contains("--http-allow-origin"), "{reply:?}");
        }
    }
}

#[tokio::test]
async fn published_keys_are_open_to_every_host_name_and_page() {
    let app = app().await;
    let foreign = [("host", "rebound.example"), ("origin", "https://page.example"), ("sec-fetch-site", "cross-site")];
    for path in
        ["/.well-known/jwks.json", "/.well-known/oauth-authorization-server", "/.well-known/openid-configuration"]
    {
        assert_eq!(http(app.http_socket(), "GET", path, &foreign, "").await.status, 200, "{path}");
    }
    for path in ["/.well-known", "/.well-known/../login", "//.well-known/jwks.json", "/altcha/challenge", "/nope"] {
        let status = http(app.http_socket(), "GET", path, &foreign, "").await.status;
        assert!([403, 404].contains(&status), "{path}: {status}");
    }
}
