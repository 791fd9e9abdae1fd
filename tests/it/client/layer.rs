//! `VerifyLayer` and `Identity`: axum and tonic services that accept only calls with a valid token.

use std::time::Duration;

use axum::{Router, routing::get};
use tokio::net::TcpListener;
use tonic::{Code, Request, Response, Status, metadata::MetadataValue, transport::server::TcpIncoming};
use tower::Layer;
use watchword::{
    api::health::{
        HealthCheckRequest, HealthCheckResponse, HealthListRequest, HealthListResponse,
        health_client::HealthClient,
        health_server::{Health, HealthServer},
    },
    client::{Identity, StatusExt, Verifier, VerifyLayer, pb::ErrorReason},
};

use super::verifier;
use crate::support::{App, app, channel, http};

async fn with_ada() -> (App, String) {
    let app = app().await;
    app.registered("ada").await;
    let token = app.authenticate("ada").await.access_token;
    (app, token)
}

async fn hello(identity: Identity) -> String {
    format!("hello {}", identity.user_id)
}

/// Serves a router on a free port.
async fn serve(router: Router) -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });
    address
}

#[tokio::test]
async fn axum_handler_gets_the_identity_and_invalid_tokens_get_401() {
    let (app, token) = with_ada().await;
    let layer = VerifyLayer::new(verifier::of(&app).build().unwrap());
    let address = serve(Router::new().route("/hello", get(hello)).layer(layer)).await;
    let call = async |values: &[&str]| {
        let headers: Vec<_> = values.iter().map(|value| ("authorization", *value)).collect();
        http(address, "GET", "/hello", &headers, "").await
    };
    let good = format!("Bearer {token}");
    let accepted = call(&[&good]).await;
    assert_eq!((accepted.status, accepted.body), (200, format!("hello {}", app.introspect(&token).await.user_id)));
    assert_eq!(call(&[&good.replace("Bearer", "bEARER")]).await.status, 200);
    assert_eq!(call(&[&good.replace(' ', "   ")]).await.status, 200, "one or more spaces (RFC 9110 section 11.4)");

    let missing = call(&[]).await;
    assert_eq!((missing.status, missing.header("www-authenticate")), (401, Some(r#"Bearer realm="watchword""#)));
    let assert_refused = |reply: crate::support::Reply, what: &str| {
        let challenge = reply.header("www-authenticate");
        assert_eq!(
            (reply.status, challenge),
            (401, Some(r#"Bearer realm="watchword", error="invalid_token""#)),
            "{what}"
        );
        assert_eq!(reply.body, "", "{what}");
    };
    for value in ["", "Bearer", "Bearer ", "Bearer x", &*format!("{good}, {good}")] {
        assert_refused(call(&[value]).await, value);
    }
    // Another scheme is no bearer token, so the challenge has no error (RFC 6750 section 3.1).
    for value in [&*token, &*format!("Basic {token}")] {
        let reply = call(&[value]).await;
        assert_eq!(
            (reply.status, reply.header("www-authenticate")),
            (401, Some(r#"Bearer realm="watchword""#)),
            "{value}"
        );
    }
    assert_refused(call(&[&good, &good]).await, "twice");
    app.clock.advance(Duration::from_secs(300));
    assert_refused(call(&[&good]).await, "expired");
}

#[tokio::test]
async fn request_without_reachable_keys_is_503_with_retry_after() {
    let verifier = Verifier::builder("http://127.0.0.1:1", "watchword").build().unwrap();
    let address = serve(Router::new().route("/hello", get(hello)).layer(VerifyLayer::new(verifier))).await;
    let (_app, token) = with_ada().await;
    let reply = http(address, "GET", "/hello", &[("authorization", &format!("Bearer {token}"))], "").await;
    assert_eq!((reply.status, reply.header("retry-after")), (503, Some("1")));
}

#[tokio::test]
async fn handler_with_an_identity_but_without_the_layer_is_500() {
    let address = serve(Router::new().route("/hello", get(hello))).await;
    let (_app, token) = with_ada().await;
    let reply = http(address, "GET", "/hello", &[("authorization", &format!("Bearer {token}"))], "").await;
    assert_eq!((reply.status, reply.body.as_str()), (500, ""));
}

/// A tonic service that returns the user id of the caller.
struct IdentityEcho;

#[tonic::async_trait]
impl Health for IdentityEcho {
    async fn check(&self, request: Request<HealthCheckRequest>) -> Result<Response<HealthCheckResponse>, Status> {
        let user_id = request.extensions().get::<Identity>().unwrap().user_id.parse().unwrap();
        let mut response = Response::new(HealthCheckResponse::default());
        response.metadata_mut().insert("user-id", user_id);
        Ok(response)
    }

    async fn list(&self, _: Request<HealthListRequest>) -> Result<Response<HealthListResponse>, Status> {
        Ok(Response::new(HealthListResponse::default()))
    }

    type WatchStream = futures_util::stream::Empty<Result<HealthCheckResponse, Status>>;

    async fn watch(&self, _: Request<HealthCheckRequest>) -> Result<Response<Self::WatchStream>, Status> {
        Ok(Response::new(futures_util::stream::empty()))
    }
}

#[tokio::test]
async fn tonic_method_gets_the_identity_and_invalid_tokens_get_watchword_errors() {
    let (app, token) = with_ada().await;
    let layer = VerifyLayer::new(verifier::of(&app).build().unwrap());
    let down = VerifyLayer::new(Verifier::builder("http://127.0.0.1:1", "watchword").build().unwrap());
    let call = async |layer: &VerifyLayer, values: &[&str]| {
        let incoming = TcpIncoming::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = incoming.local_addr().unwrap().to_string();
        let service = layer.layer(HealthServer::new(IdentityEcho));
        tokio::spawn(tonic::transport::Server::builder().add_service(service).serve_with_incoming(incoming));
        let mut request = Request::new(HealthCheckRequest::default());
        for value in values {
            request.metadata_mut().append("authorization", MetadataValue::try_from(*value).unwrap());
        }
        let response = HealthClient::new(channel(&address).await).check(request).await;
        response.map(|response| response.metadata().get("user-id").unwrap().to_str().unwrap().to_owned())
    };
    let good = format!("Bearer {token}");
    assert_eq!(call(&layer, &[&good]).await.unwrap(), app.introspect(&token).await.user_id);
    let unavailable = call(&down, &[&good]).await.unwrap_err();
    assert_eq!(unavailable.retry_after(), Some(Duration::from_secs(1)));
    for (refused, code, reason) in [
        (call(&layer, &[]).await.unwrap_err(), Code::Unauthenticated, ErrorReason::TokenMissing),
        (call(&layer, &["Bearer x"]).await.unwrap_err(), Code::Unauthenticated, ErrorReason::TokenInvalid),
        (call(&layer, &[&good, &good]).await.unwrap_err(), Code::Unauthenticated, ErrorReason::TokenInvalid),
        (unavailable, Code::Unavailable, ErrorReason::StoreUnavailable),
    ] {
        assert_eq!((refused.code(), refused.auth_reason()), (code, Some(reason)), "{refused:?}");
    }
    app.clock.advance(Duration::from_secs(300));
    let expired = call(&layer, &[&good]).await.unwrap_err();
    assert_eq!(expired.auth_reason(), Some(ErrorReason::TokenExpired));
}
