//! The gRPC encoding of a row of the method table.
//!
//! It is compiled once for each row, with the row's message types: tonic's codec reads the request from the frame and
//! writes the response into one, without another copy. One boxed future for each call makes the rows a list.

use std::{future::Future, pin::Pin};

use http::{Request, Response};
use hyper::body::Incoming;
use tonic::{Status, Streaming, body::Body, server::Grpc};
use tonic_prost::ProstCodec;
use tower::service_fn;

use super::status::malformed;
use crate::{
    api::{
        errors::{second_message, status},
        methods::{Method, Protocol, Services},
    },
    domain::CallContext,
};

/// Bytes of a response message at most. The largest is the description of a proto file with its comments.
pub(super) const RESPONSE_BYTES_MAX: usize = 1024 * 1024;

type UnaryResponse<'a> = Pin<Box<dyn Future<Output = Response<Body>> + Send + 'a>>;

type UnaryCall = for<'a> fn(&'a Services, &'a CallContext, Request<Incoming>) -> UnaryResponse<'a>;

/// A row that gRPC can call.
#[derive(Debug, Clone, Copy)]
pub(super) struct UnaryMethod {
    name: &'static str,
    call: UnaryCall,
}

impl UnaryMethod {
    /// Whether this is the method of `path`: a slash and the full name.
    pub(super) fn is_at(&self, path: &str) -> bool {
        path.strip_prefix('/') == Some(self.name)
    }

    /// Answers one call.
    pub(super) fn call<'a>(
        &self,
        services: &'a Services,
        context: &'a CallContext,
        request: Request<Incoming>,
    ) -> UnaryResponse<'a> {
        (self.call)(services, context, request)
    }
}

/// The protocol, as the method table sees it.
pub(super) struct GrpcProtocol;

impl Protocol for GrpcProtocol {
    type Row = UnaryMethod;

    fn row<M: Method>() -> UnaryMethod {
        let call: UnaryCall = |services, context, request| Box::pin(answer::<M>(services, context, request));
        UnaryMethod { name: M::NAME, call }
    }
}

async fn answer<M: Method>(services: &Services, context: &CallContext, request: Request<Incoming>) -> Response<Body> {
    let method = service_fn(|request: tonic::Request<Streaming<M::Request>>| async {
        let response = M::call(services, context, only_message(request.into_inner()).await?).await;
        response.map(tonic::Response::new).map_err(|error| status(&error))
    });
    Grpc::new(ProstCodec::<M::Response, M::Request>::default())
        .max_decoding_message_size(M::REQUEST_BYTES_MAX)
        .max_encoding_message_size(RESPONSE_BYTES_MAX)
        // tonic's own `unary` ignores further messages, however many there are.
        .client_streaming(method, request)
        .await
}

/// The one message of a unary call.
async fn only_message<T>(mut messages: Streaming<T>) -> Result<T, Status> {
    let message = messages.message().await?.ok_or_else(malformed)?;
    match messages.message().await? {
        None => Ok(message),
        Some(_) => Err(second_message()),
    }
}
