//! The gRPC doors, for callers and for operators: which services are mounted, and what holds for every call.
//!
//! Calls have a deadline; a watch of health and reflection stay open as long as their streams. What tonic answers by
//! itself is brought to the error table in `status.rs`; a panic becomes one INTERNAL answer. Stock tonic would answer
//! CANCELLED for a deadline and OUT_OF_RANGE for a large message.

mod admin;
mod auth;
mod authorization;
mod deadline;
mod health;
mod measured;
mod reflection;
mod status;

use std::{
    convert::Infallible,
    future::Future,
    panic::AssertUnwindSafe,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use futures_util::FutureExt;
use http::{Request, Response, header};
use hyper::body::Incoming;
use tokio::sync::watch;
use tonic::{body::Body, codegen::Service, server::NamedService};

use self::{
    admin::AdminService, auth::AuthService, authorization::AuthorizationService, health::Health, measured::Call,
    reflection::Reflection,
};
pub use self::{admin::ServerView, health::Readiness, measured::Measured};
use crate::{
    api::{
        self,
        envoy_auth::authorization_server::AuthorizationServer,
        forwarded::TrustedProxies,
        health::health_server::HealthServer,
        pb::{auth_admin_server::AuthAdminServer, auth_server::AuthServer},
        reflection::server_reflection_server::ServerReflectionServer,
    },
    domain::{Api, Auth, Bearer, CallContext, Peer},
};

/// Bytes of a message that a caller may send.
const REQUEST_BYTES_MAX: usize = 16 * 1024;

/// Bytes of what a gateway says about a request. Envoy takes 60 KiB of headers by default, all of which may be a path that
/// comes twice, and may add a certificate; a check that is too large to read is one more way past a gateway that fails open.
const CHECK_BYTES_MAX: usize = 256 * 1024;

/// Bytes of a message that we send; the largest is a file's description with its comments.
const RESPONSE_BYTES_MAX: usize = 1024 * 1024;

/// Reflection under its old name: the same messages, so the same service answers.
const REFLECTION_V1ALPHA: &str = "grpc.reflection.v1alpha.ServerReflection";

/// A door: routes a call to its service.
#[derive(Clone)]
pub struct Grpc {
    api: Api,
    rules: Arc<Auth>,
    proxies: Arc<TrustedProxies>,
    services: Arc<[(&'static str, Mounted)]>,
}

/// A service of a door.
#[derive(Clone)]
enum Mounted {
    Auth(AuthServer<AuthService>),
    Admin(AuthAdminServer<AdminService>),
    Authorization(AuthorizationServer<AuthorizationService>),
    Health(HealthServer<Health>),
    Reflection(ServerReflectionServer<Reflection>),
    /// Reflection under its old name.
    ReflectionV1Alpha(ServerReflectionServer<Reflection>),
}

impl Grpc {
    /// The door for callers; reflection only when it is wanted.
    pub fn new(
        auth: Arc<Auth>,
        proxies: TrustedProxies,
        readiness: watch::Receiver<Readiness>,
        with_reflection: bool,
    ) -> Self {
        let server = AuthServer::new(AuthService::new(auth.clone()))
            .max_decoding_message_size(REQUEST_BYTES_MAX)
            .max_encoding_message_size(RESPONSE_BYTES_MAX);
        let authorization = AuthorizationServer::new(AuthorizationService::new(auth.clone()))
            .max_decoding_message_size(CHECK_BYTES_MAX)
            .max_encoding_message_size(RESPONSE_BYTES_MAX);
        let services = vec![
            (name_of(&server), Mounted::Auth(server)),
            (name_of(&authorization), Mounted::Authorization(authorization)),
        ];
        Self::with(Api::Grpc, auth, proxies, services, readiness, with_reflection)
    }

    /// The door for operators, who may see everything.
    pub fn admin(auth: Arc<Auth>, server: ServerView, readiness: watch::Receiver<Readiness>) -> Self {
        let server =
            AuthAdminServer::new(AdminService::new(auth.clone(), server)).max_decoding_message_size(REQUEST_BYTES_MAX);
        let services = vec![(name_of(&server), Mounted::Admin(server))];
        Self::with(Api::Admin, auth, TrustedProxies::default(), services, readiness, true)
    }

    /// Adds what every door has.
    fn with(
        api: Api,
        rules: Arc<Auth>,
        proxies: TrustedProxies,
        mut services: Vec<(&'static str, Mounted)>,
        readiness: watch::Receiver<Readiness>,
        with_reflection: bool,
    ) -> Self {
        let health = HealthServer::new(Health::new(readiness.clone())).max_decoding_message_size(REQUEST_BYTES_MAX);
        services.push((name_of(&health), Mounted::Health(health)));
        if with_reflection {
            let names = [ServerReflectionServer::<Reflection>::NAME, REFLECTION_V1ALPHA];
            let mounted = services.iter().map(|(name, _)| *name).chain(names).collect();
            let server = ServerReflectionServer::new(Reflection::new(mounted, readiness))
                .max_decoding_message_size(REQUEST_BYTES_MAX)
                .max_encoding_message_size(RESPONSE_BYTES_MAX);
            services.push((name_of(&server), Mounted::Reflection(server.clone())));
            services.push((REFLECTION_V1ALPHA, Mounted::ReflectionV1Alpha(server)));
        }
        Self { api, rules, proxies: Arc::new(proxies), services: services.into() }
    }

    async fn answer(self, mut request: Request<Incoming>) -> Response<Body> {
        let service = request.uri().path().trim_start_matches('/').split('/').next().unwrap_or_default();
        let mounted = self.services.iter().find(|(name, _)| *name == service);
        match mounted.map(|(_, mounted)| mounted.clone()) {
            None => api::error::unimplemented("unknown service").into_http(),
            Some(Mounted::Auth(server)) => self.answer_in_time(server, request).await,
            Some(Mounted::Admin(server)) => self.answer_in_time(server, request).await,
            Some(Mounted::Authorization(server)) => self.answer_in_time(server, request).await,
            // The deadline ends the wait for the question; a watch that has begun stays open.
            Some(Mounted::Health(server)) => self.answer_in_time(server, request).await,
            Some(Mounted::Reflection(mut server)) => infallible(server.call(request).await),
            Some(Mounted::ReflectionV1Alpha(mut server)) => {
                *request.uri_mut() = renamed(request.uri(), name_of(&server));
                infallible(server.call(request).await)
            }
        }
    }

    /// Says who calls, and answers before the caller's deadline.
    async fn answer_in_time<S>(&self, mut server: S, mut request: Request<Incoming>) -> Response<Body>
    where
        S: Service<Request<Incoming>, Response = Response<Body>, Error = Infallible>,
    {
        let deadline = match deadline::of(request.headers(), &*self.rules.environment().clock) {
            Ok(deadline) => deadline,
            Err(violation) => return api::error::status(&violation.into()).into_http(),
        };
        let peer = request.extensions().get::<Peer>().copied().unwrap_or(Peer::Local { uid: None });
        let client = match self.proxies.client(peer, request.headers()) {
            Ok(client) => client,
            Err(violation) => return api::error::status(&violation.into()).into_http(),
        };
        let context = CallContext {
            api: self.api,
            peer,
            client,
            deadline,
            bearer: Bearer::parse(
                request.headers().get_all(header::AUTHORIZATION).iter().map(|value| value.as_bytes()),
            ),
            user_agent: CallContext::user_agent(
                request.headers().get(header::USER_AGENT).map(|value| value.as_bytes()),
            ),
        };
        request.extensions_mut().insert(context);
        let left = deadline.saturating_duration_since(self.rules.environment().clock.monotonic());
        match tokio::time::timeout(left, server.call(request)).await {
            Ok(response) => infallible(response),
            Err(_) => api::error::status(&crate::domain::Error::DeadlineExceeded).into_http(),
        }
    }
}

impl Service<Request<Incoming>> for Grpc {
    type Response = Response<Measured>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Incoming>) -> Self::Future {
        let api = self.clone();
        Box::pin(async move {
            if let Some(refusal) = not_grpc(&request) {
                return Ok(refusal.map(Measured::not));
            }
            let rules = api.rules.clone();
            let call = Call::begun(rules.clone(), request.uri().path());
            let response = AssertUnwindSafe(api.answer(request)).catch_unwind().await;
            let response = response.unwrap_or_else(|_| {
                api::error::status(&rules.environment().internal_error("a call panicked; the panic is logged above"))
                    .into_http()
            });
            Ok(call.until_the_end_of(status::complete(response)))
        })
    }
}

fn name_of<S: NamedService>(_: &S) -> &'static str {
    S::NAME
}

fn infallible(response: Result<Response<Body>, Infallible>) -> Response<Body> {
    match response {
        Ok(response) => response,
        Err(never) => match never {},
    }
}

/// Answers what is not gRPC at all, such as a browser, in plain HTTP.
fn not_grpc(request: &Request<Incoming>) -> Option<Response<Body>> {
    let content_type = request.headers().get(header::CONTENT_TYPE).map(|value| value.as_bytes()).unwrap_or_default();
    // `application/grpc`, `application/grpc+proto`; not `application/grpc-web`.
    let is_grpc = content_type.strip_prefix(b"application/grpc").is_some_and(|rest| !rest.starts_with(b"-"));
    if is_grpc && request.version() == http::Version::HTTP_2 {
        return None;
    }
    let text = "This port speaks gRPC over HTTP/2: try `grpcurl -plaintext <address> list`.\n";
    let mut response = Response::new(Body::new(http_body_util::Full::from(text)));
    *response.status_mut() = http::StatusCode::UNSUPPORTED_MEDIA_TYPE;
    response.headers_mut().insert(header::CONTENT_TYPE, http::HeaderValue::from_static("text/plain; charset=utf-8"));
    Some(response)
}

/// The same method of the service `name`.
fn renamed(uri: &http::Uri, name: &str) -> http::Uri {
    let method = uri.path().rsplit('/').next().unwrap_or_default();
    http::Uri::builder().path_and_query(format!("/{name}/{method}")).build().expect("both parts come from valid paths")
}
