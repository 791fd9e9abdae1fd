//! The client of this crate, as other programs use it. This file tests its connection.

mod layer;
pub mod proof_of_work;
mod tokens;
mod verifier;

use std::{
    convert::Infallible,
    path::Path,
    process::Command,
    sync::{Arc, Mutex},
    time::{Duration, Instant, SystemTime},
};

use http::{Request, Response};
use http_body_util::{StreamBody, combinators::UnsyncBoxBody};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
    service::TowerToHyperService,
};
use tokio::{io::copy_bidirectional, net::TcpListener, net::TcpStream};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ServerConfig,
        crypto::aws_lc_rs,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    },
};
use tonic::Code;
use watchword::client::{Client, Clock, StatusExt, System, TokenSource, Verifier, pb};

use crate::support::{
    App, ManualClock, StoreKind, WAIT_MAX, app,
    fault::{Fault, Faulty},
    password,
    proxy::{NetworkCondition, Proxy},
    redis::Tls,
};

impl Clock for ManualClock {
    fn now(&self) -> SystemTime {
        watchword::domain::Clock::now(self)
    }

    fn monotonic(&self) -> Instant {
        watchword::domain::Clock::monotonic(self)
    }
}

/// The monotonic time moves only when the test moves it; the wall clock is the system's.
#[derive(Debug)]
struct ManualMonotonicClock {
    start: Instant,
    advanced: Mutex<Duration>,
}

impl Default for ManualMonotonicClock {
    fn default() -> Self {
        Self { start: Clock::monotonic(&System), advanced: Mutex::default() }
    }
}

impl ManualMonotonicClock {
    fn advance(&self, by: Duration) {
        *self.advanced.lock().unwrap() += by;
    }
}

impl Clock for ManualMonotonicClock {
    fn now(&self) -> SystemTime {
        System.now()
    }

    fn monotonic(&self) -> Instant {
        self.start + *self.advanced.lock().unwrap()
    }
}

/// A client of `app` with the app's clock.
async fn connected(app: &App) -> Client {
    Client::builder(format!("http://{}", app.grpc_addr())).clock(app.clock.clone()).connect().await.unwrap()
}

/// Waits until the condition holds.
async fn wait_until(condition: impl Fn() -> bool) {
    let waiting = async {
        while !condition() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(WAIT_MAX, waiting).await.expect("the condition holds in time");
}

#[tokio::test]
async fn login_returns_user_and_tokens_and_a_refusal_has_its_reason() {
    let app = app().await;
    app.registered("ada").await;
    let client = connected(&app).await;
    let login = client.login("ada", password("ada")).await.unwrap();
    assert_eq!(login.user.username, "ada");
    let found = client.introspect(&login.tokens.access_token).await.unwrap();
    assert_eq!((found.active, &found.user_id), (true, &login.user.user_id));
    let refused = client.login("ada", "a wrong password").await.unwrap_err();
    assert_eq!(refused.auth_reason(), Some(pb::ErrorReason::InvalidCredentials));
    assert_eq!(refused.retry_after(), None);
}

#[tokio::test]
async fn retryable_error_has_a_retry_delay() {
    let app = App::on(Faulty::with(Fault::Down)).start().await;
    let refused = connected(&app).await.login("ada", password("ada")).await.unwrap_err();
    assert_eq!(refused.auth_reason(), Some(pb::ErrorReason::StoreUnavailable));
    assert_eq!(refused.retry_after(), Some(Duration::from_secs(1)));
}

#[tokio::test]
async fn connection_error_has_no_watchword_reason() {
    let unreachable = Client::builder("http://127.0.0.1:1").connect_lazy().unwrap();
    let failed = unreachable.introspect("x").await.unwrap_err();
    assert_eq!((failed.code(), failed.auth_reason()), (Code::Unavailable, None));
    assert!(Client::builder("http://127.0.0.1:1").connect().await.is_err());
    assert!(Client::builder("not an address").connect_lazy().is_err());
}

#[tokio::test]
async fn silent_server_is_deadline_exceeded_after_the_call_timeout() {
    let app = app().await;
    let proxy = Proxy::before(app.grpc_socket().port()).await;
    let builder = Client::builder(format!("http://{}", proxy.address)).call_timeout(Duration::from_millis(200));
    let client = builder.connect().await.unwrap();
    proxy.set(NetworkCondition::BlackHole);
    let error = client.introspect("x").await.unwrap_err();
    assert_eq!((error.code(), error.auth_reason()), (Code::DeadlineExceeded, Some(pb::ErrorReason::DeadlineExceeded)));
}

#[tokio::test]
async fn deadline_is_sent_to_the_server_and_ends_an_endless_response() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (sender, mut timeouts) = tokio::sync::mpsc::unbounded_channel();
    let service = tower::service_fn(move |request: Request<hyper::body::Incoming>| {
        sender.send(request.headers()["grpc-timeout"].to_str().unwrap().to_owned()).unwrap();
        let never = futures_util::stream::pending::<Result<http_body::Frame<bytes::Bytes>, Infallible>>();
        let response = Response::builder().header("content-type", "application/grpc");
        async { Ok::<_, Infallible>(response.body(UnsyncBoxBody::new(StreamBody::new(never))).unwrap()) }
    });
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let service = TowerToHyperService::new(service);
        drop(auto::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await);
    });
    let builder = Client::builder(format!("http://{address}")).call_timeout(Duration::from_millis(200));
    let client = builder.connect().await.unwrap();
    assert_eq!(client.introspect("x").await.unwrap_err().code(), Code::DeadlineExceeded);
    assert_eq!(timeouts.recv().await.unwrap(), "200m");
    let mut request = tonic::Request::new(pb::GetUserRequest {});
    request.set_timeout(Duration::from_millis(50));
    assert_eq!(client.auth().get_user(request).await.unwrap_err().code(), Code::DeadlineExceeded);
    assert_eq!(timeouts.recv().await.unwrap(), "50000000n", "the deadline of the call takes precedence");
}

#[tokio::test]
async fn unix_socket_is_accepted_as_an_address() {
    let folder = tempfile::TempDir::new().unwrap();
    let socket = format!("unix:{}", folder.path().join("grpc").display());
    let app = App::with(StoreKind::Memory).args(&["--grpc-addr", &socket]).start().await;
    let client = Client::builder(socket).connect().await.unwrap();
    let refused = client.login("ada", password("ada")).await.unwrap_err();
    assert_eq!(refused.auth_reason(), Some(pb::ErrorReason::InvalidCredentials));
    drop(app);
}

/// Terminates TLS in front of a plaintext listener, as a proxy does.
async fn tls_proxy(listener_address: std::net::SocketAddr, tls: &Tls) -> u16 {
    let file = |name| tls.ca_file().with_file_name(name);
    let chain = CertificateDer::pem_file_iter(file("redis.pem")).unwrap().map(Result::unwrap).collect();
    let key = PrivateKeyDer::from_pem_file(file("redis.key")).unwrap();
    let config = ServerConfig::builder_with_provider(aws_lc_rs::default_provider().into());
    let config = config.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
    let mut config = config.with_single_cert(chain, key).unwrap();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let (acceptor, listener) = (TlsAcceptor::from(Arc::new(config)), TcpListener::bind("127.0.0.1:0").await.unwrap());
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let Ok(mut client_side) = acceptor.accept(stream).await else { return };
                let mut server_side = TcpStream::connect(listener_address).await.unwrap();
                drop(copy_bidirectional(&mut client_side, &mut server_side).await);
            });
        }
    });
    port
}

#[tokio::test]
async fn tls_trusts_only_the_configured_certificate_authority() {
    let app = app().await;
    app.registered("ada").await;
    let (tls, other) = (Tls::new(), Tls::new());
    let (grpc, http) = (tls_proxy(app.grpc_socket(), &tls).await, tls_proxy(app.http_socket(), &tls).await);
    let address = format!("https://localhost:{grpc}");
    let client = Client::builder(&address).ca_file(tls.ca_file()).connect().await.unwrap();
    let tokens = client.login("ada", password("ada")).await.unwrap().tokens;
    for untrusting in [Client::builder(&address), Client::builder(&address).ca_file(other.ca_file())] {
        assert!(untrusting.connect().await.is_err());
    }
    assert!(Client::builder(&address).ca_file("missing.pem").connect().await.is_err());

    let verifier = |ca_file: Option<&Path>| {
        let builder = verifier::of(&app).keys_at(format!("https://localhost:{http}/.well-known/jwks.json"));
        let builder = if let Some(file) = ca_file { builder.ca_file(file) } else { builder };
        builder.build().unwrap()
    };
    assert!(verifier(Some(&tls.ca_file())).verify(&tokens.access_token).await.is_ok());
    for untrusting in [verifier(None), verifier(Some(&other.ca_file()))] {
        let error = untrusting.verify(&tokens.access_token).await;
        assert_eq!(error, Err(watchword::client::VerifyError::Unavailable));
    }
    assert!(verifier::of(&app).ca_file("missing.pem").build().is_err());
}

#[tokio::test]
async fn debug_of_client_types_shows_no_secret() {
    let app = app().await;
    app.registered("ada").await;
    let client = connected(&app).await;
    let login = client.login("ada", password("ada")).await.unwrap();
    let secrets = [login.tokens.access_token.clone(), login.tokens.refresh_token.clone(), password("ada")];
    let source = TokenSource::new(&client, login.tokens.clone());
    let verifier: Verifier = verifier::of(&app).introspect_with(&client).build().unwrap();
    verifier.verify(&secrets[0]).await.unwrap();
    let shown = format!(
        "{client:?} {login:?} {source:?} {:?} {:?} {:?} {verifier:?} {:?} {:?}",
        source.layer(),
        client.auth_as(&source),
        source.tokens(),
        verifier.verify(&secrets[0]).await,
        Client::builder("http://127.0.0.1:1"),
    );
    for secret in &secrets {
        assert!(!shown.contains(secret), "{shown}");
    }
    assert!(shown.contains("TokenSource"), "{shown}");
}

/// `--no-default-features --features client` is for programs that need neither a store nor password hashing.
#[test]
fn client_feature_depends_on_neither_a_store_nor_password_hashing() {
    let tree = |features: &[&str]| {
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args(["tree", "--locked", "--offline", "--edges", "normal", "--prefix", "none"]).args(features);
        let printed = cargo.current_dir(env!("CARGO_MANIFEST_DIR")).output().unwrap();
        assert!(printed.status.success(), "{}", String::from_utf8_lossy(&printed.stderr));
        String::from_utf8(printed.stdout).unwrap()
    };
    let (client, server) = (tree(&["--no-default-features", "--features", "client"]), tree(&[]));
    for name in ["redb", "redis", "argon2", "argon2-rust", "axum", "clap", "prometheus-client", "unicode-security"] {
        let line = format!("{name} v");
        assert!(!client.lines().any(|crate_| crate_.starts_with(&line)), "the client feature depends on {name}");
        assert!(server.lines().any(|crate_| crate_.starts_with(&line)), "the control: the server depends on {name}");
    }
    assert!(!server.contains("hyper-rustls v"), "the server does not depend on the client");
}
