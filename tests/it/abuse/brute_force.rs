//! Guessing at passwords: slow through every door and spelling, for names that exist and names that do not.

use std::{net::SocketAddr, time::Duration};

use futures_util::future::join_all;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
};
use tonic::{Request, Status};
use watchword::{
    api::{pb, rpc},
    domain::password::Cost,
};

use crate::{
    abuse::proof_of_work::{LOGIN, REGISTER, solution},
    support::{
        Api, App, ManualClock, Node, Place, Reply, Setup, StoreKind, command, details,
        fault::{Fault, Faulty},
        http, http_from, is_full, password, query, reason,
    },
};

/// A server that limits guessing, as servers do by default.
fn guarded(kind: StoreKind) -> Setup {
    App::with(kind).args(&["--throttle", "on"])
}

/// One that limits nothing but failures in a row, at the least.
fn capped(kind: StoreKind) -> Setup {
    let open = "1000000/1s";
    guarded(kind).args(&["--throttle-per-account", open, "--throttle-per-address-and-account", open]).args(&[
        "--throttle-per-address",
        open,
        "--failure-cap",
        "10",
    ])
}

async fn try_grpc(app: &App, username: &str, password: &str) -> Result<pb::LoginResponse, Status> {
    let request =
        pb::LoginRequest { username: username.into(), password: password.into(), challenge_solution: String::new() };
    app.client().await.login(request).await.map(|answer| answer.into_inner())
}

/// A login whose caller says where the end user is.
async fn try_for(app: &App, user_at: &str, username: &str, password: &str) -> Result<pb::LoginResponse, Status> {
    let mut request = Request::new(pb::LoginRequest {
        username: username.into(),
        password: password.into(),
        challenge_solution: String::new(),
    });
    request.metadata_mut().insert("x-forwarded-for", user_at.parse().unwrap());
    app.client().await.login(request).await.map(|answer| answer.into_inner())
}

fn outcome<T>(result: &Result<T, Status>) -> String {
    result.as_ref().map_or_else(reason, |_| "ok".into())
}

/// So many wrong guesses at once; how many of them each reason refused.
async fn guesses_at_once(app: &App, username: &str, count: usize) -> (usize, usize) {
    let channel = app.channel().await;
    let guesses = (0..count).map(|number| {
        let mut client = pb::auth_client::AuthClient::new(channel.clone());
        let request = pb::LoginRequest {
            username: username.into(),
            password: format!("wrong guess {number}"),
            challenge_solution: String::new(),
        };
        async move { reason(&client.login(request).await.unwrap_err()) }
    });
    let reasons = join_all(guesses).await;
    let count = |wanted: &str| reasons.iter().filter(|reason| *reason == wanted).count();
    (count("INVALID_CREDENTIALS"), count("RATE_LIMITED"))
}

/// The limit and the wait of a refusal.
fn limit(status: &Status) -> (String, Duration) {
    assert_eq!(reason(status), "RATE_LIMITED", "{status:?}");
    let info: Vec<rpc::ErrorInfo> = details(status, "google.rpc.ErrorInfo");
    let retry: Vec<rpc::RetryInfo> = details(status, "google.rpc.RetryInfo");
    (info[0].metadata["limit"].clone(), retry[0].retry_delay.unwrap().try_into().unwrap())
}

/// T6. Guesses side by side are no more than guesses in a row, and a restart begins no new row.
#[tokio::test(flavor = "multi_thread")]
async fn of_two_hundred_guesses_at_once_ten_are_looked_at_and_a_restart_gives_no_more() {
    for kind in StoreKind::KEPT {
        let place = Place::new(kind);
        let app = guarded(kind).start_in(place.clone()).await;
        app.registered("ada").await;
        let before = app.events.count("hashed");
        for name in ["ada", "nobody"] {
            let (looked_at, limited) = guesses_at_once(&app, name, 200).await;
            assert_eq!((looked_at, limited), (10, 190), "{kind:?}, {name}");
        }
        assert_eq!(app.events.count("hashed") - before, 20, "{kind:?}");
        assert_eq!(limit(&try_grpc(&app, "ada", &password("ada")).await.unwrap_err()).0, "account");
        app.stopped().await;

        let app = guarded(kind).start_in(place).await;
        for name in ["ada", "nobody"] {
            let refused = try_grpc(&app, name, &password("ada")).await.unwrap_err();
            assert_eq!(limit(&refused).0, "account", "{kind:?}, {name}: after a restart");
        }
        assert_eq!(app.events.count("hashed"), 0, "{kind:?}");
    }
}

/// The control of T6: what it counts is there to be counted, and a store that forgets failures shows.
#[tokio::test(flavor = "multi_thread")]
async fn without_throttles_all_guesses_are_looked_at_and_a_store_that_forgets_failures_shows() {
    let app = App::with(StoreKind::Memory).start().await;
    let (looked_at, limited) = guesses_at_once(&app, "ada", 200).await;
    assert!(looked_at > 20 && limited == 0, "{looked_at} looked at, {limited} limited");

    for (fault, expected) in [(Fault::None, "RATE_LIMITED"), (Fault::ForgetsFailures, "INVALID_CREDENTIALS")] {
        let store = Faulty::with(fault);
        let app = App::on(store.clone()).args(&["--throttle", "on"]).start().await;
        assert_eq!(guesses_at_once(&app, "ada", 50).await.0, 10);
        app.stopped().await;
        let app = App::on(store).args(&["--throttle", "on"]).start().await;
        assert_eq!(outcome(&try_grpc(&app, "ada", "one more").await), expected, "{fault:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn failures_that_cannot_be_stored_wait_until_they_can_and_count_meanwhile() {
    let store = Faulty::with(Fault::None);
    let app = App::on(store.clone()).args(&["--throttle", "on"]).start().await;
    app.registered("ada").await;
    store.set(Fault::WritesNothing);
    assert_eq!(guesses_at_once(&app, "ada", 50).await.0, 10);
    app.rules.store_failed_attempts().await;
    assert_eq!(outcome(&try_grpc(&app, "ada", &password("ada")).await), "RATE_LIMITED");
    store.set(Fault::None);
    app.stopped().await;
    let app = App::on(store).args(&["--throttle", "on"]).start().await;
    assert_eq!(outcome(&try_grpc(&app, "ada", &password("ada")).await), "RATE_LIMITED");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_whose_storing_was_not_heard_of_is_counted_once() {
    let store = Faulty::with(Fault::None);
    let app = App::on(store.clone()).args(&["--throttle", "on"]).start().await;
    app.registered("bob").await;
    store.set(Fault::ReplyLost);
    assert_eq!(outcome(&try_grpc(&app, "ada", "wrong guess").await), "INVALID_CREDENTIALS");
    for _ in 0..20 {
        app.rules.store_failed_attempts().await;
    }
    store.set(Fault::None);
    assert_eq!(guesses_at_once(&app, "ada", 20).await, (9, 11), "one of ten");
    app.stopped().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_goes_back_keeps_nobody_out_for_as_long() {
    let place = Place::new(StoreKind::Embedded);
    let app = guarded(StoreKind::Embedded).start_in(place.clone()).await;
    app.registered("ada").await;
    assert_eq!(guesses_at_once(&app, "ada", 20).await.0, 10);
    app.stopped().await;
    let clock = ManualClock::default();
    clock.set_back(Duration::from_secs(86_400));
    let app = guarded(StoreKind::Embedded).clock(clock).start_in(place).await;
    try_grpc(&app, "ada", &password("ada")).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_who_leaves_during_the_hash_has_used_up_a_place_of_his_address_and_nothing_of_the_account() {
    let app = guarded(StoreKind::Memory).args(&["--throttle-per-address", "5/10m"]).change(|config| {
        config.hashing.workers = 1;
        config.hashing.cost = Cost { memory_kib: 19_456, passes: 4, lanes: 1 };
    });
    let app = app.start().await;
    app.registered("ada").await;
    app.registered("bob").await;
    let is_limited = async || login_from(&app, [127, 0, 0, 1], "bob", &password("bob")).await.status == 429;
    let mut hung_up = 0;
    while !is_limited().await {
        hung_up += 1;
        assert!(hung_up < 200, "whoever hangs up is never limited");
        let hashed = app.events.count("hashed");
        let mut stream = TcpStream::connect(app.http_socket()).await.unwrap();
        let request = "GET /login?username=ada&password=wrong-guess HTTP/1.1\r\nhost: localhost\r\n\r\n";
        stream.write_all(request.as_bytes()).await.unwrap();
        // The hash has begun, or is about to: not each of them is in it when its caller leaves.
        while app.rules.hash_pool().is_idle() && app.events.count("hashed") == hashed {
            tokio::task::yield_now().await;
        }
        drop(stream);
        while !app.rules.hash_pool().is_idle() {
            tokio::task::yield_now().await;
        }
    }
    assert!(hung_up >= 5, "limited after {hung_up}");
    for number in 0..10 {
        let answer = login_from(&app, [127, 3, 3, number], "ada", "wrong guess").await;
        assert_eq!(answer.body, "User not found", "guess {number}: the account's limit is whole");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_cap_is_told_once_even_when_failures_are_stored_during_the_guesses() {
    let app = capped(StoreKind::Memory).start().await;
    for number in 0..10 {
        let guess = try_grpc(&app, "ada", "wrong guess");
        let (guess, ()) = tokio::join!(guess, app.rules.store_failed_attempts());
        assert_eq!(outcome(&guess), "INVALID_CREDENTIALS", "guess {number}");
    }
    assert_eq!(outcome(&try_grpc(&app, "ada", "wrong guess").await), "CHALLENGE_REQUIRED");
    assert_eq!(app.events.count("failure cap reached"), 1);
}

/// T7. All spellings and all doors are one account.
#[tokio::test(flavor = "multi_thread")]
async fn guesses_spread_over_spellings_and_doors_are_guesses_at_one_account() {
    let app = guarded(StoreKind::Memory).start().await;
    let name = "jos\u{e9}@example.com";
    app.registered(name).await;
    let before = app.events.count("hashed");
    let spellings = [name, "JOS\u{c9}@EXAMPLE.COM", "jose\u{301}@example.com", "ｊｏｓ\u{e9}@Example.com"];
    for round in 0..8 {
        for spelling in spellings {
            for api in Api::ALL {
                let answer = api.login(&app, spelling, &format!("wrong guess {round}")).await;
                assert!(answer.is_wrong_credentials() || is_limited(&answer), "{}", answer.outcome());
            }
        }
    }
    let looked_at = app.events.count("hashed") - before;
    assert!(looked_at <= 10, "{looked_at} guesses were looked at");
    assert!(is_limited(&Api::Grpc.login(&app, name, &password(name)).await));
}

fn is_limited(answer: &crate::support::Answer) -> bool {
    let outcome = answer.outcome();
    outcome == "RATE_LIMITED" || outcome.starts_with("429 too many wrong passwords")
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_waits_as_long_as_he_is_told_is_let_in_and_not_a_millisecond_before() {
    let app = guarded(StoreKind::Memory).clock(ManualClock::stopped()).start().await;
    app.registered("ada").await;
    assert_eq!(guesses_at_once(&app, "ada", 10).await, (10, 0));
    let (which, wait) = limit(&try_grpc(&app, "ada", &password("ada")).await.unwrap_err());
    assert_eq!((which.as_str(), wait), ("account", Duration::from_secs(30)), "a tenth of five minutes");
    for _ in 0..20 {
        assert_eq!(limit(&try_grpc(&app, "ada", "more").await.unwrap_err()).1, wait, "a refusal is no failure");
    }
    app.clock.advance(wait - Duration::from_millis(1));
    assert_eq!(limit(&try_grpc(&app, "ada", &password("ada")).await.unwrap_err()).1, Duration::from_millis(1));
    app.clock.advance(Duration::from_millis(1));
    try_grpc(&app, "ada", &password("ada")).await.unwrap();
    // The right one gave its place back.
    try_grpc(&app, "ada", &password("ada")).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn right_passwords_are_never_limited_however_many_come_at_once() {
    let app = guarded(StoreKind::Memory).start().await;
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

/// A login on the original routes, from an address of this machine.
async fn login_from(app: &App, from: [u8; 4], username: &str, password: &str) -> Reply {
    let target = format!("/login?{}", query(&[("username", username), ("password", password)]));
    http_from(from, app.http_socket(), "GET", &target).await
}

/// T9. Whoever makes an account's limit overflow keeps its user out of nothing that he used before.
#[tokio::test(flavor = "multi_thread")]
async fn a_victim_signs_in_from_where_he_did_before_while_a_hundred_addresses_attack() {
    for kind in [StoreKind::Memory, StoreKind::Redis] {
        let app = guarded(kind).start().await;
        app.registered("victim").await;
        let home = [127, 9, 9, 9];
        assert_eq!(login_from(&app, home, "victim", &password("victim")).await.body, "data of victim");
        let mut refused = 0;
        for round in 0..10_u8 {
            let attacks = (0..100_u8).map(|number| login_from(&app, [127, 1, round, number], "victim", "wrong guess"));
            let victim = async {
                for _ in 0..10 {
                    let reply = login_from(&app, home, "victim", &password("victim")).await;
                    assert_eq!((reply.status, reply.body.as_str()), (200, "data of victim"), "{kind:?}");
                }
            };
            let (replies, ()) = tokio::join!(join_all(attacks), victim);
            refused += replies.iter().filter(|reply| reply.status == 429).count();
        }
        assert_eq!(refused, 990, "{kind:?}: ten were looked at");
        // From elsewhere the account's limit holds for the user too.
        assert_eq!(login_from(&app, [127, 8, 8, 8], "victim", &password("victim")).await.status, 429);
    }
}

/// T9. Neither the account's limit nor its cap keeps out whoever pays.
#[tokio::test(flavor = "multi_thread")]
async fn a_victim_who_pays_with_proof_of_work_signs_in_under_attack_and_after_the_cap_and_an_attacker_pays_for_each_guess()
 {
    for setup in [guarded(StoreKind::Memory), capped(StoreKind::Memory)] {
        let app = setup.start().await;
        app.registered("victim").await;
        guesses_at_once(&app, "victim", 50).await;
        for api in Api::ALL {
            let answer = api.login(&app, "victim", &password("victim")).await;
            let outcome = answer.outcome();
            let is_asked =
                outcome == "CHALLENGE_REQUIRED" || outcome.starts_with("400 send the solution of a challenge");
            assert!(is_limited(&answer) || is_asked, "{outcome}");
            for _ in 0..10 {
                let proof = solution(&app, LOGIN).await;
                let answer = api.login_with(&app, "victim", &password("victim"), &proof).await;
                assert_eq!(answer.data(), "data of victim");
                // One payment is one guess.
                assert!(!api.login_with(&app, "victim", &password("victim"), &proof).await.outcome().starts_with("ok"));
            }
            let wrong = solution(&app, LOGIN).await;
            assert!(api.login_with(&app, "victim", "one more guess", &wrong).await.is_wrong_credentials());
            let other = solution(&app, REGISTER).await;
            assert!(!api.login_with(&app, "victim", &password("victim"), &other).await.outcome().starts_with("ok"));
        }
        // It has mended nothing for those who do not pay.
        assert_ne!(Api::Grpc.login(&app, "victim", &password("victim")).await.outcome(), "ok");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_victim_beside_an_attacker_at_one_address_pays_and_solutions_that_do_not_count_are_limited() {
    let app = guarded(StoreKind::Memory).start().await;
    app.registered("victim").await;
    for guess in 0..10 {
        Api::Legacy.login(&app, "victim", &format!("wrong guess {guess}")).await;
    }
    assert!(is_limited(&Api::Legacy.login(&app, "victim", &password("victim")).await));
    let proof = solution(&app, LOGIN).await;
    let answer = Api::Legacy.login_with(&app, "victim", &password("victim"), &proof).await;
    assert_eq!(answer.data(), "data of victim");
    let mut outcomes = Vec::new();
    for _ in 0..110 {
        outcomes.push(Api::Legacy.login_with(&app, "victim", &password("victim"), &proof).await.outcome());
    }
    let invalid =
        outcomes.iter().filter(|outcome| outcome.starts_with("400 the challenge was presented before")).count();
    assert_eq!(invalid, 95, "five of a hundred were wrong passwords: {outcomes:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_address_has_five_guesses_at_an_account_and_leaves_the_others_theirs() {
    let app = guarded(StoreKind::Memory).start().await;
    app.registered("ada").await;
    let attacker = [127, 1, 1, 1];
    for guess in 0..20 {
        let reply = login_from(&app, attacker, "ada", &format!("wrong guess {guess}")).await;
        assert_eq!(reply.status, if guess < 5 { 200 } else { 429 }, "guess {guess}");
    }
    let reply = login_from(&app, [127, 2, 2, 2], "ada", &password("ada")).await;
    assert_eq!(reply.body, "data of ada", "the account's own limit has room");
    // And a hundred in ten minutes at all accounts together.
    let names: Vec<_> = (0..120).map(|number| format!("user{number}")).collect();
    let mut replies = Vec::new();
    for names in names.chunks(20) {
        replies.extend(join_all(names.iter().map(|name| login_from(&app, attacker, name, "wrong guess"))).await);
    }
    assert_eq!(replies.iter().filter(|reply| reply.status == 200).count(), 95);
    let limited = replies.iter().find(|reply| reply.status == 429).expect("the others");
    assert!(limited.body.contains("from this address") && limited.header("retry-after").is_some(), "{limited:?}");
}

/// T8. Nobody chooses the address that he is counted under.
#[tokio::test(flavor = "multi_thread")]
async fn whatever_strangers_write_into_forwarded_headers_they_are_counted_under_their_own_address() {
    let app = guarded(StoreKind::Memory).args(&["--throttle-per-address", "10/10m"]).start().await;
    let mut looked_at = 0;
    for number in 0..1_000_u32 {
        let made_up = match number % 5 {
            0 => format!("198.51.100.{}", number % 256),
            1 => format!("{number}, , garbage"),
            2 => format!("2001:db8::{number:x}"),
            3 => "\u{1}".repeat(3),
            _ => "127.0.0.1".into(),
        };
        let headers =
            [("x-forwarded-for", made_up.as_str()), ("forwarded", "for=198.51.100.1"), ("x-real-ip", &made_up)];
        let headers = if number % 5 == 3 { &headers[1..2] } else { &headers[..] };
        let target = format!("/login?username=user{number}&password=wrong-guess&address={number}");
        let reply = http(app.http_socket(), "GET", &target, headers, "").await;
        looked_at += usize::from(reply.status == 200);
    }
    assert_eq!(looked_at, 10, "one address, one limit");
    // In gRPC they are services, and their words are not believed either.
    for number in 0..20 {
        let refused = try_for(&app, "198.51.100.1", &format!("other{number}"), "wrong guess").await;
        assert_eq!(outcome(&refused), "INVALID_CREDENTIALS");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_trusted_proxy_the_hop_counts_that_it_wrote_itself() {
    let app = guarded(StoreKind::Memory)
        .args(&["--throttle-per-address", "10/10m", "--trusted-proxy", "127.0.0.1,10.0.0.0/8"])
        .start()
        .await;
    let mut looked_at = 0;
    for number in 0..100_u32 {
        // What the user sent, then what the proxies in front of us wrote.
        let headers = format!("198.51.100.{number}, garbage, 203.0.113.7, 10.1.2.3");
        let answer = try_for(&app, &headers, &format!("user{number}"), "wrong guess").await;
        looked_at += usize::from(outcome(&answer) == "INVALID_CREDENTIALS");
        let target = format!("/login?username=name{number}&password=wrong-guess");
        let reply = http(app.http_socket(), "GET", &target, &[("x-forwarded-for", &headers)], "").await;
        looked_at += usize::from(reply.status == 200);
    }
    assert_eq!(looked_at, 10, "one address, one limit, whatever the door");
    // All of a network of IPv6 is one address.
    let networks = |number: u32| [format!("2001:db8:1:1::{number:x}"), format!("2001:db8:2:2:{number:x}::")];
    let mut looked_at = 0;
    for number in 0..20 {
        for address in networks(number) {
            let answer = try_for(&app, &address, &format!("third{number}{}", address.len()), "wrong guess").await;
            looked_at += usize::from(outcome(&answer) == "INVALID_CREDENTIALS");
        }
    }
    assert_eq!(looked_at, 20, "two networks");
    // A proxy that writes something else is set up wrongly, and says so at once.
    let refused = try_for(&app, "203.0.113.9, unknown", "ada", "wrong guess").await.unwrap_err();
    assert_eq!(reason(&refused), "INVALID_FIELD");
    let reply = http(app.http_socket(), "GET", "/login?username=ada&password=x", &[("x-forwarded-for", "")], "").await;
    assert!(reply.status == 400 && reply.body.contains("x-forwarded-for has a hop"), "{reply:?}");
}

/// T7, NIST SP 800-63B-4 3.2.2. With names that nobody has it is the same.
#[tokio::test(flavor = "multi_thread")]
async fn after_too_many_failures_in_a_row_the_password_alone_opens_nothing_new() {
    for kind in StoreKind::ALL {
        let place = Place::new(kind);
        let app = capped(kind).start_in(place.clone()).await;
        app.registered("ada").await;
        let home = [127, 9, 9, 9];
        assert_eq!(login_from(&app, home, "ada", &password("ada")).await.body, "data of ada");
        for name in ["ada", "nobody"] {
            let (looked_at, _) = guesses_at_once(&app, name, 200).await;
            assert_eq!(looked_at, 10, "{kind:?}, {name}: no more than the cap");
            let refused = try_grpc(&app, name, &password("ada")).await;
            assert_eq!(outcome(&refused), "CHALLENGE_REQUIRED", "{kind:?}, {name}");
        }
        assert_eq!(app.events.count("failure cap reached"), 2, "{kind:?}");
        // From home it still does, and that mends nothing elsewhere.
        assert_eq!(login_from(&app, home, "ada", &password("ada")).await.body, "data of ada");
        assert_eq!(outcome(&try_grpc(&app, "ada", &password("ada")).await), "CHALLENGE_REQUIRED", "{kind:?}");
        if kind == StoreKind::Memory {
            continue;
        }
        app.stopped().await;
        let app = capped(kind).start_in(place).await;
        assert_eq!(outcome(&try_grpc(&app, "ada", &password("ada")).await), "CHALLENGE_REQUIRED", "{kind:?}");
        // By then the count of ten has been forgotten.
        app.clock.advance(Duration::from_secs(100 * 3_600 + 1));
        assert_eq!(outcome(&try_grpc(&app, "ada", &password("ada")).await), "ok", "{kind:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_strict_cap_shuts_the_account_everywhere_and_looks_like_a_wrong_password() {
    let app = capped(StoreKind::Memory).change(|config| {
        let throttle = config.throttle.as_mut().unwrap();
        throttle.lockout_is_strict = true;
    });
    let app = app.start().await;
    app.registered("ada").await;
    let home = [127, 9, 9, 9];
    assert_eq!(login_from(&app, home, "ada", &password("ada")).await.body, "data of ada");
    assert_eq!(guesses_at_once(&app, "ada", 40).await.0, 40, "nobody sees when it was shut");
    let hashed = app.events.count("hashed");
    assert_eq!(outcome(&try_grpc(&app, "ada", &password("ada")).await), "INVALID_CREDENTIALS");
    assert_eq!(login_from(&app, home, "ada", &password("ada")).await.body, "User not found");
    assert_eq!(app.events.count("hashed"), hashed + 2, "it costs what a wrong password costs");
    assert_eq!(app.events.count("locked"), 32);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_right_password_begins_a_new_row() {
    let app = capped(StoreKind::Memory).start().await;
    app.registered("ada").await;
    for _ in 0..5 {
        assert_eq!(guesses_at_once(&app, "ada", 9).await.0, 9);
        try_grpc(&app, "ada", &password("ada")).await.unwrap();
        app.rules.store_failed_attempts().await;
    }
    assert_eq!(app.events.count("failure cap reached"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_of_one_redis_count_together() {
    let place = Place::new(StoreKind::Redis);
    let node = || guarded(StoreKind::Redis).args(&["--token-issuer", "https://auth.example"]);
    let (one, other) = (node().start_in(place.clone()).await, node().start_in(place).await);
    one.registered("ada").await;
    assert_eq!(guesses_at_once(&one, "ada", 6).await, (6, 0));
    one.rules.store_failed_attempts().await;
    assert_eq!(guesses_at_once(&other, "ada", 6).await, (4, 2));
    other.rules.store_failed_attempts().await;
    assert_eq!(limit(&try_grpc(&one, "ada", &password("ada")).await.unwrap_err()).0, "account");
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_asked_for_the_password_again_has_as_few_guesses() {
    let app = guarded(StoreKind::Memory).start().await;
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
    for guess in 0..6 {
        let current_password = format!("wrong guess {guess}");
        let outcome = if guess % 2 == 0 {
            let change = pb::ChangePasswordRequest { current_password, new_password: "another password".into() };
            let mut request = Request::new(change);
            *request.metadata_mut() = with_token(()).metadata().clone();
            client.change_password(request).await.map(|_| ()).unwrap_err()
        } else {
            let mut request = Request::new(pb::DeleteUserRequest { current_password });
            *request.metadata_mut() = with_token(()).metadata().clone();
            client.delete_user(request).await.map(|_| ()).unwrap_err()
        };
        outcomes.push(reason(&outcome));
    }
    assert_eq!(outcomes[..5], ["INVALID_CREDENTIALS"; 5]);
    assert_eq!(outcomes[5], "RATE_LIMITED");
    // They were guesses of one session, so others still may sign in.
    try_grpc(&app, "ada", &password("ada")).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn registrations_of_one_address_are_limited_and_those_of_services_are_not() {
    let app = guarded(StoreKind::Memory).args(&["--throttle-registrations", "3/1h"]).start().await;
    for number in 0..5 {
        let answer = Api::Legacy.register(&app, &format!("user{number}"), &password("x"), "").await;
        let expected = if number < 3 { "ok" } else { "429 too many registrations came from this address" };
        assert!(answer.outcome().starts_with(expected), "{number}: {}", answer.outcome());
        app.registered(&format!("other{number}")).await;
    }
    // Asking which names are taken is limited with them.
    assert!(Api::Legacy.register(&app, "user0", &password("x"), "").await.outcome().starts_with("429 "));
}

#[tokio::test(flavor = "multi_thread")]
async fn too_many_failures_of_everybody_raise_an_alarm_and_refuse_nobody() {
    let app = guarded(StoreKind::Memory).args(&["--failure-alert", "5/1m"]).start().await;
    app.registered("ada").await;
    for (round, told) in [(0, 1), (1, 2)] {
        for number in 0..8 {
            let refused = try_grpc(&app, &format!("user{round}-{number}"), "wrong guess").await;
            assert_eq!(outcome(&refused), "INVALID_CREDENTIALS");
        }
        assert_eq!(app.events.count("many failures"), told, "once a minute");
        app.clock.advance(Duration::from_secs(60));
    }
    try_grpc(&app, "ada", &password("ada")).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_registers_a_name_that_was_guessed_at_before_begins_anew() {
    let app = capped(StoreKind::Memory).start().await;
    assert_eq!(guesses_at_once(&app, "ada", 20).await.0, 10);
    app.rules.store_failed_attempts().await;
    app.registered("ada").await;
    assert_eq!(outcome(&try_grpc(&app, "ada", &password("ada")).await), "ok");
}

/// T46. Of addresses that somebody makes up none costs memory or takes an honest one's count away.
#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_made_up_addresses_takes_no_memory_and_nobodys_count_away() {
    let folder = tempfile::TempDir::new().unwrap();
    let addresses = ["--grpc-addr", "127.0.0.1:0", "--http-addr", "127.0.0.1:0", "--ops-addr", "off"];
    let flags = ["--trusted-proxy", "127.0.0.1", "--throttle-registrations", "3/1h", "--store", "memory:"];
    let mut node = command(&addresses);
    node.args(flags).arg("--data-dir").arg(folder.path());
    let mut node = Node::spawn(node).unwrap();
    let line = node.line("api=\"http\" address=").unwrap();
    let address = line.rsplit("address=").next().unwrap().parse().unwrap();
    let register = async |from: &str| {
        let target = "/register?username=ada&password=a-password-of-ada";
        http(address, "POST", target, &[("x-forwarded-for", from)], "").await.status
    };
    for expected in [200, 200, 200, 429] {
        assert_eq!(register("203.0.113.7").await, expected);
    }
    let before = node.memory_kib("VmRSS:");
    let (connections, each) = (8, if is_full() { 125_000 } else { 1_250 });
    let floods = (0..connections).map(|connection| flood_from_everywhere(address, connection, each));
    let refused: usize = join_all(floods).await.into_iter().sum();
    let grown = node.memory_kib("VmRSS:").saturating_sub(before) / 1_024;
    assert!(refused < connections * each / 1_000, "{refused} who came for the first time were refused");
    // The sketch has 8 MiB. T46 asks for 64, which a table of so few would not need either.
    assert!(grown <= 24, "{grown} MiB more");
    assert_eq!(register("203.0.113.7").await, 429, "its count was taken away");
}

/// Registers a name that is taken from that many addresses; how often that was refused.
async fn flood_from_everywhere(to: SocketAddr, connection: usize, count: usize) -> usize {
    let stream = TcpStream::connect(to).await.unwrap();
    let (read, mut write) = stream.into_split();
    let mut answers = BufReader::new(read).lines();
    let mut refused = 0;
    for batch in 0..count.div_ceil(50) {
        let requests: String = (batch * 50..count.min(batch * 50 + 50))
            .map(|number| {
                format!(
                    "POST /register?username=ada&password=a-password-of-ada HTTP/1.1\r\nhost: localhost\r\n\
                     x-forwarded-for: 2001:{connection:x}:{:x}:{:x}::1\r\n\r\n",
                    number >> 12,
                    number & 0xfff
                )
            })
            .collect();
        write.write_all(requests.as_bytes()).await.unwrap();
        let mut answered = 0;
        while answered < count.min(batch * 50 + 50) - batch * 50 {
            let line = answers.next_line().await.unwrap().expect("the server goes on");
            if let Some(status) = line.find("HTTP/1.1 ").map(|at| &line[at + 9..at + 12]) {
                answered += 1;
                refused += usize::from(status == "429");
            }
        }
    }
    refused
}

#[test]
fn a_proxy_that_nobody_named_is_warned_of_once() {
    let folder = tempfile::TempDir::new().unwrap();
    let mut serve = command(&["--grpc-addr", "127.0.0.1:0", "--http-addr", "127.0.0.1:0", "--ops-addr", "off"]);
    serve.args(["--store", "memory:"]).arg("--data-dir").arg(folder.path());
    let mut node = Node::spawn(serve).unwrap();
    let line = node.line("api=\"http\" address=").unwrap();
    let address = line.rsplit("address=").next().unwrap().parse().unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    for from in ["203.0.113.7", "203.0.113.8"] {
        runtime.block_on(http(address, "GET", "/", &[("x-forwarded-for", from)], ""));
    }
    node.signal("TERM");
    let (_, log) = node.wait();
    assert_eq!(log.matches("name it in --trusted-proxy").count(), 1, "{log}");
    assert!(!log.contains("203.0.113"), "what a stranger writes is not repeated");
}
