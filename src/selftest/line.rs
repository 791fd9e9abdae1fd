//! One caller's connection to a door of the node under test: asks, waits, and keeps every byte of the answer.

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

/// No answer takes so long.
const ANSWER_MAX: Duration = Duration::from_secs(10);

/// A door through which passwords are tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Via {
    /// gRPC.
    Grpc,
    /// The original HTTP routes.
    Http,
}

/// What is asked; each call has its bytes in [`Line::ask`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Call {
    /// Login, `GET /login`.
    Login,
    /// ResetPassword; the original routes have none.
    ResetPassword,
}

/// A code that nobody has.
const WRONG_CODE: &str = "wwc_AAAAAAAAAAAAAAAAAAAAAA";

impl Call {
    /// All of them.
    pub(super) const ALL: [Call; 2] = [Call::Login, Call::ResetPassword];

    /// Whether that door has it.
    pub(super) fn is_on(self, via: Via) -> bool {
        match self {
            Call::Login => true,
            Call::ResetPassword => via == Via::Grpc,
        }
    }

    /// Hashes that each of its refusals costs.
    pub(super) fn hashes(self) -> u64 {
        match self {
            Call::Login => 1,
            Call::ResetPassword => 0,
        }
    }
}

/// A connection that is used again and again, for one call at a time.
pub(super) enum Line {
    Grpc(AuthClient<Channel>),
    Http(TcpStream),
}

/// An answer, and how long it was waited for.
pub(super) struct Heard {
    pub(super) took: Duration,
    /// All that a caller can see but the time of day: code, text, details and headers, in order.
    pub(super) answer: Vec<u8>,
    /// Whether it is the refusal that every such call gets.
    pub(super) is_refusal: bool,
}

impl Via {
    /// Both doors.
    pub const ALL: [Via; 2] = [Via::Grpc, Via::Http];

    /// The door's name in tables.
    pub fn name(self) -> &'static str {
        match self {
            Via::Grpc => "gRPC",
            Via::Http => "HTTP",
        }
    }
}

impl Line {
    /// Connects to that door at that address.
    pub(super) async fn connect(via: Via, to: SocketAddr) -> Result<Self, String> {
        match via {
            Via::Grpc => {
                let endpoint = Endpoint::from_shared(format!("http://{to}")).map_err(|cause| cause.to_string())?;
                let channel = endpoint.connect().await.map_err(|cause| cause.to_string())?;
                Ok(Line::Grpc(AuthClient::new(channel)))
            }
            Via::Http => {
                let stream = TcpStream::connect(to).await.map_err(|cause| cause.to_string())?;
                stream.set_nodelay(true).map_err(|cause| cause.to_string())?;
                Ok(Line::Http(stream))
            }
        }
    }

    /// Makes one call; the clock runs from before it is sent until all of its answer is here.
    pub(super) async fn ask(&mut self, call: Call, username: &str, password: &str) -> Result<Heard, String> {
        let asked = timeout(ANSWER_MAX, async {
            match (self, call) {
                (Line::Grpc(client), Call::Login) => {
                    let request = pb::LoginRequest {
                        username: username.to_owned(),
                        password: password.to_owned(),
                        challenge_solution: String::new(),
                    };
                    let began = System.monotonic();
                    let answered = client.login(request).await.map(drop);
                    let took = System.monotonic().saturating_duration_since(began);
                    Ok(heard_status(took, answered))
                }
                (Line::Grpc(client), Call::ResetPassword) => {
                    let request = pb::ResetPasswordRequest {
                        username: username.to_owned(),
                        reset_code: WRONG_CODE.into(),
                        new_password: password.to_owned(),
                    };
                    let began = System.monotonic();
                    let answered = client.reset_password(request).await.map(drop);
                    let took = System.monotonic().saturating_duration_since(began);
                    Ok(heard_status(took, answered))
                }
                (Line::Http(_), Call::ResetPassword) => Err("the original routes reset no password".into()),
                (Line::Http(stream), Call::Login) => {
                    let target = format!("/login?username={username}&password={password}");
                    let request = format!("GET {target} HTTP/1.1\r\nhost: localhost\r\n\r\n");
                    let began = System.monotonic();
                    let answer = exchange(stream, request.as_bytes()).await?;
                    let took = System.monotonic().saturating_duration_since(began);
                    let answer = without_date(&answer);
                    let is_refusal = answer.ends_with(b"\r\n\r\nUser not found");
                    Ok(Heard { took, answer, is_refusal })
                }
            }
        });
        asked.await.unwrap_or_else(|_| Err(format!("no answer in {ANSWER_MAX:?}")))
    }
}

fn heard_status(took: Duration, answered: Result<(), Status>) -> Heard {
    #[expect(clippy::disallowed_methods, reason = "an answer without an error, so that both are read alike")]
    let status = answered.err().unwrap_or_else(|| Status::ok(""));
    let headers = status.metadata().clone().into_headers();
    let mut shown: Vec<String> = headers
        .iter()
        .filter(|(name, _)| *name != http::header::DATE)
        .map(|(name, value)| format!("{name}: {}\n", value.as_bytes().escape_ascii()))
        .collect();
    shown.sort();
    let head = format!("{:?} {}\n{}", status.code(), status.message(), shown.concat());
    let answer = [head.as_bytes(), status.details()].concat();
    Heard { took, answer, is_refusal: status.code() == Code::Unauthenticated }
}

/// Sends a request and reads its whole answer, as long as its head says.
async fn exchange(stream: &mut TcpStream, request: &[u8]) -> Result<Vec<u8>, String> {
    stream.write_all(request).await.map_err(|cause| cause.to_string())?;
    let mut answer = Vec::with_capacity(4_096);
    while !is_whole(&answer) {
        let read = stream.read_buf(&mut answer).await.map_err(|cause| cause.to_string())?;
        if read == 0 {
            return Err("the connection was closed".into());
        }
    }
    Ok(answer)
}

fn is_whole(answer: &[u8]) -> bool {
    let text = String::from_utf8_lossy(answer);
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse::<usize>().ok());
    length.is_some_and(|length| body.len() >= length)
}

fn without_date(answer: &[u8]) -> Vec<u8> {
    let text = String::from_utf8_lossy(answer);
    text.split_inclusive("\r\n").filter(|line| !line.starts_with("date: ")).collect::<String>().into_bytes()
}
