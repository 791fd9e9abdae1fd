//! A service that requires an access token: an axum handler and ten lines of `main`.
//!
//! Run it while `cargo run --release` runs: `cargo run --release --example protected`, then with the access token of
//! a login `curl -H "authorization: Bearer $TOKEN" http://127.0.0.1:3000/hello`. It only fetches the public keys from
//! Watchword.
#![expect(clippy::print_stdout, clippy::disallowed_methods, reason = "a separate program, not part of the service")]

use std::{env, error::Error};

use axum::{Router, routing::get};
use tokio::net::TcpListener;
use watchword::client::{Identity, Verifier, VerifyLayer};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let issuer = env::var("WATCHWORD_ISSUER").unwrap_or("http://127.0.0.1:5000".into());
    let verifier = Verifier::builder(issuer, "watchword").build()?;
    let app = Router::new().route("/hello", get(hello)).layer(VerifyLayer::new(verifier));

    let address = env::var("HELLO_ADDR").unwrap_or("127.0.0.1:3000".into());
    let listener = TcpListener::bind(address).await?;
    println!("listening on {}", listener.local_addr()?);
    axum::serve(listener, app).await?;
    Ok(())
}

async fn hello(identity: Identity) -> String {
    format!("hello {}\n", identity.user_id)
}
