//! Logins and registrations of the client with proof of work.
//!
//! The server is the real one. Where a test changes time between two calls, or reads a request, a gRPC proxy in front of it
//! does that.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering},
};

use http_body_util::BodyExt;
use hyper::body::Incoming;
use prost::Message;
use tonic::{Status, body::Body, transport::Channel};
use tower::Service;
use watchword::domain::Work;

use super::*;
use crate::{
    abuse::{
        brute_force::{concurrent_attempts, rate_limit_of, wrong_passwords_in_session},
        proof_of_work::{LOGIN, solution},
    },
    support::{Api, CHEAP_WORK, http_from, query},
};

const LOGIN_PATH: &str = "/watchword.auth.v1.Auth/Login";
const REGISTER_PATH: &str = "/watchword.auth.v1.Auth/Register";
const CREATE_CHALLENGE_PATH: &str = "/watchword.auth.v1.Auth/CreateChallenge";

async fn with_challenges(work: Work) -> App {
    let setup = App::with(StoreKind::Memory).args(&["--challenge", "both"]);
    setup.change(move |config| config.rules.challenges.work = work).start().await
}

fn ada() -> pb::RegisterRequest {
    pb::RegisterRequest { username: "ada".into(), password: password("ada"), ..Default::default() }
}

/// A gRPC proxy before `app`: `before_call` gets the path and the message of each call before the server, and may refuse it.
pub async fn hooked(app: &App, before_call: impl Fn(&str, &[u8]) -> Option<Status> + Send + Sync + 'static) -> String {
    let (channel, before_call) = (app.channel().await, Arc::new(before_call));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let service = tower::service_fn(move |request: Request<Incoming>| {
        let (channel, before_call) = (channel.clone(), before_call.clone());
        async move { forwarded(channel, request, &*before_call).await }
    });
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let service = TowerToHyperService::new(service.clone());
            tokio::spawn(async move {
                drop(auto::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await);
            });
        }
    });
    format!("http://{address}")
}

async fn forwarded(
    mut channel: Channel,
    request: Request<Incoming>,
    before_call: &(impl Fn(&str, &[u8]) -> Option<Status> + Sync),
) -> Result<Response<Body>, tonic::transport::Error> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    // A gRPC frame: a flag and the length in five bytes, then the message.
    if let Some(refusal) = before_call(head.uri.path(), &body[5..]) {
        return Ok(refusal.into_http());
    }
    std::future::poll_fn(|cx| channel.poll_ready(cx)).await?;
    channel.call(Request::from_parts(head, Body::new(http_body_util::Full::new(body)))).await
}

#[tokio::test]
async fn login_and_registration_solve_the_challenge_that_the_server_requires() {
    for (setting, solutions) in [("off", 0), ("register", 1), ("login", 1), ("both", 2)] {
        let app = App::with(StoreKind::Memory).args(&["--challenge", setting]).start().await;
        let client = connected(&app).await;
        assert_eq!(client.register(ada()).await.unwrap().username, "ada");
        assert_eq!(client.login("ada", password("ada")).await.unwrap().user.username, "ada");
        let wrong = client.login("ada", "a wrong password").await.unwrap_err();
        assert_eq!(wrong.auth_reason(), Some(pb::ErrorReason::InvalidCredentials), "{setting}");
        let solutions = solutions + usize::from(matches!(setting, "login" | "both"));
        assert_eq!(app.events.count("challenge accepted"), solutions, "{setting}");
        assert_eq!(app.events.count("challenge created"), solutions, "{setting}: none is created in vain");
        let taken = client.register(ada()).await.unwrap_err();
        assert_eq!(taken.auth_reason(), Some(pb::ErrorReason::UserAlreadyExists), "{setting}");
    }
}

#[tokio::test]
async fn challenge_with_the_default_work_is_solved_within_the_default_limit() {
    let app = with_challenges(Work::DEFAULT).await;
    assert_eq!(connected(&app).await.register(ada()).await.unwrap().username, "ada");
}

/// Only a login names its account, and both registrations have one request id.
#[tokio::test]
async fn challenge_names_purpose_and_account_and_the_request_id_stays() {
    let app = with_challenges(CHEAP_WORK).await;
    let seen = Arc::new(Mutex::new(Vec::new()));
    let seen_by_proxy = seen.clone();
    let before_call = move |path: &str, message: &[u8]| {
        let call = match path {
            CREATE_CHALLENGE_PATH => {
                let request = pb::CreateChallengeRequest::decode(message).unwrap();
                format!("{} {:?}", request.purpose().as_str_name(), request.username)
            }
            REGISTER_PATH => {
                let request = pb::RegisterRequest::decode(message).unwrap();
                format!("{} {}", request.request_id, !request.challenge_solution.is_empty())
            }
            _ => return None,
        };
        seen_by_proxy.lock().unwrap().push(call);
        None
    };
    let client = Client::builder(hooked(&app, before_call).await).connect().await.unwrap();
    client.register(ada()).await.unwrap();
    client.login("ada", password("ada")).await.unwrap();
    let seen = seen.lock().unwrap();
    let [first, of_registration, second, of_login] = seen.as_slice() else { panic!("{seen:?}") };
    assert_eq!([of_registration, of_login], ["CHALLENGE_PURPOSE_REGISTER \"\"", "CHALLENGE_PURPOSE_LOGIN \"ada\""]);
    let request_id = first.strip_suffix(" false").unwrap();
    assert_eq!((request_id.len(), second), (36, &format!("{request_id} true")));
}

/// The challenge expires while the solution is on its way: once, or always.
#[tokio::test]
async fn expired_solution_is_replaced_once() {
    for (expiring, admitted) in [(1, true), (2, false)] {
        let app = with_challenges(CHEAP_WORK).await;
        let (clock, logins) = (app.clock.clone(), AtomicUsize::new(0));
        let before_call = move |path: &str, _: &[u8]| {
            let is_solved = path == LOGIN_PATH && logins.fetch_add(1, Ordering::Relaxed) > 0;
            if is_solved && logins.load(Ordering::Relaxed) <= 1 + expiring {
                clock.advance(Duration::from_secs(301));
            }
            None
        };
        let client = Client::builder(hooked(&app, before_call).await).connect().await.unwrap();
        client.register(ada()).await.unwrap();
        let result = client.login("ada", password("ada")).await;
        match result {
            Ok(login) => assert!(admitted && login.user.username == "ada"),
            Err(refused) => {
                assert!(!admitted, "{refused:?}");
                assert_eq!(refused.auth_reason(), Some(pb::ErrorReason::ChallengeInvalid));
            }
        }
        assert_eq!(app.events.count("challenge created"), 1 + 2, "no more than two solutions for a call");
    }
}

#[tokio::test]
async fn challenge_that_asks_for_too_much_work_is_refused_before_it_is_begun() {
    let too_many_keys = Work { cost: 2_000, key_prefix: "000000" };
    let too_many_rounds = Work { cost: 200_000, key_prefix: "0" };
    for work in [too_many_keys, too_many_rounds] {
        let app = with_challenges(work).await;
        let client = connected(&app).await;
        for refused in [client.login("ada", "x").await.err(), client.register(ada()).await.err()] {
            let refused = refused.unwrap();
            assert_eq!(refused.auth_reason(), Some(pb::ErrorReason::ChallengeRequired));
            let rounds = u64::from(work.cost) * 16_u64.pow(u32::try_from(work.key_prefix.len()).unwrap());
            let expected = format!("asks for {rounds} rounds of PBKDF2/SHA-256, more than the client's limit");
            assert!(refused.message().contains(&expected), "{refused:?}");
        }
    }
    // The limit is a setting.
    let app = with_challenges(CHEAP_WORK).await;
    for (rounds, admitted) in [(159, false), (16_000, true)] {
        let builder = Client::builder(format!("http://{}", app.grpc_addr())).proof_of_work_rounds_max(rounds);
        assert_eq!(builder.connect().await.unwrap().register(ada()).await.is_ok(), admitted, "{rounds}");
    }
}

/// A connection computes one solution at a time, so the second login gets its challenge when the solver of the first has
/// stopped. Otherwise it would wait for minutes. The runtime has one thread, which a solver does not block.
#[tokio::test]
async fn dropped_login_stops_its_solver() {
    let app = with_challenges(Work { cost: 2_000, key_prefix: "000000" }).await;
    let builder = Client::builder(format!("http://{}", app.grpc_addr())).proof_of_work_rounds_max(u64::MAX);
    let client = builder.connect().await.unwrap();
    let login = || {
        let client = client.clone();
        tokio::spawn(async move { client.login("ada", password("ada")).await })
    };
    let first = login();
    wait_until(|| app.events.count("challenge created") == 1).await;
    let second = login();
    wait_until(|| app.events.count("challenge missing") == 2).await;
    // By the last answer, those before it have arrived over the same connection: the solver runs, and the second login waits.
    for _ in 0..20 {
        client.introspect("x").await.unwrap();
    }
    assert_eq!(app.events.count("challenge created"), 1);
    first.abort();
    wait_until(|| app.events.count("challenge created") == 2).await;
    second.abort();
}

#[tokio::test]
async fn client_without_proof_of_work_returns_the_error_of_the_server() {
    let app = with_challenges(CHEAP_WORK).await;
    let builder = Client::builder(format!("http://{}", app.grpc_addr())).without_proof_of_work();
    let client = builder.connect().await.unwrap();
    let request = pb::LoginRequest { username: "ada".into(), password: password("ada"), ..Default::default() };
    let of_server = client.auth().login(request).await.unwrap_err();
    for refused in [client.login("ada", password("ada")).await.err(), client.register(ada()).await.err()] {
        let refused = refused.unwrap();
        assert_eq!(refused.auth_reason(), Some(pb::ErrorReason::ChallengeRequired));
        assert_eq!((refused.code(), refused.message()), (of_server.code(), of_server.message()));
    }
    assert_eq!(app.events.count("challenge created"), 0);
}

/// A solution from a browser is sent as it is: the client computes nothing in its place.
#[tokio::test]
async fn registration_with_a_solution_is_sent_once() {
    let app = with_challenges(CHEAP_WORK).await;
    let client = connected(&app).await;
    let of_other_purpose = solution(&app, LOGIN).await;
    let created = app.events.count("challenge created");
    let request = pb::RegisterRequest { challenge_solution: of_other_purpose, ..ada() };
    let refused = client.register(request).await.unwrap_err();
    assert_eq!(refused.auth_reason(), Some(pb::ErrorReason::ChallengeInvalid));
    assert_eq!(app.events.count("challenge created"), created);
}

/// The default lockout threshold: 100 consecutive failed attempts.
#[tokio::test(flavor = "multi_thread")]
async fn right_password_enters_a_locked_account_and_a_rate_limited_one() {
    let unlimited = "1000000/1s";
    let limited = App::with(StoreKind::Memory).args(&["--throttle", "on", "--failure-alert-action", "alert"]);
    let asked = App::with(StoreKind::Memory).args(&["--throttle", "on"]);
    let locked = App::with(StoreKind::Memory).args(&["--throttle", "on", "--throttle-per-account", unlimited]);
    for (setup, attempts, refusal) in
        [(locked, 100, "CHALLENGE_REQUIRED"), (limited, 10, "RATE_LIMITED"), (asked, 10, "CHALLENGE_REQUIRED")]
    {
        let app = setup.start().await;
        app.registered("ada").await;
        let mut verified = 0;
        // A busy machine refuses some attempts of a batch as OVERLOADED.
        for _ in 0..100 {
            verified += concurrent_attempts(&app, "ada", attempts - verified).await.0;
            if verified == attempts {
                break;
            }
        }
        assert_eq!(verified, attempts, "{refusal}");
        app.rules.store_failed_attempts().await;
        assert_eq!(Api::Grpc.login(&app, "ada", &password("ada")).await.outcome(), refusal);
        let client = connected(&app).await;
        let wrong = client.login("ada", "a wrong password").await.unwrap_err();
        assert_eq!(wrong.auth_reason(), Some(pb::ErrorReason::InvalidCredentials), "{refusal}");
        assert_eq!(client.login("ada", password("ada")).await.unwrap().user.username, "ada", "{refusal}");
    }
}

/// The limits on all attempts hold for those with proof of work too.
#[tokio::test(flavor = "multi_thread")]
async fn right_password_passes_the_limits_that_count_no_proof_of_work_and_no_other() {
    for (flag, limit, is_passed) in [
        ("--throttle-per-address", "address", true),
        ("--throttle-per-account", "account", true),
        ("--throttle-per-address-and-account", "address_and_account", true),
        ("--throttle-attempts-per-address", "address_attempts", false),
        ("--throttle-attempts-per-account", "account_attempts", false),
    ] {
        let args = ["--throttle", "on", "--client-address", "peer", flag, "3/1h"];
        let app = App::with(StoreKind::Memory).args(&args).start().await;
        // From elsewhere: the address of the client must not be familiar.
        let target = format!("/register?{}", query(&[("username", "ada"), ("password", &password("ada"))]));
        assert_eq!(http_from([127, 9, 9, 9], app.http_socket(), "POST", &target).await.body, "Success");
        for _ in 0..3 {
            assert!(Api::Grpc.login(&app, "ada", "wrong password").await.is_wrong_credentials(), "{limit}");
        }
        let result = connected(&app).await.login("ada", password("ada")).await;
        assert_eq!(app.events.count("challenge created"), usize::from(is_passed), "{limit}");
        match result {
            Ok(login) => assert!(is_passed && login.user.username == "ada", "{limit}"),
            Err(refused) => assert_eq!((rate_limit_of(&refused).0.as_str(), is_passed), (limit, false)),
        }
    }
    let args = ["--throttle", "on", "--client-address", "peer", "--throttle-registrations", "1/1h"];
    let app = App::with(StoreKind::Memory).args(&args).start().await;
    app.registered("bob").await;
    assert_eq!(connected(&app).await.register(ada()).await.unwrap().username, "ada");
}

#[tokio::test(flavor = "multi_thread")]
async fn session_in_a_lockout_changes_the_password_ends_others_and_deletes_the_user() {
    let unlimited = "1000000/1s";
    let args = ["--throttle", "on", "--failure-cap", "10", "--throttle-per-address-and-account", unlimited];
    let app = App::with(StoreKind::Memory).args(&args).args(&["--throttle-per-account", unlimited]).start().await;
    app.registered("ada").await;
    let client = connected(&app).await;
    let tokens = TokenSource::new(&client, app.authenticate("ada").await);
    wrong_passwords_in_session(&app, &tokens.tokens().access_token, 20).await;
    client.login("ada", password("ada")).await.unwrap();
    assert_eq!(tokens.revoke_other_sessions(&password("ada")).await.unwrap(), 1);
    let tokens = TokenSource::new(&client, tokens.change_password(&password("ada"), "another long one").await.unwrap());
    wrong_passwords_in_session(&app, &tokens.tokens().access_token, 20).await;
    let wrong = tokens.delete_user("wrong").await.unwrap_err();
    assert_eq!(wrong.auth_reason(), Some(pb::ErrorReason::InvalidCredentials));
    tokens.delete_user("another long one").await.unwrap();
    assert_eq!(app.events.count("challenge created"), 5);
    assert_eq!(app.events.count("challenge accepted"), 5);
}
