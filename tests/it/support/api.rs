//! The gRPC API and the original routes behind the same methods, so that one test covers both.

use prost::Message;
use tonic::{Code, Request, Status, metadata::MetadataValue};
use watchword::api::{pb, rpc};

use super::{App, http};

/// An API through which a test calls the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Api {
    Grpc,
    Legacy,
}

/// The response to a call.
#[derive(Debug)]
pub enum Answer {
    Ok { data: String },
    Grpc(Box<Status>),
    Http { status: u16, text: String, retry_after: Option<u64> },
}

impl Api {
    pub const ALL: [Api; 2] = [Api::Grpc, Api::Legacy];

    pub async fn register(self, app: &App, username: &str, password: &str, data: &str) -> Answer {
        self.register_with(app, username, password, data, "").await
    }

    /// Like [`Self::register`], with the solution of a proof of work.
    pub async fn register_with(self, app: &App, username: &str, password: &str, data: &str, solution: &str) -> Answer {
        match self {
            Api::Grpc => {
                let request = pb::RegisterRequest {
                    username: username.into(),
                    password: password.into(),
                    data: Some(data.into()),
                    request_id: String::new(),
                    challenge_solution: solution.into(),
                };
                grpc(app.client().await.register(request).await.map(|response| response.into_inner().user))
            }
            Api::Legacy => {
                let parameters = [("username", username), ("password", password), ("data", data), ("altcha", solution)];
                match legacy(app, "POST", &format!("/register?{}", query(&parameters))).await {
                    Answer::Ok { data } if data == "Success" => Answer::Ok { data },
                    Answer::Ok { data: text } => Answer::Http { status: 200, text, retry_after: None },
                    refused => refused,
                }
            }
        }
    }

    pub async fn login(self, app: &App, username: &str, password: &str) -> Answer {
        self.login_with(app, username, password, "").await
    }

    /// Like [`Self::login`], with the solution of a proof of work.
    pub async fn login_with(self, app: &App, username: &str, password: &str, solution: &str) -> Answer {
        match self {
            Api::Grpc => {
                let request = pb::LoginRequest {
                    username: username.into(),
                    password: password.into(),
                    challenge_solution: solution.into(),
                };
                grpc(app.client().await.login(request).await.map(|response| response.into_inner().user))
            }
            Api::Legacy => {
                let parameters = [("username", username), ("password", password), ("altcha", solution)];
                match legacy(app, "GET", &format!("/login?{}", query(&parameters))).await {
                    // The original route reports a refused login with status 200.
                    Answer::Ok { data } if data == "User not found" => {
                        Answer::Http { status: 200, text: data, retry_after: None }
                    }
                    answer => answer,
                }
            }
        }
    }
}

impl Answer {
    /// `ok`, or the refusal: the reason of the gRPC API, or the status and text of the HTTP API.
    pub fn outcome(&self) -> String {
        match self {
            Answer::Ok { .. } => "ok".into(),
            Answer::Grpc(status) => reason(status),
            Answer::Http { status, text, .. } => format!("{status} {}", text.trim_end()),
        }
    }

    /// The user's data. Panics if the call was refused.
    pub fn data(&self) -> &str {
        match self {
            Answer::Ok { data } => data,
            Answer::Grpc(_) | Answer::Http { .. } => panic!("refused: {}", self.outcome()),
        }
    }

    /// Whether the credentials were refused, as this API reports it.
    pub fn is_wrong_credentials(&self) -> bool {
        match self {
            Answer::Ok { .. } => false,
            Answer::Grpc(status) => status.code() == Code::Unauthenticated && reason(status) == "INVALID_CREDENTIALS",
            Answer::Http { status, text, .. } => *status == 200 && text == "User not found",
        }
    }

    /// Whether the username was taken, as this API reports it.
    pub fn is_taken(&self) -> bool {
        match self {
            Answer::Ok { .. } => false,
            Answer::Grpc(status) => status.code() == Code::AlreadyExists && reason(status) == "USER_ALREADY_EXISTS",
            Answer::Http { status, text, .. } => *status == 200 && text == "User already registered.",
        }
    }
}

fn grpc(result: Result<Option<pb::User>, Status>) -> Answer {
    match result {
        Ok(user) => Answer::Ok { data: user.expect("a response has a user").data.expect("a user has data") },
        Err(status) => Answer::Grpc(Box::new(status)),
    }
}

async fn legacy(app: &App, method: &str, target: &str) -> Answer {
    let reply = http(app.http_socket(), method, target, &[], "").await;
    let retry_after = reply.header("retry-after").map(|seconds| seconds.parse().unwrap());
    match reply.status {
        200 => Answer::Ok { data: reply.body },
        status => Answer::Http { status, text: reply.body, retry_after },
    }
}

/// A request with an access token in its metadata.
pub fn with_bearer<T>(token: &str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("authorization", MetadataValue::try_from(format!("Bearer {token}")).unwrap());
    request
}

/// A request that a trusted proxy forwards for this client address.
pub fn forwarded_for<T>(address: &str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("x-forwarded-for", MetadataValue::try_from(address).unwrap());
    request
}

/// The reason in the `ErrorInfo` of an error. Every error has exactly one.
pub fn reason(status: &Status) -> String {
    let infos: Vec<rpc::ErrorInfo> = details(status, "google.rpc.ErrorInfo");
    let [info] = infos.as_slice() else { panic!("{} ErrorInfos in {status:?}", infos.len()) };
    assert_eq!(info.domain, "auth.watchword.dev");
    let known = pb::ErrorReason::from_str_name(&format!("ERROR_REASON_{}", info.reason));
    assert!(known.is_some(), "{} is not in the contract", info.reason);
    info.reason.clone()
}

/// All error details of one type.
pub fn details<M: Message + Default>(status: &Status, name: &str) -> Vec<M> {
    let packed = rpc::Status::decode(status.details()).expect("the details are a google.rpc.Status");
    if !status.details().is_empty() {
        assert_eq!((packed.code, packed.message.as_str()), (status.code().into(), status.message()));
    }
    let type_url = format!("type.googleapis.com/{name}");
    let found = packed.details.iter().filter(|any| any.type_url == type_url);
    found.map(|any| M::decode(&*any.value).expect("the message matches its type URL")).collect()
}

/// The percent-encoded query string of these parameters.
pub fn query(parameters: &[(&str, &str)]) -> String {
    let encode = |text: &str| -> String {
        text.bytes()
            .map(|byte| match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' => char::from(byte).to_string(),
                _ => format!("%{byte:02X}"),
            })
            .collect()
    };
    parameters.iter().map(|(name, value)| format!("{name}={}", encode(value))).collect::<Vec<_>>().join("&")
}
