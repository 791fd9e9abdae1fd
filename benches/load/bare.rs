//! Two servers for comparison, each this program in a separate process: tonic's own accept loop and codec, the
//! messages of the contract and the runtime settings of the binary.
//!
//! The bare server gives one answer to all token checks and refuses all logins, as Watchword refuses most logins of a
//! storm: it measures the cost of the protocol. The naive server computes a hash for each login as in the example of
//! the `argon2` crate, on tokio's blocking threads and without its own queue: it does what most services do.

use std::{
    convert::Infallible,
    env,
    net::SocketAddr,
    pin::Pin,
    process::Command,
    task::{Context, Poll},
};

use tokio::{runtime, task};
use tonic::{
    Request, Response, Status,
    body::Body,
    codegen::Service,
    server::{Grpc, NamedService},
    transport::{Server, server::TcpIncoming},
};
use tonic_prost::ProstCodec;
use watchword::{
    api::pb::{IntrospectTokenRequest, IntrospectTokenResponse, LoginRequest, LoginResponse, TokenUse, Tokens, User},
    common::host,
};

use crate::raw;

/// Blocking threads of the naive server: a quarter of tokio's default, so that its hash memory is 2.4 GiB instead of
/// 9.5.
const NAIVE_THREADS: usize = 128;

/// The servers for comparison.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Bare,
    Naive,
}

impl Kind {
    fn flag(self) -> &'static str {
        match self {
            Kind::Bare => "--serve-bare",
            Kind::Naive => "--serve-naive",
        }
    }

    /// The server that the arguments of this process select.
    pub(crate) fn from_args() -> Option<Self> {
        [Kind::Bare, Kind::Naive].into_iter().find(|kind| env::args().any(|argument| argument == kind.flag()))
    }

    /// The command that runs this program as this server.
    pub(crate) fn command(self) -> Command {
        let mut command = Command::new(env::current_exe().expect("this program has a file"));
        command.arg(self.flag());
        command
    }

    /// Serves until the process is killed.
    #[expect(clippy::print_stderr, reason = "prints its address in the form of the binary's log")]
    pub(crate) fn serve(self) {
        let runtime = runtime::Builder::new_multi_thread()
            .worker_threads(host::cores())
            .max_blocking_threads(NAIVE_THREADS)
            .enable_all()
            .build();
        runtime.expect("a runtime starts").block_on(async {
            let incoming = TcpIncoming::bind(SocketAddr::from(([127, 0, 0, 1], 0))).expect("a port is free");
            let incoming = incoming.with_nodelay(Some(true));
            eprintln!("api=\"grpc\" address={}", incoming.local_addr().expect("it is bound"));
            let served = Server::builder().add_service(Auth(self)).serve_with_incoming(incoming).await;
            served.expect("it serves until it is killed");
        });
    }
}

/// A service with the name of the real one.
#[derive(Clone)]
struct Auth(Kind);

type BoxedResult<T, E> = Pin<Box<dyn Future<Output = Result<T, E>> + Send>>;

impl NamedService for Auth {
    const NAME: &str = "watchword.auth.v1.Auth";
}

impl Service<http::Request<Body>> for Auth {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxedResult<Self::Response, Infallible>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let kind = self.0;
        Box::pin(async move {
            let is_login = request.uri().path().ends_with("/Login");
            Ok(match is_login {
                true => Grpc::new(ProstCodec::default()).unary(Login(kind), request).await,
                false => Grpc::new(ProstCodec::default()).unary(Check, request).await,
            })
        })
    }
}

/// IntrospectToken.
struct Check;

impl Service<Request<IntrospectTokenRequest>> for Check {
    type Response = Response<IntrospectTokenResponse>;
    type Error = Status;
    type Future = BoxedResult<Self::Response, Status>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Status>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<IntrospectTokenRequest>) -> Self::Future {
        Box::pin(async { Ok(Response::new(introspection_response())) })
    }
}

/// Login.
struct Login(Kind);

impl Service<Request<LoginRequest>> for Login {
    type Response = Response<LoginResponse>;
    type Error = Status;
    type Future = BoxedResult<Self::Response, Status>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Status>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<LoginRequest>) -> Self::Future {
        let kind = self.0;
        Box::pin(async move {
            if kind == Kind::Bare {
                return Err(Status::resource_exhausted("too many passwords wait to be checked; try again in 300 ms"));
            }
            let hashed = task::spawn_blocking(|| raw::tag_of(&mut raw::one_shot())).await;
            hashed.expect("a hash does not panic");
            Ok(Response::new(login_response()))
        })
    }
}

const ID: &str = "01a20bc1-9a26-7fd7-8244-47753f447d05";
const TIME: prost_types::Timestamp = prost_types::Timestamp { seconds: 1_790_000_000, nanos: 0 };

/// A response with the size of a real one.
fn introspection_response() -> IntrospectTokenResponse {
    IntrospectTokenResponse {
        active: true,
        user_id: ID.into(),
        username: "user-1".into(),
        session_id: ID.into(),
        token_use: TokenUse::Access.into(),
        issue_time: Some(TIME),
        expire_time: Some(TIME),
        issuer: crate::users::ISSUER.into(),
        audience: "watchword".into(),
        client_id: "watchword".into(),
    }
}

/// A response with the size of a real one.
fn login_response() -> LoginResponse {
    let user = User {
        user_id: ID.into(),
        username: "user-1".into(),
        data: Some("testing".into()),
        create_time: Some(TIME),
        update_time: Some(TIME),
        last_login_time: Some(TIME),
        etag: "\"0123456789abcdef\"".into(),
    };
    let tokens = Tokens {
        token_type: "Bearer".into(),
        access_token: "a".repeat(480),
        expire_time: Some(TIME),
        refresh_token: "r".repeat(130),
        refresh_expire_time: Some(TIME),
        session_id: ID.into(),
    };
    LoginResponse { user: Some(user), tokens: Some(tokens) }
}
