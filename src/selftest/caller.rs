//! A connection to an API of the node under test: sends one call at a time, and keeps every byte of the response.

use std::{net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use tonic::{
    Code, Status,
    transport::{Channel, Endpoint},
};

use crate::{
    api::pb::{self, auth_client::AuthClient},
    domain::{Clock, System},
};

/// The timeout of a call.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);

/// An API that authenticates with passwords.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TestedApi {
    /// gRPC.
    Grpc,
    /// The original routes of the HTTP API.
    Http,
}

/// A call that is measured. [`ApiConnection::send`] has its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TestCall {
    /// Login, or `GET /login`.
    Login,
    /// ResetPassword. The original routes have none.
    ResetPassword,
}

/// A reset code that no user has.
const WRONG_CODE: &str = "wwc_AAAAAAAAAAAAAAAAAAAAAA";

impl TestCall {
    /// All calls.
    pub(super) const ALL: [TestCall; 2] = [TestCall::Login, TestCall::ResetPassword];

    /// Whether this API has the call.
    pub(super) fn is_on(self, api: TestedApi) -> bool {
        match self {
            TestCall::Login => true,
            TestCall::ResetPassword => api == TestedApi::Grpc,
        }
    }

    /// HashCounter that each refusal of the call costs.
    pub(super) fn hashes(self) -> u64 {
        match self {
            TestCall::Login => 1,
            TestCall::ResetPassword => 0,
        }
    }
}

/// A connection that is reused, for one call at a time.
pub(super) enum ApiConnection {
    Grpc(AuthClient<Channel>),
    Http(TcpStream),
}

/// A response and its duration.
pub(super) struct TimedResponse {
    pub(super) took: Duration,
    /// All that a caller can observe except the date: code, text, details and sorted headers.
    pub(super) bytes: Vec<u8>,
    /// Whether it is the expected refusal.
    pub(super) is_refusal: bool,
}

impl TestedApi {
    /// Both APIs.
    pub const ALL: [TestedApi; 2] = [TestedApi::Grpc, TestedApi::Http];

    /// The name in tables.
    pub fn name(self) -> &'static str {
        match self {
            TestedApi::Grpc => "gRPC",
            TestedApi::Http => "HTTP",
        }
    }
}

impl ApiConnection {
    /// Connects to this API at this address.
    pub(super) async fn connect(api: TestedApi, to: SocketAddr) -> Result<Self, String> {
        match api {
            TestedApi::Grpc => {
                let endpoint = Endpoint::from_shared(format!("http://{to}")).map_err(|cause| cause.to_string())?;
                let channel = endpoint.connect().await.map_err(|cause| cause.to_string())?;
                Ok(ApiConnection::Grpc(AuthClient::new(channel)))
            }
            TestedApi::Http => {
                let stream = TcpStream::connect(to).await.map_err(|cause| cause.to_string())?;
                stream.set_nodelay(true).map_err(|cause| cause.to_string())?;
                Ok(ApiConnection::Http(stream))
            }
        }
    }

    /// Sends one call. The time is measured from before it is sent until the whole response has arrived.
    pub(super) async fn send(
        &mut self,
        call: TestCall,
        username: &str,
        password: &str,
    ) -> Result<TimedResponse, String> {
        let sent = timeout(CALL_TIMEOUT, async {
            match (self, call) {
                (ApiConnection::Grpc(client), TestCall::Login) => {
                    let request = pb::LoginRequest {
                        username: username.to_owned(),
                        password: password.to_owned(),
                        challenge_solution: String::new(),
                    };
                    let start = System.monotonic();
                    let result = client.login(request).await.map(drop);
                    let took = System.monotonic().saturating_duration_since(start);
                    Ok(timed_status(took, result))
                }
                (ApiConnection::Grpc(client), TestCall::ResetPassword) => {
                    let request = pb::ResetPasswordRequest {
                        username: username.to_owned(),
                        reset_code: WRONG_CODE.into(),
                        new_password: password.to_owned(),
                    };
                    let start = System.monotonic();
                    let result = client.reset_password(request).await.map(drop);
                    let took = System.monotonic().saturating_duration_since(start);
                    Ok(timed_status(took, result))
                }
                (ApiConnection::Http(_), TestCall::ResetPassword) => {
                    Err("the original routes have no password reset".into())
                }
                (ApiConnection::Http(stream), TestCall::Login) => {
                    let target = format!("/login?username={username}&password={password}");
                    let request = format!("GET {target} HTTP/1.1\r\nhost: localhost\r\n\r\n");
                    let start = System.monotonic();
                    let response = exchange(stream, request.as_bytes()).await?;
                    let took = System.monotonic().saturating_duration_since(start);
                    let bytes = without_date(&response);
                    let is_refusal = bytes.ends_with(b"\r\n\r\nUser not found");
                    Ok(TimedResponse { took, bytes, is_refusal })
                }
            }
        });
        sent.await.unwrap_or_else(|_| Err(format!("no response in {CALL_TIMEOUT:?}")))
    }
}

fn timed_status(took: Duration, result: Result<(), Status>) -> TimedResponse {
    #[expect(clippy::disallowed_methods, reason = "a response without an error, so that both are handled alike")]
    let status = result.err().unwrap_or_else(|| Status::ok(""));
    let headers = status.metadata().clone().into_headers();
    let mut lines: Vec<String> = headers
        .iter()
        .filter(|(name, _)| *name != http::header::DATE)
        .map(|(name, value)| format!("{name}: {}\n", value.as_bytes().escape_ascii()))
        .collect();
    lines.sort();
    let head = format!("{:?} {}\n{}", status.code(), status.message(), lines.concat());
    let bytes = [head.as_bytes(), status.details()].concat();
    TimedResponse { took, bytes, is_refusal: status.code() == Code::Unauthenticated }
}

/// Sends a request and reads the whole response, by its content-length.
async fn exchange(stream: &mut TcpStream, request: &[u8]) -> Result<Vec<u8>, String> {
    stream.write_all(request).await.map_err(|cause| cause.to_string())?;
    let mut response = Vec::with_capacity(4_096);
    while !is_whole(&response) {
        let read = stream.read_buf(&mut response).await.map_err(|cause| cause.to_string())?;
        if read == 0 {
            return Err("the connection was closed".into());
        }
    }
    Ok(response)
}

fn is_whole(response: &[u8]) -> bool {
    let text = String::from_utf8_lossy(response);
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse::<usize>().ok());
    length.is_some_and(|length| body.len() >= length)
}

fn without_date(response: &[u8]) -> Vec<u8> {
    let text = String::from_utf8_lossy(response);
    text.split_inclusive("\r\n").filter(|line| !line.starts_with("date: ")).collect::<String>().into_bytes()
}
