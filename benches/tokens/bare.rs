//! A bare tonic server that answers every token check alike: what the protocol alone costs.

use std::{
    convert::Infallible,
    env,
    net::SocketAddr,
    pin::Pin,
    process::Command,
    task::{Context, Poll},
};

use tokio::runtime;
use tonic::{
    Request, Response, Status,
    body::Body,
    codegen::Service,
    server::{Grpc, NamedService},
    transport::{Server, server::TcpIncoming},
};
use tonic_prost::ProstCodec;
use watchword::{
    machine,
    wire::pb::{IntrospectTokenRequest, IntrospectTokenResponse, TokenUse},
};

/// What makes this program the bare server.
pub(crate) const FLAG: &str = "--serve-bare";

/// This program as the bare server.
pub(crate) fn command() -> Command {
    let mut command = Command::new(env::current_exe().expect("this program has a file"));
    command.arg(FLAG);
    command
}

/// Serves until somebody ends the process.
pub(crate) fn serve() {
    // As the binary does.
    let runtime = runtime::Builder::new_multi_thread().worker_threads(machine::cores()).enable_all().build();
    runtime.expect("a runtime can be had").block_on(async {
        let incoming = TcpIncoming::bind(SocketAddr::from(([127, 0, 0, 1], 0))).expect("a port is free");
        let incoming = incoming.with_nodelay(Some(true));
        eprintln!("door=\"grpc\" address={}", incoming.local_addr().expect("it is bound"));
        let served = Server::builder().add_service(Bare).serve_with_incoming(incoming).await;
        served.expect("it serves until it is killed");
    });
}

/// The service under the real one's name.
#[derive(Clone)]
struct Bare;

/// Its one method.
struct Check;

type Answer<T, E> = Pin<Box<dyn Future<Output = Result<T, E>> + Send>>;

impl NamedService for Bare {
    const NAME: &str = "watchword.auth.v1.Auth";
}

impl Service<http::Request<Body>> for Bare {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Answer<Self::Response, Infallible>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        Box::pin(async move { Ok(Grpc::new(ProstCodec::default()).unary(Check, request).await) })
    }
}

impl Service<Request<IntrospectTokenRequest>> for Check {
    type Response = Response<IntrospectTokenResponse>;
    type Error = Status;
    type Future = Answer<Self::Response, Status>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Status>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<IntrospectTokenRequest>) -> Self::Future {
        Box::pin(async { Ok(Response::new(answer())) })
    }
}

/// As long as a real one.
fn answer() -> IntrospectTokenResponse {
    const ID: &str = "01a20bc1-9a26-7fd7-8244-47753f447d05";
    let time = Some(prost_types::Timestamp { seconds: 1_790_000_000, nanos: 0 });
    IntrospectTokenResponse {
        active: true,
        user_id: ID.into(),
        username: "user-1".into(),
        session_id: ID.into(),
        token_use: TokenUse::Access.into(),
        issue_time: time,
        expire_time: time,
        issuer: crate::ISSUER.into(),
        audience: "watchword".into(),
    }
}
