//! The HTTP API and the ops API: every route on one screen.
//!
//! Guarantees: every request is measured, its panic becomes one response, and its origin is read once. A browser can reach
//! a listener from any page or through DNS rebinding, so a listener answers only to its own host names and to no other
//! site (`same_site.rs`). It does not know gRPC, and it decides nothing about accounts.

mod altcha;
pub(crate) mod form;
mod metrics;
mod oauth;
mod oauth_clients;
pub mod ops;
mod original_routes;
mod request;
mod response;
mod same_site;
mod well_known;

use std::sync::Arc;

use axum::{
    Router,
    body::Body,
    extract::State,
    http::{Request, StatusCode},
    middleware::{self, Next},
    response::Response,
    routing,
};

pub use self::oauth_clients::OAuthClients;
pub(crate) use self::oauth_clients::{CLIENT_NAME, is_client_name};
use self::{
    oauth::OAuthState,
    response::{options, plain, refusal},
};
use crate::{
    api::{call, forwarded::TrustedProxies, site::SitePolicy},
    domain::Auth,
};

/// Which routes are open, and to which callers.
#[derive(Debug, Clone)]
pub struct HttpSettings {
    /// The original query-string routes.
    pub legacy_routes: bool,
    /// The clients that may introspect and revoke tokens. Without them the routes are closed.
    pub clients: Option<Arc<OAuthClients>>,
    /// The proxies that are trusted about the end user's address.
    pub proxies: TrustedProxies,
    /// The host names that the listener answers to, and the web pages that may call it.
    pub site: SitePolicy,
}

/// The routes.
pub fn router(auth: Arc<Auth>, settings: HttpSettings) -> Router {
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
        router = router.merge(routes.with_state(OAuthState { auth: auth.clone(), clients }));
    } else {
        let closed = || async {
            plain(StatusCode::NOT_FOUND, "closed: --oauth-clients-file names the clients that may call this path\n")
        };
        router = router.route("/oauth2/{*path}", routing::any(closed));
    }
    if settings.legacy_routes {
        let routes = Router::new()
            .route("/", routing::get(original_routes::hello).options(|| options("GET, HEAD, OPTIONS")))
            .route("/register", routing::post(original_routes::register).options(|| options("POST, OPTIONS")))
            .route("/login", routing::get(original_routes::login).options(|| options("GET, HEAD, OPTIONS")));
        router = router.merge(routes.with_state(auth.clone()));
    }
    router = with_fallbacks(router);
    router = router.layer(middleware::from_fn_with_state(Arc::new(settings.proxies), request::read_origin));
    router = router.layer(middleware::from_fn_with_state(auth.clone(), catch_panic));
    router = same_site::guarded(router, Some(settings.site));
    router.layer(middleware::from_fn_with_state(auth, metrics::measure))
}

async fn catch_panic(State(auth): State<Arc<Auth>>, request: Request<Body>, next: Next) -> Response {
    let response = call::catch_panic(&auth, next.run(request)).await;
    response.unwrap_or_else(|error| refusal(&error))
}

/// Adds the responses to requests that no route takes.
fn with_fallbacks(router: Router) -> Router {
    router.fallback(|| async { plain(StatusCode::NOT_FOUND, "no such path\n") }).method_not_allowed_fallback(|| async {
        plain(StatusCode::METHOD_NOT_ALLOWED, "no such method on this path\n")
    })
}
