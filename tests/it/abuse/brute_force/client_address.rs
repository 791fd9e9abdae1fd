//! Whose address counts over gRPC, where one gateway calls for all users.

use super::{login, login_forwarded, outcome};
use crate::{
    abuse::proof_of_work::{challenge_for, solution_of},
    support::{Api, App, ManualClock, StoreKind, http_from, password, query},
};

/// One user of a gateway tries a password at each of 120 accounts, then another logs in. Answers how many passwords were
/// verified, and the outcome of the login.
async fn spray_through_a_gateway(forwards: bool, args: &[&str]) -> (usize, String, App) {
    let limits = ["--throttle", "on", "--failure-alert", "20/1m"];
    let app = App::with(StoreKind::Memory).args(&limits).args(args).clock(ManualClock::stopped()).start().await;
    // Not through the gateway, whose address must not be familiar.
    let target = format!("/register?{}", query(&[("username", "ada"), ("password", &password("ada"))]));
    assert_eq!(http_from([127, 9, 9, 9], app.http_socket(), "POST", &target).await.body, "Success");
    let send = async |address: &str, name: &str, password: &str| match forwards {
        true => outcome(&login_forwarded(&app, address, name, password).await),
        false => outcome(&login(&app, name, password).await),
    };
    let mut verified = 0;
    for number in 0..120 {
        let outcome = send("203.0.113.66", &format!("name{number}"), "wrong password").await;
        verified += usize::from(outcome == "INVALID_CREDENTIALS");
    }
    let victim = send("198.51.100.7", "ada", &password("ada")).await;
    (verified, victim, app)
}

#[tokio::test(flavor = "multi_thread")]
async fn forwarded_address_is_counted_and_other_users_of_the_gateway_log_in() {
    let (verified, victim, _) = spray_through_a_gateway(true, &["--trusted-proxy", "127.0.0.1"]).await;
    assert_eq!((verified, victim.as_str()), (100, "ok"));
}

#[tokio::test(flavor = "multi_thread")]
async fn gateway_without_addresses_is_asked_for_proof_of_work_after_many_failures() {
    let (verified, victim, app) = spray_through_a_gateway(false, &["--client-address", "none"]).await;
    assert_eq!((verified, victim.as_str()), (20, "CHALLENGE_REQUIRED"));
    let proof = solution_of(&challenge_for(&app, "ada").await);
    assert_eq!(Api::Grpc.login_with(&app, "ada", &password("ada"), &proof).await.outcome(), "ok");
}

/// The control: a node that takes the gateway for the user.
#[tokio::test(flavor = "multi_thread")]
async fn control_counting_the_gateway_as_the_user_refuses_its_other_users() {
    for forwards in [true, false] {
        let (verified, victim, _) = spray_through_a_gateway(forwards, &["--client-address", "peer"]).await;
        assert_eq!((verified, victim.as_str()), (100, "RATE_LIMITED"), "forwards: {forwards}");
    }
}

/// The control: without addresses, and without a demand for proof of work, one caller tries a password at every account.
#[tokio::test(flavor = "multi_thread")]
async fn control_gateway_without_addresses_and_proof_of_work_tries_every_account() {
    let args = ["--client-address", "none", "--failure-alert-action", "alert"];
    let (verified, victim, _) = spray_through_a_gateway(false, &args).await;
    assert_eq!((verified, victim.as_str()), (120, "ok"));
}
