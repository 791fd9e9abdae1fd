//! `grpc.health.v1.Health`: Check, List and Watch, following the node's readiness.
//!
//! Watch of a name that is not served answers SERVICE_UNKNOWN and stays open, as the protocol asks. When the node
//! drains every Watch says NOT_SERVING and ends.

use std::pin::Pin;

use futures_util::{Stream, stream};
use tokio::sync::watch;
use tonic::{Request, Response, Status};

use crate::api::{
    error::unknown_health_service,
    health::{
        HealthCheckRequest, HealthCheckResponse, HealthListRequest, HealthListResponse,
        health_check_response::ServingStatus, health_server,
    },
};

/// The names that have a status: the node as a whole, and its services.
const NAMES: [&str; 3] = ["", "watchword.auth.v1.Auth", "envoy.service.auth.v3.Authorization"];

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
pub(super) struct Health {
    readiness: watch::Receiver<Readiness>,
}

impl Health {
    /// Follows `readiness`.
    pub(super) fn new(readiness: watch::Receiver<Readiness>) -> Self {
        Self { readiness }
    }

    fn now(&self) -> HealthCheckResponse {
        of(serving(*self.readiness.borrow()))
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
        let watched = Watched { readiness: self.readiness.clone(), known, last: None, ended: false };
        Ok(Response::new(Box::pin(stream::unfold(watched, Watched::next))))
    }
}

/// One caller's view of the readiness.
struct Watched {
    readiness: watch::Receiver<Readiness>,
    known: bool,
    last: Option<ServingStatus>,
    ended: bool,
}

impl Watched {
    /// Waits for the next change that can be seen from here; draining is the last thing that a stream says.
    async fn next(mut self) -> Option<(Result<HealthCheckResponse, Status>, Self)> {
        while !self.ended {
            let now = *self.readiness.borrow_and_update();
            self.ended = now == Readiness::Draining;
            let status = if self.known { serving(now) } else { ServingStatus::ServiceUnknown };
            if self.last.replace(status) != Some(status) {
                return Some((Ok(of(status)), self));
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
        Readiness::NotReady | Readiness::Draining => ServingStatus::NotServing,
    }
}

fn of(status: ServingStatus) -> HealthCheckResponse {
    HealthCheckResponse { status: status.into() }
}
