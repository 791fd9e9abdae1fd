//! The ops door: is the process alive, and should it get calls? Nothing secret, so it may listen anywhere.

use axum::{Router, http::StatusCode, response::Response, routing};

use super::{plain, with_fallbacks};

/// Answers whether this node should get calls; otherwise why not.
pub type Ready = std::sync::Arc<dyn Fn() -> Result<(), &'static str> + Send + Sync>;

/// The door.
pub fn router(ready: Ready) -> Router {
    let router = Router::new()
        // Never asks the store: restarting this process would not mend it.
        .route("/healthz", routing::get(|| async { plain(StatusCode::OK, "ok\n") }))
        .route("/readyz", routing::get(move || async move { answer(ready()) }));
    with_fallbacks(router)
}

fn answer(ready: Result<(), &'static str>) -> Response {
    match ready {
        Ok(()) => plain(StatusCode::OK, "ready\n"),
        Err(why) => plain(StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {why}\n")),
    }
}
