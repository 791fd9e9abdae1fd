//! The ops API: liveness, readiness and metrics. Nothing in it is secret, so it may listen on any address.
//!
//! On loopback no web page may read it, so there it answers only to its own host names. Elsewhere it answers to all,
//! because probes send the addresses of pods.

use std::sync::Arc;

use axum::{
    Router,
    http::{HeaderValue, StatusCode, header},
    response::Response,
    routing,
};

use super::{response::plain, same_site, with_fallbacks};
use crate::api::site::SitePolicy;

/// Whether this node should get calls, or why not; and the configuration warnings.
pub type ReadinessReport = (Result<(), &'static str>, Vec<String>);

/// Where the ops API reads what it shows.
pub struct OpsViews {
    /// Answered by `/readyz`.
    pub ready: Box<dyn Fn() -> ReadinessReport + Send + Sync>,
    /// The media type and the text of the metrics page.
    pub metrics: Box<dyn Fn() -> (&'static str, String) + Send + Sync>,
}

/// The routes. `site` is for a listener on loopback.
pub fn router(views: OpsViews, site: Option<SitePolicy>) -> Router {
    let views = Arc::new(views);
    let (ready, metrics) = (views.clone(), views);
    let router = Router::new()
        // Independent of the store: a restart of this process would not fix the store.
        .route("/healthz", routing::get(|| async { plain(StatusCode::OK, "ok\n") }))
        .route("/readyz", routing::get(move || async move { readiness((ready.ready)()) }))
        .route("/metrics", routing::get(move || async move { metrics_page((metrics.metrics)()) }));
    same_site::guarded(with_fallbacks(router), site)
}

fn readiness((ready, warnings): ReadinessReport) -> Response {
    let warnings: String = warnings.iter().map(|warning| format!("warning: {warning}\n")).collect();
    match ready {
        Ok(()) => plain(StatusCode::OK, format!("ready\n{warnings}")),
        Err(why) => plain(StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {why}\n{warnings}")),
    }
}

fn metrics_page((content_type, text): (&'static str, String)) -> Response {
    let mut response = plain(StatusCode::OK, text);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}
