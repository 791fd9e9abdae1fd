//! Brute force: attempts are limited on every API and in every spelling, for existing and unknown usernames.

mod account_limit;
mod address_limit;
mod client_address;
mod evidence;
mod exact_gcra;
mod lockout;
mod reauthentication;
mod retention;

use std::time::Duration;

use futures_util::future::join_all;
use tonic::{Request, Status};
use watchword::api::{pb, rpc};

pub use self::reauthentication::wrong_passwords_in_session;
use crate::support::{Answer, App, Reply, Setup, StoreKind, details, http_from, query, reason};

/// The default rate limits. Attempts without a client address are limited too, and not asked for proof of work.
const RATE_LIMITS: [&str; 4] = ["--throttle", "on", "--failure-alert-action", "alert"];

/// A server with the default rate limits.
fn with_rate_limits(kind: StoreKind) -> Setup {
    App::with(kind).args(&RATE_LIMITS)
}

/// The rate limits of a server that limits only consecutive failed attempts.
const UNLIMITED_RATES: [&str; 6] = [
    "--throttle-per-account",
    "1000000/1s",
    "--throttle-per-address-and-account",
    "1000000/1s",
    "--throttle-per-address",
    "1000000/1s",
];

/// A server that limits only consecutive failed attempts, with the lowest lockout threshold.
fn with_lowest_lockout_threshold(kind: StoreKind) -> Setup {
    with_rate_limits(kind).args(&UNLIMITED_RATES).args(&["--failure-cap", "10"])
}

async fn login(app: &App, username: &str, password: &str) -> Result<pb::LoginResponse, Status> {
    let request =
        pb::LoginRequest { username: username.into(), password: password.into(), challenge_solution: String::new() };
    app.client().await.login(request).await.map(|answer| answer.into_inner())
}

/// A login whose caller forwards the address of the end user.
async fn login_forwarded(
    app: &App,
    client_address: &str,
    username: &str,
    password: &str,
) -> Result<pb::LoginResponse, Status> {
    let mut request = Request::new(pb::LoginRequest {
        username: username.into(),
        password: password.into(),
        challenge_solution: String::new(),
    });
    request.metadata_mut().insert("x-forwarded-for", client_address.parse().unwrap());
    app.client().await.login(request).await.map(|answer| answer.into_inner())
}

fn outcome<T>(result: &Result<T, Status>) -> String {
    result.as_ref().map_or_else(reason, |_| "ok".into())
}

/// Concurrent attempts with wrong passwords. Returns how many were verified and how many were refused: by a rate limit, or
/// while others were in flight.
pub async fn concurrent_attempts(app: &App, username: &str, count: usize) -> (usize, usize) {
    let channel = app.channel().await;
    let attempts = (0..count).map(|number| {
        let mut client = pb::auth_client::AuthClient::new(channel.clone());
        let request = pb::LoginRequest {
            username: username.into(),
            password: format!("wrong password {number}"),
            challenge_solution: String::new(),
        };
        async move { reason(&client.login(request).await.unwrap_err()) }
    });
    let reasons = join_all(attempts).await;
    let count = |expected: &str| reasons.iter().filter(|reason| *reason == expected).count();
    (count("INVALID_CREDENTIALS"), count("RATE_LIMITED") + count("OVERLOADED"))
}

/// The name and the retry delay of the rate limit in a refusal.
pub fn rate_limit_of(status: &Status) -> (String, Duration) {
    assert_eq!(reason(status), "RATE_LIMITED", "{status:?}");
    let info: Vec<rpc::ErrorInfo> = details(status, "google.rpc.ErrorInfo");
    let retry: Vec<rpc::RetryInfo> = details(status, "google.rpc.RetryInfo");
    (info[0].metadata["limit"].clone(), retry[0].retry_delay.unwrap().try_into().unwrap())
}

fn is_limited(answer: &Answer) -> bool {
    let outcome = answer.outcome();
    outcome == "RATE_LIMITED" || outcome.starts_with("429 too many failed ")
}

/// A login on the original routes, from a loopback address.
async fn login_from(app: &App, from: [u8; 4], username: &str, password: &str) -> Reply {
    let target = format!("/login?{}", query(&[("username", username), ("password", password)]));
    http_from(from, app.http_socket(), "GET", &target).await
}
