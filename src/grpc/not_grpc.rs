//! Requests to a gRPC listener that are not gRPC, such as a browser's: answered in plain HTTP.

use http::{HeaderValue, Request, Response, StatusCode, Version, header};
use hyper::body::Incoming;
use tonic::body::Body;

/// The answer to a request that is not gRPC; `None` for a call.
pub(super) fn refusal(request: &Request<Incoming>) -> Option<Response<Body>> {
    let content_type = request.headers().get(header::CONTENT_TYPE).map(|value| value.as_bytes()).unwrap_or_default();
    // `application/grpc`, `application/grpc+proto`; not `application/grpc-web`.
    let is_grpc = content_type.strip_prefix(b"application/grpc").is_some_and(|rest| !rest.starts_with(b"-"));
    if is_grpc && request.version() == Version::HTTP_2 {
        return None;
    }
    let text = "This port speaks gRPC over HTTP/2: try `grpcurl -plaintext <address> list`.\n";
    let mut response = Response::new(Body::new(http_body_util::Full::from(text)));
    *response.status_mut() = StatusCode::UNSUPPORTED_MEDIA_TYPE;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    Some(response)
}
