//! Requests to a gRPC listener that are not gRPC, such as a browser's: answered in plain HTTP.

use http::{HeaderValue, Method, Request, Response, StatusCode, Version, header};
use hyper::body::Incoming;
use tonic::body::Body;

/// The answer to a request that is not gRPC; `None` for a call.
pub(super) fn refusal(request: &Request<Incoming>) -> Option<Response<Body>> {
    if !is_grpc(request) || request.version() != Version::HTTP_2 {
        let text = "This port speaks gRPC over HTTP/2: try `grpcurl -plaintext <address> list`.\n";
        return Some(plain(StatusCode::UNSUPPORTED_MEDIA_TYPE, text));
    }
    if request.method() != Method::POST {
        let mut response = plain(StatusCode::METHOD_NOT_ALLOWED, "gRPC calls are POST requests.\n");
        response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("POST"));
        return Some(response);
    }
    None
}

/// Whether the content type is `application/grpc`, alone, with a message format (`+proto`) or with a parameter.
fn is_grpc(request: &Request<Incoming>) -> bool {
    let content_type = request.headers().get(header::CONTENT_TYPE).map(|value| value.as_bytes()).unwrap_or_default();
    let rest = content_type.strip_prefix(b"application/grpc");
    rest.is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';')))
}

fn plain(status: StatusCode, text: &'static str) -> Response<Body> {
    let mut response = Response::new(Body::new(http_body_util::Full::from(text)));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}
