//! The gRPC API and the admin API: routes each call to its service.
//!
//! Guarantees: every call of the method table and of health has a deadline; a watch of health and reflection stay open as
//! long as their streams; every error has a row of the error table, also those that tonic answers itself. tonic alone
//! would answer CANCELLED after a deadline and OUT_OF_RANGE for a large message.
//!
//! It does not know what a method does: methods are rows of `api/methods/`, and this is one encoding of them.

mod descriptor_index;
mod health;
mod measured_body;
mod not_grpc;
mod reflection;
mod status;
mod timeout;
mod unary;

use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use http::{Request, Response};
use hyper::body::Incoming;
use tokio::sync::watch;
use tonic::{body::Body, codegen::Service, server::NamedService};

use self::{
    health::HealthService,
    measured_body::RpcMetrics,
    reflection::ReflectionService,
    unary::{GrpcProtocol, RESPONSE_BYTES_MAX, UnaryMethod},
};
pub use self::{health::Readiness, measured_body::MeasuredBody};
use crate::{
    api::{
        call::{self, CallOrigin},
        errors,
        forwarded::{ClientAddress, TrustedProxies},
        health::health_server::HealthServer,
        methods::{ServiceTable, Services},
        reflection::server_reflection_server::ServerReflectionServer,
    },
    domain::{Api, CallContext, Error, Violation},
};

/// Bytes of a request message of health and reflection at most. Each row of the method table has its own limit.
const REQUEST_BYTES_MAX: usize = 16 * 1024;

/// Reflection under its old name: the same messages, so the same service answers.
const REFLECTION_V1ALPHA: &str = "grpc.reflection.v1alpha.ServerReflection";

/// What is spoken on one listener.
#[derive(Clone)]
pub struct GrpcApi(Arc<MountedApi>);

struct MountedApi {
    api: Api,
    services: Services,
    proxies: TrustedProxies,
    client_address: ClientAddress,
    mounted: Vec<(&'static str, MountedService)>,
}

enum MountedService {
    /// Rows of the method table.
    Methods(Vec<UnaryMethod>),
    Health(HealthServer<HealthService>),
    Reflection(ServerReflectionServer<ReflectionService>),
    ReflectionV1Alpha(ServerReflectionServer<ReflectionService>),
}

impl GrpcApi {
    /// The API for callers.
    pub fn new(
        services: Services,
        proxies: TrustedProxies,
        client_address: ClientAddress,
        readiness: watch::Receiver<Readiness>,
        with_reflection: bool,
    ) -> Self {
        let tables = [ServiceTable::auth::<GrpcProtocol>(), ServiceTable::ext_authz::<GrpcProtocol>()];
        let clients = (proxies, client_address);
        Self::mount(Api::Grpc, services, clients, tables, readiness, with_reflection)
    }

    /// The API for operators. It has reflection, because its callers may see everything.
    pub fn admin(services: Services, readiness: watch::Receiver<Readiness>) -> Self {
        let tables = [ServiceTable::auth_admin::<GrpcProtocol>()];
        let clients = (TrustedProxies::default(), ClientAddress::None);
        Self::mount(Api::Admin, services, clients, tables, readiness, true)
    }

    /// Adds health and reflection, which every listener has.
    fn mount(
        api: Api,
        services: Services,
        (proxies, client_address): (TrustedProxies, ClientAddress),
        tables: impl IntoIterator<Item = ServiceTable<UnaryMethod>>,
        readiness: watch::Receiver<Readiness>,
        with_reflection: bool,
    ) -> Self {
        let tables = tables.into_iter();
        let mut mounted: Vec<_> = tables.map(|table| (table.name, MountedService::Methods(table.rows))).collect();
        let health =
            HealthServer::new(HealthService::new(readiness.clone())).max_decoding_message_size(REQUEST_BYTES_MAX);
        mounted.push((name_of(&health), MountedService::Health(health)));
        if with_reflection {
            let names = [ServerReflectionServer::<ReflectionService>::NAME, REFLECTION_V1ALPHA];
            let described = mounted.iter().map(|(name, _)| *name).chain(names).collect();
            let server = ServerReflectionServer::new(ReflectionService::new(described, readiness))
                .max_decoding_message_size(REQUEST_BYTES_MAX)
                .max_encoding_message_size(RESPONSE_BYTES_MAX);
            mounted.push((name_of(&server), MountedService::Reflection(server.clone())));
            mounted.push((REFLECTION_V1ALPHA, MountedService::ReflectionV1Alpha(server)));
        }
        Self(Arc::new(MountedApi { api, services, proxies, client_address, mounted }))
    }
}

impl MountedApi {
    async fn answer(&self, mut request: Request<Incoming>) -> Result<Response<Body>, Error> {
        let service = request.uri().path().trim_start_matches('/').split('/').next().unwrap_or_default();
        let mounted = self.mounted.iter().find(|(name, _)| *name == service);
        match mounted.map(|(_, mounted)| mounted) {
            None => Ok(errors::unimplemented("unknown service").into_http()),
            Some(MountedService::Methods(methods)) => self.call_method(methods, request).await,
            Some(MountedService::Health(server)) => self.call_health(server.clone(), request).await,
            Some(MountedService::Reflection(server)) => Ok(infallible(server.clone().call(request).await)),
            Some(MountedService::ReflectionV1Alpha(server)) => {
                *request.uri_mut() = renamed(request.uri(), name_of(server));
                Ok(infallible(server.clone().call(request).await))
            }
        }
    }

    async fn call_method(&self, methods: &[UnaryMethod], request: Request<Incoming>) -> Result<Response<Body>, Error> {
        let context = self.context(&request)?;
        let Some(method) = methods.iter().find(|method| method.is_at(request.uri().path())) else {
            return Ok(errors::unimplemented("unknown method").into_http());
        };
        let response = method.call(&self.services, &context, request);
        call::in_time(&self.services.auth, context.deadline, async { Ok(response.await) }).await
    }

    /// The deadline ends the wait for the request. A watch that has begun stays open.
    async fn call_health(
        &self,
        mut server: HealthServer<HealthService>,
        request: Request<Incoming>,
    ) -> Result<Response<Body>, Error> {
        let context = self.context(&request)?;
        let response = server.call(request);
        call::in_time(&self.services.auth, context.deadline, async { Ok(infallible(response.await)) }).await
    }

    fn context(&self, request: &Request<Incoming>) -> Result<CallContext, Violation> {
        let headers = request.headers();
        let deadline = call::deadline(&*self.services.auth.environment().clock, timeout::read(headers)?);
        let origin = CallOrigin::read(request.extensions(), headers, &self.proxies)?;
        Ok(origin.context(self.api, self.client_address, headers, deadline))
    }
}

impl Service<Request<Incoming>> for GrpcApi {
    type Response = Response<MeasuredBody>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Incoming>) -> Self::Future {
        let Self(api) = self.clone();
        Box::pin(async move {
            if let Some(refusal) = not_grpc::refusal(&request) {
                return Ok(refusal.map(MeasuredBody::without_call));
            }
            let auth = &api.services.auth;
            let metrics = RpcMetrics::begin(auth.clone(), request.uri().path());
            let response = call::catch_panic(auth, api.answer(request)).await.flatten();
            let response = response.unwrap_or_else(|error| errors::status(&error).into_http());
            Ok(metrics.until_end_of(status::complete(response)))
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

/// The same method of the service `name`.
fn renamed(uri: &http::Uri, name: &str) -> http::Uri {
    let method = uri.path().rsplit('/').next().unwrap_or_default();
    http::Uri::builder().path_and_query(format!("/{name}/{method}")).build().expect("both parts come from valid paths")
}
