//! `grpc.health.v1.Health`: Check, List and Watch, following the node's readiness.
//!
//! Watch of an unknown service answers SERVICE_UNKNOWN and stays open, as the protocol requires. When the node drains,
//! every Watch answers NOT_SERVING, and ends when connections close: clients repeat at once a Watch that ends before that.

use std::pin::Pin;

use futures_util::{Stream, stream};
use tokio::sync::watch;
use tonic::{Request, Response, Status};

use crate::api::{
    errors::unknown_health_service,
    health::{
        HealthCheckRequest, HealthCheckResponse, HealthListRequest, HealthListResponse,
        health_check_response::ServingStatus, health_server,
    },
};

/// The services that have a status; the empty name is the whole node.
const SERVICES: [&str; 3] = ["", "watchword.auth.v1.Auth", "envoy.service.auth.v3.Authorization"];

/// Whether the node should get calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Readiness {
    /// Calls succeed.
    Ready,
    /// Calls fail.
    NotReady,
    /// New calls succeed, but should go to another node.
    Draining,
    /// Connections close; running calls finish.
    Closing,
}

/// The health service.
#[derive(Clone)]
pub(super) struct HealthService {
    readiness: watch::Receiver<Readiness>,
}

impl HealthService {
    /// Follows `readiness`.
    pub(super) fn new(readiness: watch::Receiver<Readiness>) -> Self {
        Self { readiness }
    }

    fn now(&self) -> HealthCheckResponse {
        response(serving(*self.readiness.borrow()))
    }
}

#[tonic::async_trait]
impl health_server::Health for HealthService {
    async fn check(&self, request: Request<HealthCheckRequest>) -> Result<Response<HealthCheckResponse>, Status> {
        if !SERVICES.contains(&request.get_ref().service.as_str()) {
            return Err(unknown_health_service());
        }
        Ok(Response::new(self.now()))
    }

    async fn list(&self, _: Request<HealthListRequest>) -> Result<Response<HealthListResponse>, Status> {
        let statuses = SERVICES.iter().map(|name| ((*name).to_owned(), self.now())).collect();
        Ok(Response::new(HealthListResponse { statuses }))
    }

    type WatchStream = Pin<Box<dyn Stream<Item = Result<HealthCheckResponse, Status>> + Send>>;

    async fn watch(&self, request: Request<HealthCheckRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let known = SERVICES.contains(&request.get_ref().service.as_str());
        let watch = HealthWatch { readiness: self.readiness.clone(), known, last: None, ended: false };
        Ok(Response::new(Box::pin(stream::unfold(watch, HealthWatch::next))))
    }
}

/// The state of one Watch.
struct HealthWatch {
    readiness: watch::Receiver<Readiness>,
    known: bool,
    last: Option<ServingStatus>,
    ended: bool,
}

impl HealthWatch {
    /// Waits for the next change of the status. The stream ends when connections close.
    async fn next(mut self) -> Option<(Result<HealthCheckResponse, Status>, Self)> {
        while !self.ended {
            let now = *self.readiness.borrow_and_update();
            self.ended = now == Readiness::Closing;
            let status = if self.known { serving(now) } else { ServingStatus::ServiceUnknown };
            if self.last.replace(status) != Some(status) {
                return Some((Ok(response(status)), self));
            }
            if !self.ended {
                self.readiness.changed().await.ok()?;
            }
        }
        None
    }
}

fn serving(readiness: Readiness) -> ServingStatus {
    match readiness {
        Readiness::Ready => ServingStatus::Serving,
        Readiness::NotReady | Readiness::Draining | Readiness::Closing => ServingStatus::NotServing,
    }
}

fn response(status: ServingStatus) -> HealthCheckResponse {
    HealthCheckResponse { status: status.into() }
}
