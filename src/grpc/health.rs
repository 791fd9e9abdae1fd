//! `grpc.health.v1.Health`: Check, List and Watch, following the node's readiness.
//!
//! Watch of a name that is not served answers SERVICE_UNKNOWN and stays open, as the protocol asks. When the node
//! drains every Watch says NOT_SERVING and ends.

use std::pin::Pin;

use tokio::sync::watch;
use tokio_stream::{Stream, StreamExt, wrappers::WatchStream};
use tonic::{Request, Response, Status};

use crate::wire::{
    error::unknown_health_service,
    health::{
        HealthCheckRequest, HealthCheckResponse, HealthListRequest, HealthListResponse,
        health_check_response::ServingStatus, health_server,
    },
};

/// The names that have a status: the node as a whole, and the service.
const NAMES: [&str; 2] = ["", "watchword.auth.v1.Auth"];

/// What health says, made by whoever knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Readiness {
    /// Calls are answered.
    Ready,
    /// Calls would fail.
    NotReady,
    /// Calls are answered for a moment; go elsewhere.
    Draining,
}

/// The health service.
#[derive(Clone)]
pub struct Health {
    readiness: watch::Receiver<Readiness>,
}

impl Health {
    /// Follows `readiness`.
    pub fn new(readiness: watch::Receiver<Readiness>) -> Self {
        Self { readiness }
    }

    fn now(&self) -> HealthCheckResponse {
        response(*self.readiness.borrow())
    }
}

#[tonic::async_trait]
impl health_server::Health for Health {
    async fn check(&self, request: Request<HealthCheckRequest>) -> Result<Response<HealthCheckResponse>, Status> {
        if !NAMES.contains(&request.get_ref().service.as_str()) {
            return Err(unknown_health_service());
        }
        Ok(Response::new(self.now()))
    }

    async fn list(&self, _: Request<HealthListRequest>) -> Result<Response<HealthListResponse>, Status> {
        let statuses = NAMES.iter().map(|name| ((*name).to_owned(), self.now())).collect();
        Ok(Response::new(HealthListResponse { statuses }))
    }

    type WatchStream = Pin<Box<dyn Stream<Item = Result<HealthCheckResponse, Status>> + Send>>;

    async fn watch(&self, request: Request<HealthCheckRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let known = NAMES.contains(&request.get_ref().service.as_str());
        let mut ended = false;
        let changes = WatchStream::new(self.readiness.clone())
            // Draining is the last thing that a stream says.
            .take_while(move |readiness| !std::mem::replace(&mut ended, *readiness == Readiness::Draining))
            .map(move |readiness| if known { response(readiness) } else { of(ServingStatus::ServiceUnknown) });
        // The readiness has states that look alike from here.
        let mut last = None;
        let changes = changes.filter(move |now| last.replace(now.status) != Some(now.status)).map(Ok);
        Ok(Response::new(Box::pin(changes)))
    }
}

fn response(readiness: Readiness) -> HealthCheckResponse {
    match readiness {
        Readiness::Ready => of(ServingStatus::Serving),
        Readiness::NotReady | Readiness::Draining => of(ServingStatus::NotServing),
    }
}

fn of(status: ServingStatus) -> HealthCheckResponse {
    HealthCheckResponse { status: status.into() }
}
