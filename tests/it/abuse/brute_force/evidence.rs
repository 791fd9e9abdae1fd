//! Attempts with a proof of work or from a familiar address, and what is asked where no address is known.

use std::time::Duration;

use altcha::Challenge;
use futures_util::future::join_all;
use tonic::Code;
use watchword::api::pb;

use super::{RATE_LIMITS, login, login_forwarded, login_from, outcome, rate_limit_of, with_lowest_lockout_threshold};
use crate::{
    abuse::proof_of_work::{LOGIN, REGISTER, challenge_for, solution, solution_of},
    support::{Api, App, ManualClock, StoreKind, all_but_this, forwarded_for, password, reason, with_bearer},
};

/// A server that asks for proof of work where no address is known.
fn without_addresses(kind: StoreKind) -> crate::support::Setup {
    App::with(kind).args(&["--throttle", "on"])
}

async fn login_with(app: &App, username: &str, password: &str, solution: String) -> Result<(), tonic::Status> {
    let request =
        pb::LoginRequest { username: username.into(), password: password.into(), challenge_solution: solution };
    app.client().await.login(request).await.map(|_| ())
}

/// One person behind a NAT uses up the limit of the address.
#[tokio::test(flavor = "multi_thread")]
async fn known_user_at_an_address_with_many_failures_logs_in_and_a_solution_opens_others() {
    for kind in StoreKind::ALL {
        let app = App::with(kind).args(&RATE_LIMITS).args(&["--throttle-per-address", "20/10m"]).start().await;
        for name in ["ada", "bob"] {
            app.registered(name).await;
        }
        let address = [127, 0, 0, 1];
        assert_eq!(login_from(&app, address, "ada", &password("ada")).await.body, "data of ada");
        for number in 0..30 {
            login_from(&app, address, &format!("name{number}"), "wrong password").await;
        }
        assert_eq!(login_from(&app, address, "ada", &password("ada")).await.body, "data of ada", "{kind:?}");
        assert_eq!(login_from(&app, address, "bob", &password("bob")).await.status, 429, "{kind:?}: not familiar");
        let proof = solution(&app, LOGIN).await;
        let answer = Api::Legacy.login_with(&app, "bob", &password("bob"), &proof).await;
        assert_eq!(answer.data(), "data of bob", "{kind:?}");
    }
}

/// An attacker uses up the limit of the address of other users. The control is the same password there, without evidence.
#[tokio::test(flavor = "multi_thread")]
async fn users_get_in_at_an_address_with_many_failures_only_with_evidence() {
    let args = ["--trusted-proxy", "127.0.0.1", "--throttle-per-address", "20/10m"];
    let app = App::with(StoreKind::Memory).args(&RATE_LIMITS).args(&args).start().await;
    let (shared, elsewhere) = ("192.0.2.1", "198.51.100.1");
    for (address, name) in [(shared, "familiar"), (elsewhere, "new")] {
        let request = pb::RegisterRequest { username: name.into(), password: password(name), ..Default::default() };
        app.client().await.register(forwarded_for(address, request)).await.unwrap();
    }
    let token = login_forwarded(&app, elsewhere, "new", &password("new")).await.unwrap().tokens.unwrap().access_token;
    for number in 0..20 {
        let answer = login_forwarded(&app, shared, &format!("name{number}"), "wrong password").await;
        assert_eq!(outcome(&answer), "INVALID_CREDENTIALS", "{number}");
    }
    let without_evidence = async || {
        let error = login_forwarded(&app, shared, "new", &password("new")).await.unwrap_err();
        assert_eq!(rate_limit_of(&error).0, "address");
    };
    without_evidence().await;
    login_forwarded(&app, shared, "familiar", &password("familiar")).await.unwrap();
    let mut in_session = with_bearer(&token, all_but_this("new"));
    in_session.metadata_mut().insert("x-forwarded-for", shared.parse().unwrap());
    app.client().await.revoke_all_sessions(in_session).await.unwrap();
    without_evidence().await;
    let challenge_solution = solution_of(&challenge_for(&app, "new").await);
    let request = pb::LoginRequest { username: "new".into(), password: password("new"), challenge_solution };
    app.client().await.login(forwarded_for(shared, request)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn right_passwords_have_limits_by_account_and_by_address() {
    let limits = ["--throttle-attempts-per-account", "8/1m", "--throttle-attempts-per-address", "12/1m"];
    let app = App::with(StoreKind::Memory).args(&RATE_LIMITS).args(&limits).start().await;
    for name in ["ada", "bob"] {
        app.registered(name).await;
    }
    for _ in 0..8 {
        login(&app, "ada", &password("ada")).await.unwrap();
    }
    let error = login(&app, "ada", &password("ada")).await.unwrap_err();
    assert_eq!(rate_limit_of(&error).0, "account_attempts");
    for number in 0..12 {
        let name = if number % 2 == 0 { "bob".to_owned() } else { format!("name{number}") };
        assert_eq!(login_from(&app, [127, 1, 1, 1], &name, &password(&name)).await.status, 200, "{number}");
    }
    let reply = login_from(&app, [127, 1, 1, 1], "carol", &password("carol")).await;
    assert!(
        reply.status == 429
            && reply.body.contains("too many password attempts, right or wrong, came from this address"),
        "{reply:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn ipv6_networks_have_two_and_three_times_the_limit_of_an_address() {
    for (networks, expected) in [
        (["2001:db8:1:1::1", "2001:db8:1:1::2"].as_slice(), 4),
        (&["2001:db8:1:1::1", "2001:db8:1:2::1", "2001:db8:1:3::1", "2001:db8:1:4::1"], 8),
        (&["2001:db8:1:100::1", "2001:db8:1:200::1", "2001:db8:1:300::1", "2001:db8:1:400::1"], 12),
        (&["2001:db8:1::1", "2001:db8:2::1", "2001:db8:3::1", "2001:db8:4::1"], 16),
    ] {
        let limits = ["--throttle-per-address", "4/1h", "--trusted-proxy", "127.0.0.1"];
        let app = App::with(StoreKind::Memory).args(&RATE_LIMITS).args(&limits).start().await;
        let mut verified = 0;
        for number in 0..40 {
            let answer =
                login_forwarded(&app, networks[number % networks.len()], &format!("name{number}"), "wrong").await;
            verified += usize::from(outcome(&answer) == "INVALID_CREDENTIALS");
        }
        assert_eq!(verified, expected, "{networks:?}");
    }
}

/// No caller can lock a user out: a proof of work for this username opens the account.
#[tokio::test(flavor = "multi_thread")]
async fn account_at_its_limit_asks_callers_without_address_for_a_solution() {
    for kind in StoreKind::ALL {
        let app = without_addresses(kind).start().await;
        app.registered("ada").await;
        for name in ["ada", "unknown"] {
            for number in 0..12 {
                let expected = if number < 10 { "INVALID_CREDENTIALS" } else { "CHALLENGE_REQUIRED" };
                assert_eq!(outcome(&login(&app, name, "wrong password").await), expected, "{kind:?}, {name}, {number}");
            }
        }
        let for_ada = solution_of(&challenge_for(&app, "ada").await);
        let for_bob = solution_of(&challenge_for(&app, "bob").await);
        let error = login_with(&app, "ada", &password("ada"), for_bob).await.unwrap_err();
        assert_eq!((error.code(), reason(&error)), (Code::FailedPrecondition, "CHALLENGE_INVALID".into()), "{kind:?}");
        login_with(&app, "ada", &password("ada"), for_ada).await.unwrap();
        login_with(&app, "ada", &password("ada"), solution(&app, LOGIN).await).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn alert_about_failures_asks_only_callers_without_address_for_a_solution() {
    let app = without_addresses(StoreKind::Memory).args(&["--failure-alert", "6/1m"]).start().await;
    app.registered("ada").await;
    for number in 0..7 {
        let name = format!("name{number}");
        let expected = if number < 6 { "INVALID_CREDENTIALS" } else { "CHALLENGE_REQUIRED" };
        assert_eq!(outcome(&login(&app, &name, "wrong password").await), expected, "{number}");
    }
    assert_eq!(outcome(&login(&app, "ada", &password("ada")).await), "CHALLENGE_REQUIRED");
    login_with(&app, "ada", &password("ada"), solution_of(&challenge_for(&app, "ada").await)).await.unwrap();
    assert_eq!(login_from(&app, [127, 1, 1, 1], "ada", &password("ada")).await.body, "data of ada");
    app.clock.advance(Duration::from_secs(60));
    login(&app, "ada", &password("ada")).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn alert_about_registrations_asks_for_a_solution_and_is_reported_once() {
    let app = without_addresses(StoreKind::Memory).args(&["--registration-alert", "3/1h"]).start().await;
    for name in ["a", "b", "c"] {
        app.registered(name).await;
    }
    for name in ["d", "e"] {
        let answer = Api::Grpc.register(&app, name, &password(name), "").await;
        assert_eq!(answer.outcome(), "CHALLENGE_REQUIRED");
    }
    for name in ["d", "e"] {
        let proof = solution(&app, REGISTER).await;
        assert_eq!(Api::Grpc.register_with(&app, name, &password(name), "", &proof).await.outcome(), "ok");
    }
    assert_eq!(app.events.count("registration alert"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn registration_with_a_solution_passes_the_limit_of_the_address() {
    let app = App::with(StoreKind::Memory).args(&RATE_LIMITS).args(&["--throttle-registrations", "2/1h"]).start().await;
    for (name, expected) in [("a", "ok"), ("b", "ok"), ("c", "429 too many registrations")] {
        let outcome = Api::Legacy.register(&app, name, &password(name), "").await.outcome();
        assert!(outcome.starts_with(expected), "{outcome}");
    }
    let proof = solution(&app, REGISTER).await;
    let outcome = Api::Legacy.register_with(&app, "c", &password("c"), "", &proof).await.outcome();
    assert!(outcome.starts_with("ok"), "{outcome}");
}

fn rounds(challenge: &Challenge) -> u64 {
    u64::from(challenge.parameters.cost) << (4 * challenge.parameters.key_prefix.len())
}

#[tokio::test(flavor = "multi_thread")]
async fn price_doubles_with_each_hundred_failures_and_no_login_lowers_it() {
    let app = with_lowest_lockout_threshold(StoreKind::Memory).start().await;
    app.registered("ada").await;
    let basic = rounds(&challenge_for(&app, "ada").await);
    let early = solution_of(&challenge_for(&app, "ada").await);
    for (name, expected) in [("ada", 4), ("unknown", 4)] {
        fail_with_solutions(&app, name, 200).await;
        assert_eq!(rounds(&challenge_for(&app, name).await), expected * basic, "{name}");
    }
    let error = login_with(&app, "ada", &password("ada"), early).await.unwrap_err();
    assert_eq!(reason(&error), "CHALLENGE_REQUIRED", "two doublings too cheap");
    login(&app, "ada", &password("ada")).await.unwrap();
    login_with(&app, "ada", &password("ada"), solution_of(&challenge_for(&app, "ada").await)).await.unwrap();
    // An attack would be cheap again after each login, and would see that there is a user.
    assert_eq!(rounds(&challenge_for(&app, "ada").await), 4 * basic);
}

/// Solutions that were bought early and are sent at once open the account no more often than in a row.
#[tokio::test(flavor = "multi_thread")]
async fn cheap_solutions_sent_at_once_fail_no_more_often_than_their_price_allows() {
    for name in ["ada", "unknown"] {
        let app = with_lowest_lockout_threshold(StoreKind::Memory).start().await;
        app.registered("ada").await;
        let mut early = Vec::new();
        for _ in 0..40 {
            early.push(solution_of(&challenge_for(&app, name).await));
        }
        fail_with_solutions(&app, name, 195).await;
        let hashed = app.events.count("hashed");
        let answers = join_all(early.into_iter().map(|proof| login_with(&app, name, "wrong password", proof))).await;
        let reasons: Vec<_> = answers.iter().map(outcome).collect();
        assert_eq!(reasons.iter().filter(|reason| *reason == "INVALID_CREDENTIALS").count(), 5, "{name}: {reasons:?}");
        assert_eq!(app.events.count("hashed") - hashed, 5, "{name}: 200 open no account with the basic work");
        assert!(reasons.iter().all(|reason| reason != "RATE_LIMITED"), "{name}: {reasons:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn price_falls_with_each_hour_without_failures() {
    let app = with_lowest_lockout_threshold(StoreKind::Memory).clock(ManualClock::stopped()).start().await;
    app.registered("ada").await;
    let basic = rounds(&challenge_for(&app, "ada").await);
    for name in ["ada", "unknown"] {
        fail_with_solutions(&app, name, 202).await;
    }
    let mut hours = 0;
    for (after, expected) in [(0, 4), (2, 4), (3, 2), (102, 2), (103, 1), (202, 1), (203, 1)] {
        app.clock.advance(Duration::from_secs(3_600 * (after - hours)));
        hours = after;
        for name in ["ada", "unknown"] {
            assert_eq!(rounds(&challenge_for(&app, name).await), expected * basic, "{name} after {after} hours");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn failures_of_one_kind_delay_the_end_of_no_other() {
    let app = with_lowest_lockout_threshold(StoreKind::Memory).clock(ManualClock::stopped()).start().await;
    app.registered("ada").await;
    let basic = rounds(&challenge_for(&app, "ada").await);
    fail_with_solutions(&app, "ada", 100).await;
    for _ in 0..10 {
        login(&app, "ada", "wrong password").await.unwrap_err();
    }
    assert_eq!(rounds(&challenge_for(&app, "ada").await), 2 * basic);
    app.clock.advance(Duration::from_secs(2 * 3_600));
    assert_eq!(rounds(&challenge_for(&app, "ada").await), basic, "100 attempts, of which 98 hours are left");
    assert_eq!(outcome(&login(&app, "ada", &password("ada")).await), "CHALLENGE_REQUIRED", "ten hours of lockout");
    app.clock.advance(Duration::from_secs(8 * 3_600));
    assert_eq!(outcome(&login(&app, "ada", &password("ada")).await), "ok", "the others lock nothing");
}

/// Failed attempts with proof of work in a row.
async fn fail_with_solutions(app: &App, username: &str, count: usize) {
    for number in 0..count {
        let proof = solution_of(&challenge_for(app, username).await);
        let error = login_with(app, username, "wrong password", proof).await.unwrap_err();
        assert_eq!(reason(&error), "INVALID_CREDENTIALS", "{username}, {number}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_address_may_use_a_tenth_of_the_paid_attempts_at_an_account() {
    let limits = ["--throttle-proof-of-work-per-account", "20/24h", "--trusted-proxy", "127.0.0.1"];
    let app = App::with(StoreKind::Memory).args(&RATE_LIMITS).args(&limits).start().await;
    let mut verified = [0; 12];
    for (address, verified) in verified.iter_mut().enumerate() {
        for _ in 0..4 {
            let proof = solution_of(&challenge_for(&app, "ada").await);
            let mut request = tonic::Request::new(pb::LoginRequest {
                username: "ada".into(),
                password: "wrong password".into(),
                challenge_solution: proof,
            });
            request.metadata_mut().insert("x-forwarded-for", format!("192.0.2.{address}").parse().unwrap());
            let error = app.client().await.login(request).await.unwrap_err();
            match reason(&error).as_str() {
                "INVALID_CREDENTIALS" => *verified += 1,
                _ => assert_eq!(rate_limit_of(&error).0, "proof_of_work"),
            }
        }
    }
    assert_eq!(verified, [2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 0, 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn familiar_address_has_a_lockout_threshold_of_its_own() {
    let app = with_lowest_lockout_threshold(StoreKind::Memory).start().await;
    app.registered("ada").await;
    let familiar = [127, 9, 9, 9];
    assert_eq!(login_from(&app, familiar, "ada", &password("ada")).await.body, "data of ada");
    for _ in 0..10 {
        assert_eq!(login_from(&app, familiar, "ada", "wrong password").await.body, "User not found");
    }
    let error = login(&app, "ada", "wrong password").await;
    assert_eq!(outcome(&error), "INVALID_CREDENTIALS", "others have their own count");
    // Now the familiar address is like any other, of whose failures one is counted.
    for _ in 0..9 {
        assert_eq!(login_from(&app, familiar, "ada", "wrong password").await.body, "User not found");
    }
    let reply = login_from(&app, familiar, "ada", &password("ada")).await;
    assert!(reply.body.starts_with("send the solution of a challenge"), "{reply:?}");
}
