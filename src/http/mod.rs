//! The HTTP door: every route on one screen.
//!
//! A page in a browser can reach a loopback address, by its own script or through DNS rebinding, so a loopback door
//! answers only to loopback host names and to no other site (`same_site.rs`).

mod altcha;
mod answer;
mod clients;
mod legacy;
mod measured;
mod oauth;
pub mod ops;
pub(crate) mod query;
mod request;
mod same_site;
mod well_known;

use std::{panic::AssertUnwindSafe, sync::Arc};

use axum::{
    Router,
    body::Body,
    extract::State,
    http::{Request, StatusCode},
    middleware::{self, Next},
    response::Response,
    routing,
};
use futures_util::FutureExt;

pub use self::clients::Clients;
use self::{
    answer::{options, plain, refusal},
    oauth::OAuth,
};
use crate::{api::forwarded::TrustedProxies, domain::Auth};

/// Which parts of the door are open.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The original query-string routes.
    pub legacy_routes: bool,
    /// Who may introspect and revoke tokens; nobody can when there are none.
    pub clients: Option<Arc<Clients>>,
    /// Who is believed about the end user's address.
    pub proxies: TrustedProxies,
    /// Whether the door listens on loopback only, where no other host has business.
    pub loopback: bool,
}

/// The door.
pub fn router(auth: Arc<Auth>, settings: Settings) -> Router {
    let has_oauth = settings.clients.is_some();
    let metadata = || {
        let answer = move |state, request| well_known::metadata(state, request, has_oauth);
        routing::get(answer).options(|| options("GET, HEAD, OPTIONS"))
    };
    let mut router = Router::new()
        .route("/.well-known/jwks.json", routing::get(well_known::keys).options(|| options("GET, HEAD, OPTIONS")))
        .route("/.well-known/oauth-authorization-server", metadata())
        .route("/.well-known/openid-configuration", metadata())
        .route("/altcha/challenge", routing::get(altcha::challenge).options(|| options("GET, HEAD, OPTIONS")))
        .with_state(auth.clone());
    if let Some(clients) = settings.clients {
        let routes = Router::new()
            .route("/oauth2/introspect", routing::post(oauth::introspect).options(|| options("POST, OPTIONS")))
            .route("/oauth2/revoke", routing::post(oauth::revoke).options(|| options("POST, OPTIONS")));
        router = router.merge(routes.with_state(OAuth { auth: auth.clone(), clients }));
    } else {
        let closed = || async { plain(StatusCode::NOT_FOUND, "closed: --oauth-clients-file says who may ask here\n") };
        router = router.route("/oauth2/{*path}", routing::any(closed));
    }
    if settings.legacy_routes {
        let routes = Router::new()
            .route("/", routing::get(legacy::hello).options(|| options("GET, HEAD, OPTIONS")))
            .route("/register", routing::post(legacy::register).options(|| options("POST, OPTIONS")))
            .route("/login", routing::get(legacy::login).options(|| options("GET, HEAD, OPTIONS")));
        router = router.merge(routes.with_state(auth.clone()));
    }
    router = with_fallbacks(router);
    router = router.layer(middleware::from_fn_with_state(Arc::new(settings.proxies), request::find_client));
    // A panic becomes one answer; inside the guard against other sites, which decides without any of our state.
    router = router.layer(middleware::from_fn_with_state(auth.clone(), catch_panic));
    if settings.loopback {
        router = router.layer(middleware::from_fn(same_site::guard));
    }
    router.layer(middleware::from_fn_with_state(auth, measured::measure))
}

async fn catch_panic(State(auth): State<Arc<Auth>>, request: Request<Body>, next: Next) -> Response {
    let response = AssertUnwindSafe(next.run(request)).catch_unwind().await;
    response
        .unwrap_or_else(|_| refusal(&auth.environment().internal_error("a call panicked; the panic is logged above")))
}

/// Answers whatever no route takes.
fn with_fallbacks(router: Router) -> Router {
    router.fallback(|| async { plain(StatusCode::NOT_FOUND, "no such path\n") }).method_not_allowed_fallback(|| async {
        plain(StatusCode::METHOD_NOT_ALLOWED, "no such method on this path\n")
    })
}
