//! The rate limit of an account: attempts in each period, whatever the API, the spelling, the node or a restart.

use std::{sync::Arc, time::Duration};

use futures_util::future::join_all;
use tokio::{io::AsyncWriteExt, net::TcpStream};
use tonic::Request;
use watchword::{
    api::{pb, rpc},
    config::Config,
    domain::password::Cost,
};

use super::{
    RATE_LIMITS, concurrent_attempts, is_limited, login, login_from, outcome, rate_limit_of, with_rate_limits,
};
use crate::support::{
    Api, App, ManualClock, StoreKind, TestStore, details,
    fault::{Fault, Faulty},
    http, password, query, reason,
};

/// T6. Concurrent attempts are limited like sequential ones, also after a restart.
#[tokio::test(flavor = "multi_thread")]
async fn concurrent_attempts_are_limited_to_ten_and_a_restart_allows_no_more() {
    for kind in StoreKind::DURABLE {
        let place = TestStore::new(kind);
        let app = with_rate_limits(kind).start_in(place.clone()).await;
        app.registered("ada").await;
        let before = app.events.count("hashed");
        for name in ["ada", "unknown"] {
            let (verified, limited) = concurrent_attempts(&app, name, 200).await;
            assert_eq!((verified, limited), (10, 190), "{kind:?}, {name}");
        }
        assert_eq!(app.events.count("hashed") - before, 20, "{kind:?}");
        assert_eq!(rate_limit_of(&login(&app, "ada", &password("ada")).await.unwrap_err()).0, "account");
        app.stopped().await;

        let app = with_rate_limits(kind).start_in(place).await;
        for name in ["ada", "unknown"] {
            let error = login(&app, name, &password("ada")).await.unwrap_err();
            assert_eq!(rate_limit_of(&error).0, "account", "{kind:?}, {name}: after a restart");
        }
        assert_eq!(app.events.count("hashed"), 0, "{kind:?}");
    }
}

/// The control of T6: without rate limits all attempts are verified, and a store that forgets failures allows more attempts.
#[tokio::test(flavor = "multi_thread")]
async fn control_without_rate_limits_or_stored_failures_verifies_more_attempts() {
    let app = App::with(StoreKind::Memory).start().await;
    // The hash queue may refuse some.
    let (verified, _) = concurrent_attempts(&app, "ada", 200).await;
    let limited = app.events.count("rate limited") + app.events.count("attempts in flight");
    assert!(verified > 20 && limited == 0, "{verified} verified, {limited} limited");

    for (fault, expected) in [(Fault::None, "RATE_LIMITED"), (Fault::ForgetsFailures, "INVALID_CREDENTIALS")] {
        let store = Faulty::with(fault);
        let app = App::on(store.clone()).args(&RATE_LIMITS).start().await;
        assert_eq!(concurrent_attempts(&app, "ada", 50).await.0, 10);
        app.stopped().await;
        let app = App::on(store).args(&RATE_LIMITS).start().await;
        assert_eq!(outcome(&login(&app, "ada", "one more").await), expected, "{fault:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn failed_attempts_that_cannot_be_stored_count_at_once_and_are_stored_later() {
    let store = Faulty::with(Fault::None);
    let app = App::on(store.clone()).args(&RATE_LIMITS).start().await;
    app.registered("ada").await;
    store.set(Fault::WritesNothing);
    assert_eq!(concurrent_attempts(&app, "ada", 50).await.0, 10);
    app.rules.store_failed_attempts().await;
    assert_eq!(outcome(&login(&app, "ada", &password("ada")).await), "RATE_LIMITED");
    store.set(Fault::None);
    app.stopped().await;
    let app = App::on(store).args(&RATE_LIMITS).start().await;
    assert_eq!(outcome(&login(&app, "ada", &password("ada")).await), "RATE_LIMITED");
}

/// An attempt that waits to be stored does not make the time since then count as used up.
#[tokio::test(flavor = "multi_thread")]
async fn attempts_during_a_long_store_outage_are_limited_like_others() {
    let clock = Arc::new(ManualClock::stopped());
    let store = Faulty::with_clock(Fault::None, clock.clone());
    let app = App::on(store.clone()).args(&RATE_LIMITS).clock(clock.clone()).start().await;
    app.registered("bob").await;
    store.set(Fault::WritesNothing);
    assert_eq!(outcome(&login(&app, "ada", "wrong password").await), "INVALID_CREDENTIALS");
    app.rules.store_failed_attempts().await;
    clock.advance(Duration::from_secs(3_600));
    assert_eq!(concurrent_attempts(&app, "ada", 30).await.0, 10);
    store.set(Fault::None);
    app.rules.store_failed_attempts().await;
    assert_eq!(rate_limit_of(&login(&app, "ada", "wrong password").await.unwrap_err()).1, Duration::from_secs(30));
}

/// Nodes whose attempts lead to the same stored value, at the same time, count all of them.
#[tokio::test(flavor = "multi_thread")]
async fn equal_attempts_of_two_nodes_at_the_same_time_are_both_counted() {
    let clock = Arc::new(ManualClock::stopped());
    let store = Faulty::with_clock(Fault::None, clock.clone());
    let node = || App::on(store.clone()).args(&RATE_LIMITS).args(&["--token-issuer", "https://auth.example"]);
    let (one, other) = (node().clock(clock.clone()).start().await, node().clock(clock.clone()).start().await);
    one.registered("bob").await;
    for round in 0..5 {
        for app in [&one, &other] {
            assert_eq!(outcome(&login(app, "ada", "wrong password").await), "INVALID_CREDENTIALS", "{round}");
        }
        store.set(Fault::LetsOthersRun);
        tokio::join!(one.rules.store_failed_attempts(), other.rules.store_failed_attempts());
        store.set(Fault::None);
    }
    assert_eq!(outcome(&login(&one, "ada", "wrong password").await), "RATE_LIMITED", "ten attempts are counted");
}

#[tokio::test(flavor = "multi_thread")]
async fn failed_attempt_with_a_lost_store_reply_is_counted_once() {
    let store = Faulty::with(Fault::None);
    let app = App::on(store.clone()).args(&RATE_LIMITS).start().await;
    app.registered("bob").await;
    store.set(Fault::ReplyLost);
    assert_eq!(outcome(&login(&app, "ada", "wrong password").await), "INVALID_CREDENTIALS");
    for _ in 0..20 {
        app.rules.store_failed_attempts().await;
    }
    store.set(Fault::None);
    assert_eq!(concurrent_attempts(&app, "ada", 20).await, (9, 11), "one of ten attempts was already counted");
    app.stopped().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn clock_set_back_neither_extends_nor_ends_the_rate_limit() {
    let place = TestStore::new(StoreKind::Embedded);
    let app = with_rate_limits(StoreKind::Embedded).start_in(place.clone()).await;
    app.registered("ada").await;
    assert_eq!(concurrent_attempts(&app, "ada", 20).await.0, 10);
    app.stopped().await;
    let clock = ManualClock::default();
    clock.set_back(Duration::from_secs(86_400));
    let app = with_rate_limits(StoreKind::Embedded).clock(clock).start_in(place).await;
    assert_eq!(outcome(&login(&app, "ada", &password("ada")).await), "RATE_LIMITED");
    app.clock.advance(Duration::from_secs(30));
    login(&app, "ada", &password("ada")).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn cancelled_attempt_counts_like_a_wrong_password() {
    let app = with_rate_limits(StoreKind::Memory).args(&["--throttle-per-address", "5/10m"]);
    let app = app.change(with_slow_hashes).start().await;
    app.registered("ada").await;
    abandon_attempts(&app, 5).await;
    let answer = login_from(&app, [127, 0, 0, 1], "bob", "wrong password").await;
    assert_eq!(answer.status, 429, "the limit of the address is used up");
    for number in 0..10 {
        let answer = login_from(&app, [127, 3, 3, number], "ada", "wrong password").await;
        assert_eq!(answer.status, if number < 5 { 200 } else { 429 }, "attempt {number}: five count at the account");
    }
}

pub fn with_slow_hashes(config: &mut Config) {
    config.hashing.workers = 1;
    config.hashing.cost = Cost { memory_kib: 19_456, passes: 4, lanes: 1 };
}

/// Attempts at ada whose caller leaves while the hash is computed, until so many count.
pub async fn abandon_attempts(app: &App, count: usize) {
    let mut cancelled = 0;
    while app.events.count("abandoned") < count {
        cancelled += 1;
        assert!(cancelled < 200, "cancelled attempts never count");
        let hashed = app.events.count("hashed");
        let mut stream = TcpStream::connect(app.http_socket()).await.unwrap();
        let request = "GET /login?username=ada&password=wrong-password HTTP/1.1\r\nhost: localhost\r\n\r\n";
        stream.write_all(request.as_bytes()).await.unwrap();
        // The hash has begun or is about to begin. Not every attempt is being hashed when its caller leaves.
        while app.rules.hash_pool().is_idle() && app.events.count("hashed") == hashed {
            tokio::task::yield_now().await;
        }
        drop(stream);
        while !app.rules.hash_pool().is_idle() {
            tokio::task::yield_now().await;
        }
    }
}

/// T7. All spellings on all APIs are one account.
#[tokio::test(flavor = "multi_thread")]
async fn attempts_in_all_spellings_on_all_apis_count_for_one_account() {
    let app = with_rate_limits(StoreKind::Memory).start().await;
    let name = "jos\u{e9}@example.com";
    app.registered(name).await;
    let before = app.events.count("hashed");
    let spellings = [name, "JOS\u{c9}@EXAMPLE.COM", "jose\u{301}@example.com", "ｊｏｓ\u{e9}@Example.com"];
    for round in 0..8 {
        for spelling in spellings {
            for api in Api::ALL {
                let answer = api.login(&app, spelling, &format!("wrong password {round}")).await;
                assert!(answer.is_wrong_credentials() || is_limited(&answer), "{}", answer.outcome());
            }
        }
    }
    let verified = app.events.count("hashed") - before;
    assert!(verified <= 10, "{verified} attempts were verified");
    assert!(is_limited(&Api::Grpc.login(&app, name, &password(name)).await));
}

#[tokio::test(flavor = "multi_thread")]
async fn attempt_is_admitted_after_exactly_the_reported_retry_delay() {
    let app = with_rate_limits(StoreKind::Memory).clock(ManualClock::stopped()).start().await;
    app.registered("ada").await;
    assert_eq!(concurrent_attempts(&app, "ada", 10).await, (10, 0));
    let (name, wait) = rate_limit_of(&login(&app, "ada", &password("ada")).await.unwrap_err());
    assert_eq!((name.as_str(), wait), ("account", Duration::from_secs(30)), "a tenth of five minutes");
    for _ in 0..20 {
        assert_eq!(
            rate_limit_of(&login(&app, "ada", "more").await.unwrap_err()).1,
            wait,
            "a refused attempt does not count as failed"
        );
    }
    app.clock.advance(wait - Duration::from_millis(1));
    assert_eq!(rate_limit_of(&login(&app, "ada", &password("ada")).await.unwrap_err()).1, Duration::from_millis(1));
    app.clock.advance(Duration::from_millis(1));
    login(&app, "ada", &password("ada")).await.unwrap();
    // A correct password does not use up the limit.
    login(&app, "ada", &password("ada")).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_correct_passwords_are_never_limited() {
    let app = with_rate_limits(StoreKind::Memory).start().await;
    app.registered("ada").await;
    let channel = app.channel().await;
    let logins = (0..40).map(|_| {
        let mut client = pb::auth_client::AuthClient::new(channel.clone());
        let request =
            pb::LoginRequest { username: "ada".into(), password: password("ada"), challenge_solution: String::new() };
        async move { client.login(request).await.map(|_| ()) }
    });
    for login in join_all(logins).await {
        assert_eq!(outcome(&login), "ok");
    }
    let target = format!("/login?{}", query(&[("username", "ada"), ("password", &password("ada"))]));
    let logins = (0..40).map(|_| http(app.http_socket(), "GET", &target, &[], ""));
    for reply in join_all(logins).await {
        assert_eq!((reply.status, reply.body.as_str()), (200, "data of ada"));
    }
    assert_eq!(app.events.count("rate limited"), 0);
}

/// Right passwords in parallel are no attack: calls beyond those that wait are told when to come back, and all get in.
#[tokio::test(flavor = "multi_thread")]
async fn ninety_six_right_logins_at_once_are_never_rate_limited() {
    for kind in StoreKind::ALL {
        let folder = tempfile::TempDir::new().unwrap();
        let audit_log = folder.path().join("audit");
        let args = ["--audit-log", &audit_log.display().to_string()];
        let app = with_rate_limits(kind).args(&args).start().await;
        app.registered("ada").await;
        // No attempt settles before all calls have arrived and the wait of those in the wait queue has passed.
        app.events.hold_workers(true);
        let right = password("ada");
        let waiting = join_all((0..96).map(|_| login(&app, "ada", &right)));
        let release = async {
            // Ten attempts are in flight and wait for their hash.
            app.events.reached("call ended", 1 + 86).await;
            app.events.hold_workers(false);
        };
        let (logins, ()) = tokio::join!(waiting, release);
        let refused: Vec<_> = logins.into_iter().filter_map(Result::err).collect();
        assert_eq!(refused.len(), 86, "{kind:?}: ten may still fail");
        for status in refused {
            assert_eq!(reason(&status), "OVERLOADED", "{kind:?}");
            let retry: Vec<rpc::RetryInfo> = details(&status, "google.rpc.RetryInfo");
            let wait: Duration = retry[0].retry_delay.unwrap().try_into().unwrap();
            assert!(wait <= Duration::from_secs(5), "{kind:?}: {wait:?}");
        }
        assert_eq!(outcome(&login(&app, "ada", &password("ada")).await), "ok", "{kind:?}: no attempt counts");
        assert_eq!(app.events.count("attempts in flight"), 86, "{kind:?}");
        assert_eq!((app.events.count("rate limited"), app.events.count("overloaded")), (0, 0), "{kind:?}");
        app.stopped().await;
        let lines = std::fs::read_to_string(&audit_log).unwrap();
        assert!(lines.contains("authn_login_success"), "{kind:?}");
        assert!(!lines.contains("excess_rate_limit_exceeded"), "{kind:?}: {lines}");
    }
}

/// The same with wrong passwords: attempts side by side get no more than attempts in a row, and then the limit refuses.
#[tokio::test(flavor = "multi_thread")]
async fn ninety_six_wrong_logins_at_once_are_verified_no_more_than_in_a_row() {
    for kind in StoreKind::ALL {
        let app = with_rate_limits(kind).start().await;
        app.registered("ada").await;
        let hashed_before = app.events.count("hashed");
        assert_eq!(concurrent_attempts(&app, "ada", 96).await, (10, 86), "{kind:?}");
        assert_eq!(app.events.count("hashed") - hashed_before, 10, "{kind:?}");
        assert!(app.events.count("rate limited") > 0, "{kind:?}: those that waited see that the limit is used up");
        let (name, wait) = rate_limit_of(&login(&app, "ada", &password("ada")).await.unwrap_err());
        assert_eq!(name, "account", "{kind:?}");
        assert!(wait > Duration::from_secs(20), "{kind:?}: {wait:?}");
    }
}

/// T9. An attacker who exhausts the limit of an account does not lock out its user at familiar addresses.
#[tokio::test(flavor = "multi_thread")]
async fn victim_logs_in_from_a_familiar_address_while_a_hundred_addresses_attack() {
    for kind in [StoreKind::Memory, StoreKind::Redis] {
        let app = with_rate_limits(kind).start().await;
        app.registered("victim").await;
        let familiar_address = [127, 9, 9, 9];
        assert_eq!(login_from(&app, familiar_address, "victim", &password("victim")).await.body, "data of victim");
        let mut refused = 0;
        for round in 0..10_u8 {
            let attacks =
                (0..100_u8).map(|number| login_from(&app, [127, 1, round, number], "victim", "wrong password"));
            let victim = async {
                for _ in 0..10 {
                    let reply = login_from(&app, familiar_address, "victim", &password("victim")).await;
                    assert_eq!((reply.status, reply.body.as_str()), (200, "data of victim"), "{kind:?}");
                }
            };
            let (replies, ()) = tokio::join!(join_all(attacks), victim);
            refused += replies.iter().filter(|reply| reply.status == 429).count();
        }
        assert_eq!(refused, 990, "{kind:?}: ten attempts were verified");
        // From other addresses the limit of the account applies to the user too.
        assert_eq!(login_from(&app, [127, 8, 8, 8], "victim", &password("victim")).await.status, 429);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_on_one_redis_share_the_failed_attempts() {
    let place = TestStore::new(StoreKind::Redis);
    let node = || with_rate_limits(StoreKind::Redis).args(&["--token-issuer", "https://auth.example"]);
    let (one, other) = (node().start_in(place.clone()).await, node().start_in(place).await);
    one.registered("ada").await;
    assert_eq!(concurrent_attempts(&one, "ada", 6).await, (6, 0));
    one.rules.store_failed_attempts().await;
    assert_eq!(concurrent_attempts(&other, "ada", 6).await, (4, 2));
    other.rules.store_failed_attempts().await;
    assert_eq!(rate_limit_of(&login(&one, "ada", &password("ada")).await.unwrap_err()).0, "account");
}

#[tokio::test(flavor = "multi_thread")]
async fn reauthentication_has_five_attempts_for_each_session() {
    let app = with_rate_limits(StoreKind::Memory).start().await;
    app.registered("ada").await;
    let tokens = app.authenticate("ada").await;
    let with_token = |message| {
        let mut request = Request::new(message);
        let value = format!("Bearer {}", tokens.access_token);
        request.metadata_mut().insert("authorization", value.parse().unwrap());
        request
    };
    let mut client = app.client().await;
    let mut outcomes = Vec::new();
    for attempt in 0..6 {
        let current_password = format!("wrong password {attempt}");
        let outcome = if attempt % 2 == 0 {
            let change = pb::ChangePasswordRequest {
                current_password,
                new_password: "another password".into(),
                ..Default::default()
            };
            let mut request = Request::new(change);
            *request.metadata_mut() = with_token(()).metadata().clone();
            client.change_password(request).await.map(|_| ()).unwrap_err()
        } else {
            let mut request = Request::new(pb::DeleteUserRequest { current_password, ..Default::default() });
            *request.metadata_mut() = with_token(()).metadata().clone();
            client.delete_user(request).await.map(|_| ()).unwrap_err()
        };
        outcomes.push(reason(&outcome));
    }
    assert_eq!(outcomes[..5], ["INVALID_CREDENTIALS"; 5]);
    assert_eq!(outcomes[5], "RATE_LIMITED");
    // These attempts count for one session, so the user can still log in.
    login(&app, "ada", &password("ada")).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn failure_alert_is_reported_once_a_minute_and_refuses_no_attempt() {
    let app = with_rate_limits(StoreKind::Memory).args(&["--failure-alert", "5/1m"]).start().await;
    app.registered("ada").await;
    for (round, alerts) in [(0, 1), (1, 2)] {
        for number in 0..8 {
            let result = login(&app, &format!("user{round}-{number}"), "wrong password").await;
            assert_eq!(outcome(&result), "INVALID_CREDENTIALS");
        }
        assert_eq!(app.events.count("many failures"), alerts, "once a minute");
        app.clock.advance(Duration::from_secs(60));
    }
    login(&app, "ada", &password("ada")).await.unwrap();
}
