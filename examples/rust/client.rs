//! First call from Rust: registers a user, logs in, calls as the user, and reads the error reason of a wrong password.
//!
//! Run it while `cargo run --release` runs: `cargo run --release --example client`.
#![expect(clippy::print_stdout, clippy::disallowed_methods, reason = "a separate program, not part of the service")]

use std::{env, error::Error};

use uuid::Uuid;
use watchword::client::{Client, StatusExt, TokenSource, pb};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let address = env::var("WATCHWORD_ADDR").unwrap_or("127.0.0.1:50051".into());
    let watchword = Client::builder(format!("http://{address}")).connect().await?;
    let username = format!("ada-{}", &Uuid::new_v4().to_string()[..8]);

    // With a request_id the registration can be repeated when its response was lost.
    let (password, request_id) = ("correct horse battery staple", Uuid::new_v4().to_string());
    let ada =
        pb::RegisterRequest { username: username.clone(), password: password.into(), request_id, ..Default::default() };
    // Solves a challenge first if Watchword requires proof of work, as the login does.
    watchword.register(ada).await?;

    // Refreshes the tokens while the program runs.
    let tokens = TokenSource::new(&watchword, watchword.login(&username, password).await?.tokens);
    let response = watchword.auth_as(&tokens).get_user(pb::GetUserRequest {}).await?;
    let user = response.into_inner().user.ok_or("the response contains no user")?;
    println!("logged in: {} {}", user.username, user.user_id);

    let error = watchword.login(&username, "wrong").await.err().ok_or("a wrong password was accepted")?;
    match error.auth_reason() {
        Some(pb::ErrorReason::InvalidCredentials) => println!("refused: INVALID_CREDENTIALS"),
        _ => return Err(error.into()),
    }
    Ok(())
}
