//! Refuses requests without a valid access token, in front of axum and tonic services.

use std::{
    fmt, future,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use tonic::{Code, server::NamedService};
use tower::{Layer, Service};

use super::{Verifier, VerifyError};
use crate::{
    api::pb::ErrorReason,
    client::connection::refusal,
    common::bearer::{self, HeaderFault},
};

/// The time after which a client should retry while tokens cannot be checked.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Verifies the one `authorization: Bearer` value of every request, and puts an [`Identity`](super::Identity) into the
/// request's extensions.
///
/// Refuses with 401 and `WWW-Authenticate` (RFC 6750 section 3), or 503 and `Retry-After` while tokens cannot be checked. A
/// gRPC call is refused with UNAUTHENTICATED or UNAVAILABLE and an `ErrorInfo`, as by Watchword itself. Every path behind
/// the layer is protected.
#[derive(Debug, Clone)]
pub struct VerifyLayer(Verifier);

/// The service of a [`VerifyLayer`].
#[derive(Clone)]
pub struct Verify<S> {
    inner: S,
    verifier: Verifier,
}

/// Why a request is refused.
#[derive(Debug, Clone, Copy)]
enum RequestRefusal {
    NoToken,
    Token(VerifyError),
}

impl VerifyLayer {
    /// A layer that admits the tokens of this verifier.
    pub fn new(verifier: Verifier) -> Self {
        Self(verifier)
    }
}

impl<S> Layer<S> for VerifyLayer {
    type Service = Verify<S>;

    fn layer(&self, inner: S) -> Verify<S> {
        Verify { inner, verifier: self.0.clone() }
    }
}

impl<S> fmt::Debug for Verify<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Verify")
    }
}

// A tonic router needs the name of the service.
impl<S: NamedService> NamedService for Verify<S> {
    const NAME: &'static str = S::NAME;
}

impl<S, B, R> Service<Request<B>> for Verify<S>
where
    S: Service<Request<B>, Response = Response<R>> + Clone + Send + 'static,
    S::Future: Send,
    B: Send + 'static,
    R: Default,
{
    type Response = Response<R>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<R>, S::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        // The inner service is polled after the token is verified: a request that reserves capacity while it waits for keys
        // may block other requests.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let mut inner = self.inner.clone();
        let verifier = self.verifier.clone();
        let token = token(request.headers());
        Box::pin(async move {
            let verified = match token {
                Ok(token) => verifier.verify(&token).await.map_err(RequestRefusal::Token),
                Err(refusal) => Err(refusal),
            };
            match verified {
                Ok(identity) => drop(request.extensions_mut().insert(identity)),
                Err(refusal) if request.method() == Method::POST && is_grpc(request.headers()) => {
                    return Ok(refusal.grpc());
                }
                Err(refusal) => return Ok(refusal.http()),
            }
            future::poll_fn(|cx| inner.poll_ready(cx)).await?;
            inner.call(request).await
        })
    }
}

fn token(headers: &HeaderMap) -> Result<String, RequestRefusal> {
    let values = headers.get_all(header::AUTHORIZATION).iter().map(HeaderValue::as_bytes);
    match bearer::token(values) {
        Ok(Some(token)) => Ok(token.to_owned()),
        Ok(None) => Err(RequestRefusal::NoToken),
        Err(HeaderFault::OtherScheme) => Err(RequestRefusal::NoToken),
        Err(HeaderFault::Malformed) => Err(RequestRefusal::Token(VerifyError::Invalid)),
    }
}

/// Whether this is gRPC over HTTP/2: `application/grpc`, alone or with a suffix for the encoding. Not gRPC-Web.
fn is_grpc(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    kind.strip_prefix("application/grpc").is_some_and(|rest| rest.is_empty() || rest.starts_with(['+', ';']))
}

// === impl RequestRefusal ===

impl RequestRefusal {
    fn http<R: Default>(self) -> Response<R> {
        let mut response = Response::new(R::default());
        let (status, name, value) = match self {
            RequestRefusal::NoToken => (StatusCode::UNAUTHORIZED, header::WWW_AUTHENTICATE, bearer::CHALLENGE),
            RequestRefusal::Token(VerifyError::Invalid | VerifyError::Expired | VerifyError::Revoked) => {
                (StatusCode::UNAUTHORIZED, header::WWW_AUTHENTICATE, bearer::CHALLENGE_INVALID)
            }
            RequestRefusal::Token(VerifyError::Unavailable) => {
                (StatusCode::SERVICE_UNAVAILABLE, header::RETRY_AFTER, "1")
            }
        };
        *response.status_mut() = status;
        response.headers_mut().insert(name, HeaderValue::from_static(value));
        response
    }

    /// A trailers-only response.
    fn grpc<R: Default>(self) -> Response<R> {
        let (code, reason) = match self {
            RequestRefusal::NoToken => (Code::Unauthenticated, ErrorReason::TokenMissing),
            RequestRefusal::Token(VerifyError::Invalid) => (Code::Unauthenticated, ErrorReason::TokenInvalid),
            RequestRefusal::Token(VerifyError::Expired) => (Code::Unauthenticated, ErrorReason::TokenExpired),
            RequestRefusal::Token(VerifyError::Revoked) => (Code::Unauthenticated, ErrorReason::TokenRevoked),
            RequestRefusal::Token(VerifyError::Unavailable) => (Code::Unavailable, ErrorReason::StoreUnavailable),
        };
        let text = match self {
            RequestRefusal::NoToken => "send an access token: authorization: Bearer <token>".to_owned(),
            RequestRefusal::Token(why) => why.to_string(),
        };
        let status = refusal::status(code, reason, &text);
        match code {
            Code::Unavailable => refusal::with_retry(status, RETRY_AFTER).into_http(),
            _ => status.into_http(),
        }
    }
}
