//! Rules for every call of the gRPC API, independent of its method.

use hyper::{Method, StatusCode};
use tokio::time::timeout;
use tonic::Code;
use watchword::api::pb;

use crate::support::{
    App, StoreKind, WAIT_MAX, app,
    h2::{call, call_with_late_body, framed, request, status},
    http, password, reason,
};

const LOGIN: &str = "/watchword.auth.v1.Auth/Login";

fn login() -> Vec<u8> {
    framed(&pb::LoginRequest { username: "ada".into(), password: password("ada"), ..Default::default() })
}

#[tokio::test]
async fn unknown_methods_and_services_are_unimplemented() {
    let app = app().await;
    for path in ["/watchword.auth.v1.Auth/Nope", "/nope.v1.Nope/Login", "/", "//", "/watchword.auth.v1.Auth"] {
        let response = call(&app, path, &[], login()).await;
        assert_eq!(response.headers().get_all("content-type").iter().count(), 1, "{path}: {response:?}");
        let status = status(response).await;
        assert_eq!((status.code(), reason(&status).as_str()), (Code::Unimplemented, "UNIMPLEMENTED"), "{path}");
    }
}

#[tokio::test]
async fn malformed_message_is_an_invalid_field() {
    let app = app().await;
    let not_utf8 = [vec![0, 0, 0, 0, 3], vec![0x0a, 1, 0xff]].concat();
    let too_short = vec![0, 0, 0, 0, 9, 1];
    for (what, body) in [
        ("garbage", framed_bytes(&[0xff; 40])),
        ("invalid UTF-8", not_utf8),
        ("shorter than its length prefix", too_short),
        ("empty", Vec::new()),
    ] {
        let status = status(call(&app, LOGIN, &[], body).await).await;
        assert_eq!(
            (status.code(), reason(&status).as_str()),
            (Code::InvalidArgument, "INVALID_FIELD"),
            "{what}: {status:?}"
        );
    }
}

fn framed_bytes(bytes: &[u8]) -> Vec<u8> {
    [&[0], u32::try_from(bytes.len()).unwrap().to_be_bytes().as_slice(), bytes].concat()
}

#[tokio::test]
async fn huge_length_prefix_is_too_large_before_the_message_is_read() {
    let app = app().await;
    let status = status(call(&app, LOGIN, &[], vec![0, 0xff, 0xff, 0xff, 0xff]).await).await;
    assert_eq!((status.code(), reason(&status).as_str()), (Code::ResourceExhausted, "REQUEST_TOO_LARGE"));
}

#[tokio::test]
async fn compressed_message_is_unimplemented_and_accepted_encodings_are_named() {
    let app = app().await;
    let mut body = login();
    body[0] = 1;
    let response = call(&app, LOGIN, &[("grpc-encoding", "gzip")], body).await;
    assert!(response.headers().contains_key("grpc-accept-encoding"), "{:?}", response.headers());
    let status = status(response).await;
    assert_eq!((status.code(), reason(&status).as_str()), (Code::Unimplemented, "UNIMPLEMENTED"));
}

#[tokio::test]
async fn malformed_grpc_timeout_is_an_invalid_field() {
    let app = app().await;
    for timeout in ["", "5", "5x", "-5S", "999999999S"] {
        let status = status(call(&app, LOGIN, &[("grpc-timeout", timeout)], login()).await).await;
        assert_eq!(reason(&status), "INVALID_FIELD", "{timeout:?}");
        assert!(status.message().contains("grpc-timeout"), "{status:?}");
    }
}

#[tokio::test]
async fn call_with_an_endless_body_ends_at_its_deadline() {
    let app = app().await;
    for path in [LOGIN, "/grpc.health.v1.Health/Check", "/grpc.health.v1.Health/Watch"] {
        let (_body, response) = call_with_late_body(&app, path, &[("grpc-timeout", "100m")]).await;
        let response = timeout(WAIT_MAX, response).await.unwrap_or_else(|_| panic!("{path} does not end"));
        let status = status(response).await;
        assert_eq!((status.code(), reason(&status).as_str()), (Code::DeadlineExceeded, "DEADLINE_EXCEEDED"), "{path}");
    }
}

#[tokio::test]
async fn http1_and_grpc_web_requests_to_the_grpc_port_are_unsupported() {
    let app = app().await;
    let reply = http(app.grpc_socket(), "GET", "/", &[], "").await;
    assert_eq!(reply.status, 415);
    assert!(reply.body.contains("gRPC") && reply.body.contains("grpcurl"), "{reply:?}");
    let web = call(&app, LOGIN, &[("content-type", "application/grpc-web+proto")], login()).await;
    assert_eq!(web.status(), StatusCode::UNSUPPORTED_MEDIA_TYPE);
    let suffixed = call(&app, LOGIN, &[("content-type", "application/grpc+proto")], login()).await;
    assert_eq!(reason(&status(suffixed).await), "INVALID_CREDENTIALS");
    let with_parameter = call(&app, LOGIN, &[("content-type", "application/grpc;charset=utf-8")], login()).await;
    assert_eq!(reason(&status(with_parameter).await), "INVALID_CREDENTIALS");
    let other = call(&app, LOGIN, &[("content-type", "application/grpcfoo")], login()).await;
    assert_eq!(other.status(), StatusCode::UNSUPPORTED_MEDIA_TYPE);
}

#[tokio::test]
async fn second_message_of_a_unary_call_is_internal_and_nothing_is_executed() {
    let app = app().await;
    let register =
        framed(&pb::RegisterRequest { username: "ada".into(), password: password("ada"), ..Default::default() });
    let path = "/watchword.auth.v1.Auth/Register";
    let status = status(call(&app, path, &[], register.repeat(2)).await).await;
    assert_eq!((status.code(), reason(&status).as_str()), (Code::Internal, "INVALID_FIELD"), "{status:?}");
    app.registered("ada").await;
}

#[tokio::test]
async fn grpc_call_with_another_method_than_post_is_refused_and_not_executed() {
    let app = app().await;
    let register =
        framed(&pb::RegisterRequest { username: "ada".into(), password: password("ada"), ..Default::default() });
    for method in [Method::GET, Method::PUT, Method::DELETE] {
        let path = "/watchword.auth.v1.Auth/Register";
        let refused = request(&app, method.clone(), path, &[], register.clone()).await;
        assert_eq!(refused.status(), StatusCode::METHOD_NOT_ALLOWED, "{method}");
        assert_eq!(refused.headers()["allow"], "POST", "{method}");
    }
    app.registered("ada").await;
}

#[tokio::test]
async fn error_in_a_stream_has_a_reason() {
    let app = app().await;
    let path = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";
    let too_large = status(call(&app, path, &[], vec![0, 0xff, 0xff, 0xff, 0xff]).await).await;
    assert_eq!((too_large.code(), reason(&too_large).as_str()), (Code::ResourceExhausted, "REQUEST_TOO_LARGE"));
    let garbage = status(call(&app, path, &[], framed_bytes(&[0xff; 40])).await).await;
    assert_eq!((garbage.code(), reason(&garbage).as_str()), (Code::InvalidArgument, "INVALID_FIELD"));
}

#[tokio::test]
async fn reflection_off_is_unimplemented() {
    let app = App::with(StoreKind::Memory).args(&["--reflection", "off"]).start().await;
    for version in ["v1", "v1alpha"] {
        let path = format!("/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo");
        let status = status(call(&app, &path, &[], Vec::new()).await).await;
        assert_eq!(reason(&status), "UNIMPLEMENTED");
    }
}
