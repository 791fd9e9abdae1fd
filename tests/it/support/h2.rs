//! gRPC over HTTP/2 without a gRPC client: a test chooses every header and every byte of the body.

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Body, Frame, Incoming},
};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioIo},
};
use prost::Message;
use tokio::{net::TcpStream, sync::oneshot};
use tonic::Status;

use super::App;

/// One call with these extra headers and exactly this body.
pub async fn call(app: &App, path: &str, headers: &[(&str, &str)], body: Vec<u8>) -> Response<Incoming> {
    request(app, Method::POST, path, headers, body).await
}

/// Like [`call`], with any HTTP method.
pub async fn request(
    app: &App,
    method: Method,
    path: &str,
    headers: &[(&str, &str)],
    body: Vec<u8>,
) -> Response<Incoming> {
    let mut connector = HttpConnector::new();
    // Otherwise the body waits for the server's TCP acknowledgement of the head, up to 40 ms.
    connector.set_nodelay(true);
    let client = Client::builder(TokioExecutor::new()).http2_only(true).build::<_, Full<Bytes>>(connector);
    let uri = format!("http://{}{path}", app.grpc_addr());
    let mut request = Request::builder().method(method).uri(uri).header("te", "trailers");
    if !headers.iter().any(|(name, _)| *name == "content-type") {
        request = request.header("content-type", "application/grpc");
    }
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    client.request(request.body(Full::from(body)).unwrap()).await.unwrap()
}

/// The gRPC status of a response, from its headers or its trailers.
#[expect(clippy::disallowed_methods, reason = "parses a status that a server sent")]
pub async fn status(response: Response<Incoming>) -> Status {
    assert_eq!(response.status(), StatusCode::OK, "gRPC errors have HTTP status 200");
    let (head, body) = response.into_parts();
    if let Some(status) = Status::from_header_map(&head.headers) {
        return status;
    }
    let collected = body.collect().await.unwrap();
    Status::from_header_map(collected.trailers().expect("the response has trailers"))
        .expect("the trailers have a status")
}

/// A message with its gRPC length prefix.
pub fn framed(message: &impl Message) -> Vec<u8> {
    let message = message.encode_to_vec();
    let length = u32::try_from(message.len()).unwrap().to_be_bytes();
    [&[0], length.as_slice(), &message].concat()
}

/// A body that the test sends later, or never.
pub struct DelayedBody(oneshot::Receiver<Vec<u8>>);

impl Body for DelayedBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.0.is_terminated() {
            return Poll::Ready(None);
        }
        match Pin::new(&mut self.0).poll(cx) {
            Poll::Ready(bytes) => Poll::Ready(Some(Ok(Frame::data(bytes.unwrap_or_default().into())))),
            Poll::Pending => Poll::Pending,
        }
    }
}

/// Sends the head of a call. The test sends the body through the returned sender; the returned future is the response.
pub async fn call_with_late_body(
    app: &App,
    path: &str,
    headers: &[(&str, &str)],
) -> (oneshot::Sender<Vec<u8>>, impl Future<Output = Response<Incoming>> + use<>) {
    let io = TokioIo::new(TcpStream::connect(app.grpc_socket()).await.unwrap());
    let (mut sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.unwrap();
    tokio::spawn(connection);
    let mut request =
        Request::post(format!("http://{}{path}", app.grpc_addr())).header("content-type", "application/grpc");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let (send, body) = oneshot::channel();
    let response = tokio::spawn(sender.send_request(request.body(DelayedBody(body)).unwrap()));
    (send, async move { response.await.unwrap().unwrap() })
}
