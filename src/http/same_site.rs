//! Protects a loopback listener from web pages.
//!
//! DNS rebinding shows in `Host`, a script of another site in `Origin`, and a link or an image of another site in
//! `Sec-Fetch-Site`. Programs such as curl send loopback hosts and neither of the other two headers.

use axum::{
    body::Body,
    http::{HeaderMap, Request, StatusCode, Uri, header, uri::Authority},
    middleware::Next,
    response::Response,
};

use super::response::plain;

/// Middleware that refuses requests from pages of other sites.
pub(super) async fn guard(request: Request<Body>, next: Next) -> Response {
    let headers = request.headers();
    if !host(request.uri(), headers).is_some_and(|host| is_loopback(&host)) {
        let text = "this address answers only to loopback host names; call it as 127.0.0.1 or localhost\n";
        return plain(StatusCode::FORBIDDEN, text);
    }
    if is_cross_site(headers) {
        return plain(StatusCode::FORBIDDEN, "other sites may not call this address\n");
    }
    next.run(request).await
}

/// The host that the caller addresses.
fn host(uri: &Uri, headers: &HeaderMap) -> Option<Authority> {
    // HTTP/2 has the host in the URI.
    uri.authority().cloned().or_else(|| headers.get(header::HOST)?.to_str().ok()?.parse().ok())
}

fn is_loopback(authority: &Authority) -> bool {
    let host = authority.host().trim_start_matches('[').trim_end_matches(']');
    match host.parse::<std::net::IpAddr>() {
        Ok(address) => address.to_canonical().is_loopback(),
        Err(_) => host.eq_ignore_ascii_case("localhost") || host.to_ascii_lowercase().ends_with(".localhost"),
    }
}

fn is_cross_site(headers: &HeaderMap) -> bool {
    let foreign_origin = headers.get(header::ORIGIN).is_some_and(|origin| {
        let origin = origin.to_str().ok().and_then(|text| text.parse::<Uri>().ok());
        !origin.as_ref().and_then(Uri::authority).is_some_and(is_loopback)
    });
    let is_cross_site_fetch = headers.get("sec-fetch-site").is_some_and(|site| site == "cross-site");
    foreign_origin || is_cross_site_fetch
}
