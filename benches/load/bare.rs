//! Two servers to compare with, each this program in a process of its own: tonic's own accept loop and codec, the
//! messages of the contract and the runtime settings of the binary.
//!
//! The bare one answers every check alike and refuses every login, as we do most of a storm's: what the protocol alone
//! costs. The naive one hashes for each login, as the
//! `argon2` crate's example does, on tokio's threads for blocking work and without a queue of its own: what most
//! services do.

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

/// Threads for hashes of the naive server: a fourth of tokio's default, so that its arenas take 2.4 GiB and not 9.5.
const NAIVE_THREADS: usize = 128;

/// What a server that is compared with does for a login.
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

    /// What this process was started as.
    pub(crate) fn asked() -> Option<Self> {
        [Kind::Bare, Kind::Naive].into_iter().find(|kind| env::args().any(|argument| argument == kind.flag()))
    }

    /// This program as that server.
    pub(crate) fn command(self) -> Command {
        let mut command = Command::new(env::current_exe().expect("this program has a file"));
        command.arg(self.flag());
        command
    }

    /// Serves until somebody ends the process.
    #[expect(clippy::print_stderr, reason = "says where it listens as the binary does")]
    pub(crate) fn serve(self) {
        let runtime = runtime::Builder::new_multi_thread()
            .worker_threads(host::cores())
            .max_blocking_threads(NAIVE_THREADS)
            .enable_all()
            .build();
        runtime.expect("a runtime can be had").block_on(async {
            let incoming = TcpIncoming::bind(SocketAddr::from(([127, 0, 0, 1], 0))).expect("a port is free");
            let incoming = incoming.with_nodelay(Some(true));
            eprintln!("api=\"grpc\" address={}", incoming.local_addr().expect("it is bound"));
            let served = Server::builder().add_service(Auth(self)).serve_with_incoming(incoming).await;
            served.expect("it serves until it is killed");
        });
    }
}

/// The service under the real one's name.
#[derive(Clone)]
struct Auth(Kind);

type Answer<T, E> = Pin<Box<dyn Future<Output = Result<T, E>> + Send>>;

impl NamedService for Auth {
    const NAME: &str = "watchword.auth.v1.Auth";
}

impl Service<http::Request<Body>> for Auth {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Answer<Self::Response, Infallible>;

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
    type Future = Answer<Self::Response, Status>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Status>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<IntrospectTokenRequest>) -> Self::Future {
        Box::pin(async { Ok(Response::new(introspection())) })
    }
}

/// Login.
struct Login(Kind);

impl Service<Request<LoginRequest>> for Login {
    type Response = Response<LoginResponse>;
    type Error = Status;
    type Future = Answer<Self::Response, Status>;

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
            Ok(Response::new(authenticate()))
        })
    }
}

const ID: &str = "01a20bc1-9a26-7fd7-8244-47753f447d05";
const TIME: prost_types::Timestamp = prost_types::Timestamp { seconds: 1_790_000_000, nanos: 0 };

/// As long as a real one.
fn introspection() -> IntrospectTokenResponse {
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
    }
}

/// As long as a real one.
fn authenticate() -> LoginResponse {
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
