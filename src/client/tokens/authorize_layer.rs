//! Puts a valid access token on calls, and repeats a call whose token had expired when it arrived.

use std::{
    fmt, future,
    pin::Pin,
    task::{Context, Poll},
};

use http::{HeaderValue, Request, Response, header::AUTHORIZATION};
use tonic::{Code, Status, metadata::MetadataValue};
use tower::{Layer, Service};

use super::TokenSource;
use crate::{
    api::pb::{ErrorReason, auth_client::AuthClient},
    client::{Calls, Client, StatusExt, connection::refusal},
};

/// Puts `authorization: Bearer` on every call of a gRPC client. Created by [`TokenSource::layer`].
///
/// A call is sent once, because its body may be a stream. [`TokenSource::call`] repeats a unary call if necessary.
#[derive(Debug, Clone)]
pub struct AuthorizeLayer(TokenSource);

/// The service of an [`AuthorizeLayer`]. Without a token it refuses the call with a gRPC status: see
/// [`TokenError`](super::TokenError).
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
        // The inner service is polled after the token is available: a call that reserves capacity while it waits for a token
        // may block the call that refreshes the token.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let mut inner = self.inner.clone();
        let tokens = self.tokens.clone();
        Box::pin(async move {
            let header = match tokens.access_token().await {
                Ok(token) => bearer(&token),
                Err(error) => return Ok(Status::from(error).into_http()),
            };
            match header {
                Ok(header) => drop(request.headers_mut().insert(AUTHORIZATION, header)),
                Err(refusal) => return Ok(refusal.into_http()),
            }
            future::poll_fn(|cx| inner.poll_ready(cx)).await?;
            inner.call(request).await
        })
    }
}

impl Client {
    /// A client whose calls carry a valid access token of `tokens`.
    pub fn auth_as(&self, tokens: &TokenSource) -> AuthClient<Authorize<Calls>> {
        AuthClient::new(tokens.layer().layer(self.calls()))
    }
}

impl TokenSource {
    /// Sends a unary call with a valid access token, and repeats it once with a new one if the server refuses the token as
    /// expired (TOKEN_EXPIRED only): the server's clock may be ahead, or the network slow.
    ///
    /// ```ignore
    /// let message = pb::GetUserRequest {};
    /// let response = tokens.call(message, |request| {
    ///     let mut auth = client.auth();
    ///     async move { auth.get_user(request).await }
    /// });
    /// ```
    ///
    /// # Errors
    ///
    /// The error of the call, or why there is no access token.
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
        let response = call(authorized(message.clone(), &token)?).await;
        let is_expired = |status: &Status| {
            status.code() == Code::Unauthenticated && status.auth_reason() == Some(ErrorReason::TokenExpired)
        };
        match response {
            Err(status) if is_expired(&status) => {
                self.report_expired(&token);
                let token = self.access_token().await.map_err(Status::from)?;
                call(authorized(message, &token)?).await
            }
            response => response,
        }
    }
}

fn authorized<M>(message: M, token: &str) -> Result<tonic::Request<M>, Status> {
    let mut request = tonic::Request::new(message);
    let mut bearer = MetadataValue::try_from(format!("Bearer {token}")).map_err(|_| header_error())?;
    bearer.set_sensitive(true);
    request.metadata_mut().insert("authorization", bearer);
    Ok(request)
}

fn bearer(token: &str) -> Result<HeaderValue, Status> {
    let mut bearer = HeaderValue::try_from(format!("Bearer {token}")).map_err(|_| header_error())?;
    bearer.set_sensitive(true);
    Ok(bearer)
}

fn header_error() -> Status {
    refusal::invalid_response("the access token is not a valid header value")
}
