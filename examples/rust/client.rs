//! First call from Rust: registers a user, logs in, and reads why a wrong password is refused.
//!
//! Run it: `cargo run --example client`. A service of yours generates `pb` and `rpc` from `proto/`.
#![expect(clippy::print_stdout, clippy::disallowed_methods, reason = "a program of its own, not part of the service")]

use std::{env, error::Error, time::Duration};

use prost::Message;
use tonic::{Request, Status, transport::Endpoint};
use uuid::Uuid;
use watchword::wire::pb::{LoginRequest, RegisterRequest, auth_client::AuthClient};
use watchword::wire::rpc;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let address = env::var("WATCHWORD_ADDR").unwrap_or("127.0.0.1:50051".into());
    let mut auth = AuthClient::new(Endpoint::from_shared(format!("http://{address}"))?.connect_lazy());
    let username = format!("ada-{}", &Uuid::new_v4().to_string()[..8]);
    let login = |password: &str| within_5s(LoginRequest { username: username.clone(), password: password.into() });

    // With a request_id the same registration can be sent again when its answer was lost.
    let (password, request_id) = ("correct horse battery staple", Uuid::new_v4().to_string());
    let ada = RegisterRequest { username: username.clone(), password: password.into(), data: None, request_id };
    auth.register(within_5s(ada)).await?;
    let user = auth.login(login(password)).await?.into_inner().user.ok_or("no user in the answer")?;
    println!("logged in: {} {}", user.username, user.user_id);

    let refusal = auth.login(login("wrong")).await.err().ok_or("a wrong password was accepted")?;
    let reason = reason(&refusal)?.filter(|reason| reason == "INVALID_CREDENTIALS").ok_or(refusal)?;
    println!("refused: {reason}");
    Ok(())
}

fn within_5s<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(Duration::from_secs(5));
    request
}

/// Why Watchword refused: a name from `error_reason.proto`. The text is for people, this is for programs.
fn reason(refusal: &Status) -> Result<Option<String>, prost::DecodeError> {
    let details = rpc::Status::decode(refusal.details())?.details;
    let info = details.iter().find(|detail| detail.type_url.ends_with("/google.rpc.ErrorInfo"));
    info.map(|info| Ok(rpc::ErrorInfo::decode(&*info.value)?.reason)).transpose()
}
