//! Puts a valid access token on calls, and sends a call once more whose token was over when it came.

use std::{
    fmt, future,
    pin::Pin,
    task::{Context, Poll},
};

use http::{HeaderValue, Request, Response, header::AUTHORIZATION};
use tonic::{Code, Status, metadata::MetadataValue};
use tower::{Layer, Service};

use super::{StatusExt, TokenSource, refusal};
use crate::api::pb::ErrorReason;

/// Puts `authorization: Bearer` on every call of a gRPC client; made by [`TokenSource::layer`].
///
/// A call is sent once: its body may be a stream, which cannot be sent again. [`TokenSource::call`] sends a unary call twice
/// when it must.
#[derive(Debug, Clone)]
pub struct AuthorizeLayer(TokenSource);

/// The service that [`AuthorizeLayer`] makes. A call without a token is refused here, in gRPC's form: see [`TokenError`](super::TokenError).
#[derive(Clone)]
pub struct Authorize<S> {
    inner: S,
    tokens: TokenSource,
}

impl AuthorizeLayer {
    pub(super) fn new(tokens: TokenSource) -> Self {
        Self(tokens)
    }
}

impl<S> Layer<S> for AuthorizeLayer {
    type Service = Authorize<S>;

    fn layer(&self, inner: S) -> Authorize<S> {
        Authorize { inner, tokens: self.0.clone() }
    }
}

impl<S> fmt::Debug for Authorize<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Authorize")
    }
}

impl<S, B, R> Service<Request<B>> for Authorize<S>
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
        // The place of a call is taken when the call is ready for it: whoever holds one while he waits for a token may keep
        // it from the very call that brings the token.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let mut inner = self.inner.clone();
        let tokens = self.tokens.clone();
        Box::pin(async move {
            let bearer = match tokens.access_token().await {
                Ok(token) => bearer(&token),
                Err(error) => return Ok(Status::from(error).into_http()),
            };
            match bearer {
                Ok(bearer) => drop(request.headers_mut().insert(AUTHORIZATION, bearer)),
                Err(refusal) => return Ok(refusal.into_http()),
            }
            future::poll_fn(|cx| inner.poll_ready(cx)).await?;
            inner.call(request).await
        })
    }
}

impl TokenSource {
    /// Sends a unary call with a valid access token, and once more with a new one if the server took it for expired
    /// (TOKEN_EXPIRED, no other refusal): the server's clock may be ahead, or the way long.
    ///
    /// ```ignore
    /// let message = pb::GetUserRequest {};
    /// let answer = tokens.call(message, |request| {
    ///     let mut auth = client.auth();
    ///     async move { auth.get_user(request).await }
    /// });
    /// ```
    ///
    /// # Errors
    ///
    /// What the call answers, or why there is no token.
    pub async fn call<M, R, F>(
        &self,
        message: M,
        call: impl Fn(tonic::Request<M>) -> F,
    ) -> Result<tonic::Response<R>, Status>
    where
        M: Clone,
        F: Future<Output = Result<tonic::Response<R>, Status>>,
    {
        let token = self.access_token().await.map_err(Status::from)?;
        let answer = call(authorized(message.clone(), &token)?).await;
        let is_expired = |status: &Status| {
            status.code() == Code::Unauthenticated && status.auth_reason() == Some(ErrorReason::TokenExpired)
        };
        match answer {
            Err(status) if is_expired(&status) => {
                self.has_expired(&token);
                let token = self.access_token().await.map_err(Status::from)?;
                call(authorized(message, &token)?).await
            }
            answer => answer,
        }
    }
}

fn authorized<M>(message: M, token: &str) -> Result<tonic::Request<M>, Status> {
    let mut request = tonic::Request::new(message);
    let mut bearer = MetadataValue::try_from(format!("Bearer {token}")).map_err(|_| no_header())?;
    bearer.set_sensitive(true);
    request.metadata_mut().insert("authorization", bearer);
    Ok(request)
}

fn bearer(token: &str) -> Result<HeaderValue, Status> {
    let mut bearer = HeaderValue::try_from(format!("Bearer {token}")).map_err(|_| no_header())?;
    bearer.set_sensitive(true);
    Ok(bearer)
}

fn no_header() -> Status {
    refusal::broken_answer("the access token does not fit into a header")
}
