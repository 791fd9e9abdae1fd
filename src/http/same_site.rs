//! Middleware that refuses requests without exactly one host, and requests of web pages that must not call the listener.
//!
//! `api/site.rs` has the rules. The published keys and metadata are open to every page and host name: gateways fetch them
//! by any name, and they hold nothing secret.

use std::sync::Arc;

use axum::{
    Router,
    body::Body,
    extract::State,
    http::{Request, StatusCode},
    middleware::{self, Next},
    response::Response,
};

use super::response::plain;
use crate::{
    api::site::{SiteFault, SitePolicy, addressed_host},
    common::local_address::LocalAddress,
};

/// The paths that are open to every page and host name (RFC 8615).
const OPEN_PATHS: &str = "/.well-known/";

/// Adds the checks to a router. Without a policy a request still needs exactly one host.
pub(super) fn guarded(router: Router, policy: Option<SitePolicy>) -> Router {
    router.layer(middleware::from_fn_with_state(Arc::new(policy), guard))
}

async fn guard(State(policy): State<Arc<Option<SitePolicy>>>, request: Request<Body>, next: Next) -> Response {
    match check(policy.as_ref().as_ref(), &request) {
        Ok(()) => next.run(request).await,
        Err(fault) => refusal(&fault),
    }
}

fn check(policy: Option<&SitePolicy>, request: &Request<Body>) -> Result<(), SiteFault> {
    let host = addressed_host(request.version(), request.uri(), request.headers())?;
    match policy {
        Some(policy) if !request.uri().path().starts_with(OPEN_PATHS) => {
            let local = request.extensions().get::<LocalAddress>().map(|local| local.0);
            policy.check(host.as_ref(), local, request.headers())
        }
        Some(_) | None => Ok(()),
    }
}

fn refusal(fault: &SiteFault) -> Response {
    match fault {
        SiteFault::Malformed(what) => plain(StatusCode::BAD_REQUEST, format!("{what}\n")),
        SiteFault::UnknownHost(host) => {
            let host =
                host.as_ref().map_or_else(|| "a request without Host".to_owned(), |host| format!("the host {host}"));
            let text = format!(
                "this listener does not answer to {host}: call it as 127.0.0.1 or localhost, or name the host in \
                 --http-allow-host\n"
            );
            plain(StatusCode::FORBIDDEN, text)
        }
        SiteFault::CrossSite => {
            let text = "pages of other sites may not call this listener: name the origin of the page in \
                        --http-allow-origin if it is yours\n";
            plain(StatusCode::FORBIDDEN, text)
        }
    }
}
