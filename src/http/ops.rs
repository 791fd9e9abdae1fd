//! The ops door: is the process alive, should it get calls, what has it counted? Nothing secret, so it may listen
//! anywhere.

use std::sync::Arc;

use axum::{
    Router,
    http::{HeaderValue, StatusCode, header},
    response::Response,
    routing,
};

use super::{answer::plain, with_fallbacks};

/// Whether this node should get calls, or why not; and what an operator should look at.
pub type Readiness = (Result<(), &'static str>, Vec<String>);

/// What this door shows, made by whoever knows.
pub struct Views {
    /// Answered by `/readyz`.
    pub ready: Box<dyn Fn() -> Readiness + Send + Sync>,
    /// The counters, and their media type.
    pub metrics: Box<dyn Fn() -> (&'static str, String) + Send + Sync>,
}

/// The door.
pub fn router(views: Views) -> Router {
    let views = Arc::new(views);
    let (ready, metrics) = (views.clone(), views);
    let router = Router::new()
        // Never asks the store: restarting this process would not mend it.
        .route("/healthz", routing::get(|| async { plain(StatusCode::OK, "ok\n") }))
        .route("/readyz", routing::get(move || async move { readiness((ready.ready)()) }))
        .route("/metrics", routing::get(move || async move { page((metrics.metrics)()) }));
    with_fallbacks(router)
}

fn readiness((ready, alarms): Readiness) -> Response {
    let alarms: String = alarms.iter().map(|alarm| format!("alarm: {alarm}\n")).collect();
    match ready {
        Ok(()) => plain(StatusCode::OK, format!("ready\n{alarms}")),
        Err(why) => plain(StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {why}\n{alarms}")),
    }
}

fn page((content_type, text): (&'static str, String)) -> Response {
    let mut response = plain(StatusCode::OK, text);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}
