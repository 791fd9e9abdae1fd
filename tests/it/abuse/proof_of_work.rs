//! Proof of work: T38 (ALTCHA's own solvers), T39 (nothing is accepted twice, late, changed or unsolved), T40 (a flood costs
//! us nothing) and T11 for challenges.
//!
//! Challenges are asked for and solutions sent through the doors; the work is cheap, but where ALTCHA's own solvers do it.

use std::{
    sync::Arc,
    time::{Duration, UNIX_EPOCH},
};

use altcha::{Challenge, Payload, Solution, SolveChallengeOptions, solve_challenge};
use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use tokio::{process::Command, task::JoinSet};
use tonic::Code;
use watchword::{
    api::{pb, rpc},
    domain::{Clock, Work},
};

use crate::{
    store::copy::copy,
    support::{
        Answer, Api, App, ManualClock, Setup, StoreKind, TestStore, app, details,
        fault::{Fault, Faulty},
        http, password,
        program::{existing, root, succeeds, tool},
        query, reason,
    },
};

const RACERS: usize = 64;

/// A purpose, and its name.
pub const REGISTER: (pb::ChallengePurpose, &str) = (pb::ChallengePurpose::Register, "register");
pub const LOGIN: (pb::ChallengePurpose, &str) = (pb::ChallengePurpose::Login, "login");

// === Helpers

fn asking(kind: StoreKind) -> Setup {
    App::with(kind).args(&["--challenge", "both"])
}

/// A challenge, from the gRPC door.
async fn challenge(app: &App, (purpose, _): (pb::ChallengePurpose, &str)) -> Challenge {
    let request = pb::CreateChallengeRequest { purpose: purpose.into() };
    let answer = app.client().await.create_challenge(request).await.unwrap().into_inner();
    serde_json::from_str(&answer.challenge).unwrap()
}

fn solved(challenge: &Challenge) -> Solution {
    solve_challenge(SolveChallengeOptions::new(challenge)).unwrap().expect("it is cheap")
}

fn payload(challenge: &Challenge, solution: &Solution) -> Value {
    serde_json::to_value(Payload { challenge: challenge.clone(), solution: solution.clone() }).unwrap()
}

fn encoded(payload: &Value) -> String {
    STANDARD.encode(payload.to_string())
}

/// A good solution for that purpose.
pub async fn solution(app: &App, purpose: (pb::ChallengePurpose, &str)) -> String {
    let challenge = challenge(app, purpose).await;
    encoded(&payload(&challenge, &solved(&challenge)))
}

/// Whether the answer says that a proof of work is missing.
fn is_asked_for(answer: &Answer) -> bool {
    match answer {
        Answer::Ok { .. } => false,
        Answer::Grpc(status) => status.code() == Code::FailedPrecondition && reason(status) == "CHALLENGE_REQUIRED",
        Answer::Http { status, text, .. } => *status == 400 && text.starts_with("send the solution of a challenge"),
    }
}

/// Whether the answer says that the proof of work that came does not count.
fn is_invalid(answer: &Answer) -> bool {
    match answer {
        Answer::Ok { .. } => false,
        Answer::Grpc(status) => status.code() == Code::FailedPrecondition && reason(status) == "CHALLENGE_INVALID",
        Answer::Http { status, text, .. } => *status == 400 && text.contains("challenge"),
    }
}

// === T38: what ALTCHA's own programs send

/// One algorithm is issued, PBKDF2/SHA-256, with the default work; each program of ALTCHA that derives it is accepted: the
/// worker of the built widget, the library beside it, and the package for servers with both of its implementations.
#[tokio::test]
async fn every_solver_of_altcha_is_accepted() {
    let app = asking(StoreKind::Memory).change(|config| config.rules.challenges.work = Work::DEFAULT).start().await;
    for (number, solver) in ["widget", "widget-lib", "lib", "lib-web"].into_iter().enumerate() {
        let (api, name) = (Api::ALL[number % 2], format!("user of {solver}").replace(' ', "-"));
        let proof = solved_by(solver, &app, "register").await;
        let answer = api.register_with(&app, &name, &password(&name), "x", &proof).await;
        assert_eq!(answer.outcome(), "ok", "{solver}");
        assert!(is_invalid(&api.register_with(&app, "eve", &password("eve"), "", &proof).await), "{solver}");
    }
    let proof = solved_by("widget-lib", &app, "login").await;
    let answer = Api::Legacy.login_with(&app, "user-of-lib", &password("user-of-lib"), &proof).await;
    assert_eq!(answer.outcome(), "ok");
    assert_eq!(app.events.count("challenge accepted"), 5);
}

/// The widget is a field of a form.
#[tokio::test]
async fn a_form_in_the_body_takes_a_solution_too() {
    let app = asking(StoreKind::Memory).start().await;
    let proof = solution(&app, REGISTER).await;
    let form = query(&[("username", "ada"), ("password", "a long password"), ("altcha", &proof)]);
    let headers = [("content-type", "application/x-www-form-urlencoded")];
    assert_eq!(http(app.http_socket(), "POST", "/register", &headers, &form).await.body, "Success");
}

async fn solved_by(solver: &str, app: &App, purpose: &str) -> String {
    let folder = root().join("tests/altcha");
    existing(folder.join("node_modules"), "ALTCHA's packages");
    let url = format!("http://{}/altcha/challenge?purpose={purpose}", app.http_socket());
    let mut node = Command::new(tool("node"));
    succeeds(node.arg(folder.join("solve.mjs")).args([solver, &url])).await.trim_end().to_owned()
}

// === Where it is asked for

#[tokio::test]
async fn a_solution_is_asked_for_where_the_setting_says_and_must_count_wherever_it_comes() {
    for (setting, for_register, for_login) in
        [("off", false, false), ("register", true, false), ("login", false, true), ("both", true, true)]
    {
        let app = App::with(StoreKind::Memory).args(&["--challenge", setting]).start().await;
        for api in Api::ALL {
            let name = format!("{api:?}");
            let without = api.register(&app, &name, &password(&name), "").await;
            assert_eq!(is_asked_for(&without), for_register, "{setting} {api:?}: {without:?}");
            if for_register {
                let proof = solution(&app, REGISTER).await;
                assert_eq!(api.register_with(&app, &name, &password(&name), "", &proof).await.outcome(), "ok");
            }
            let without = api.login(&app, &name, &password(&name)).await;
            assert_eq!(is_asked_for(&without), for_login, "{setting} {api:?}: {without:?}");
            let proof = solution(&app, LOGIN).await;
            assert_eq!(api.login_with(&app, &name, &password(&name), &proof).await.outcome(), "ok", "{setting}");
            let again = api.login_with(&app, &name, &password(&name), &proof).await;
            assert!(is_invalid(&again), "one that comes must count, with {setting} too: {again:?}");
        }
    }
}

#[tokio::test]
async fn nothing_tells_whether_a_name_exists_before_the_challenge_is_checked() {
    let app = asking(StoreKind::Memory).start().await;
    let proof = solution(&app, REGISTER).await;
    Api::Grpc.register_with(&app, "ada", &password("ada"), "", &proof).await;
    let hashed = app.events.count("hashed");
    for api in Api::ALL {
        // The second one was spent on ada.
        for bad in ["", &proof, "e30="] {
            let [taken, free] = ["ada", "bob"].map(|name| api.register_with(&app, name, "a long password", "", bad));
            assert_eq!(format!("{:?}", taken.await), format!("{:?}", free.await), "{api:?} {bad}");
            let [known, unknown] = ["ada", "bob"].map(|name| api.login_with(&app, name, "a long password", bad));
            assert_eq!(format!("{:?}", known.await), format!("{:?}", unknown.await), "{api:?} {bad}");
        }
    }
    assert_eq!(app.events.count("hashed"), hashed, "a refusal cost a hash");
    assert_eq!(app.events.count("taken") + app.events.count("unknown user"), 0);
}

#[tokio::test]
async fn a_refusal_says_for_what_a_challenge_is_needed_and_what_is_wrong_with_it() {
    let app = asking(StoreKind::Memory).start().await;
    let spent = solution(&app, REGISTER).await;
    Api::Grpc.register_with(&app, "ada", &password("ada"), "", &spent).await;
    let register =
        |proof: String| async { Api::Grpc.register_with(&app, "x", "a long password", "", &{ proof }).await };
    let login = |proof: String| async { Api::Grpc.login_with(&app, "x", "a long password", &{ proof }).await };
    for (answer, subject, text) in [
        (register(String::new()).await, "register", "send the solution of a challenge"),
        (login(String::new()).await, "login", "send the solution of a challenge"),
        (register(spent.clone()).await, "register", "was presented before"),
        (login(spent.clone()).await, "login", "made for something else"),
        (login("?".into()).await, "login", "not one of ALTCHA's version 2"),
    ] {
        let Answer::Grpc(status) = answer else { panic!("{answer:?}") };
        let failures: Vec<rpc::PreconditionFailure> = details(&status, "google.rpc.PreconditionFailure");
        let [violation] = failures[0].violations.as_slice() else { panic!("{failures:?}") };
        assert_eq!((violation.r#type.as_str(), violation.subject.as_str()), ("CHALLENGE", subject));
        assert!(violation.description.contains(text) && status.message() == violation.description, "{status:?}");
    }
}

// === How a challenge is got

#[tokio::test]
async fn the_widget_gets_its_challenge_by_get_as_json_that_nobody_keeps() {
    let app = app().await;
    for (target, purpose) in [
        ("/altcha/challenge", "register"),
        ("/altcha/challenge?purpose=register", "register"),
        ("/altcha/challenge?purpose=login&x=1", "login"),
    ] {
        let reply = http(app.http_socket(), "GET", target, &[], "").await;
        assert_eq!((reply.status, reply.header("content-type")), (200, Some("application/json")), "{target}");
        assert_eq!(reply.header("cache-control"), Some("no-store"));
        let challenge: Value = serde_json::from_str(&reply.body).unwrap();
        assert_eq!(challenge["parameters"]["data"], json!({ "purpose": purpose }), "{target}");
        assert_eq!(challenge["parameters"]["algorithm"], "PBKDF2/SHA-256");
    }
    for target in ["/altcha/challenge?purpose=", "/altcha/challenge?purpose=LOGIN", "/altcha/challenge?purpose=%FF"] {
        let reply = http(app.http_socket(), "GET", target, &[], "").await;
        assert_eq!(reply.status, 400, "{target}: {reply:?}");
    }
    assert_eq!(http(app.http_socket(), "POST", "/altcha/challenge", &[], "").await.status, 405);
}

#[tokio::test]
async fn create_challenge_answers_whatever_the_setting_and_wants_a_purpose() {
    let app = app().await;
    let mut client = app.client().await;
    let request = pb::CreateChallengeRequest { purpose: pb::ChallengePurpose::Login.into() };
    let answer = client.create_challenge(request).await.unwrap().into_inner();
    let challenge: Challenge = serde_json::from_str(&answer.challenge).unwrap();
    let expires_at = challenge.parameters.expires_at.unwrap();
    assert_eq!(answer.expire_time.unwrap(), prost_types::Timestamp { seconds: expires_at, nanos: 0 });
    let left = UNIX_EPOCH + Duration::from_secs(expires_at.try_into().unwrap());
    let left = left.duration_since(app.clock.now()).unwrap();
    assert!((280..=300).contains(&left.as_secs()), "five minutes at most: {left:?}");
    for (purpose, why) in [(0, "REQUIRED"), (3, "MALFORMED"), (-1, "MALFORMED")] {
        let refused = client.create_challenge(pb::CreateChallengeRequest { purpose }).await.unwrap_err();
        let bad: Vec<rpc::BadRequest> = details(&refused, "google.rpc.BadRequest");
        assert_eq!((refused.code(), bad[0].field_violations[0].reason.as_str()), (Code::InvalidArgument, why));
    }
}

// === T39: nothing else counts

/// What an attacker makes of a good solution, and which fault it must be. Nothing of it may spend the challenge.
fn changed(good: &Value) -> Vec<(String, String, &'static str)> {
    let mut attacks = Vec::new();
    let mut add = |what: &str, word, change: &dyn Fn(&mut Value)| {
        let mut changed = good.clone();
        change(&mut changed);
        assert_ne!(changed, *good, "{what}");
        attacks.push((what.to_owned(), encoded(&changed), word));
    };
    let parameters =
        |change: fn(&mut Value)| move |payload: &mut Value| change(&mut payload["challenge"]["parameters"]);
    add("easier algorithm", "forged", &parameters(|p| p["algorithm"] = "SHA-256".into()));
    add("fewer rounds", "forged", &parameters(|p| p["cost"] = 1.into()));
    add("no prefix", "forged", &parameters(|p| p["keyPrefix"] = "".into()));
    add("shorter key", "forged", &parameters(|p| p["keyLength"] = 1.into()));
    add("later expiry", "forged", &parameters(|p| p["expiresAt"] = (p["expiresAt"].as_i64().unwrap() + 3_600).into()));
    add("no expiry", "forged", &parameters(|p| p["expiresAt"] = 0.into()));
    add("other purpose", "forged", &parameters(|p| p["data"]["purpose"] = "login".into()));
    add("other nonce", "forged", &parameters(|p| p["nonce"] = "00".repeat(16).into()));
    add("other salt", "forged", &parameters(|p| p["salt"] = "00".repeat(16).into()));
    // CVE-2025-68113 in today's form: what stands at the end of one part is moved to the beginning of the next.
    add("moved digits", "forged", &|payload| {
        let nonce = payload["challenge"]["parameters"]["nonce"].as_str().unwrap().to_owned();
        payload["challenge"]["parameters"]["nonce"] = nonce[..24].into();
        payload["solution"]["counter"] = u32::from_str_radix(&nonce[24..], 16).unwrap().into();
    });
    add("no signature", "malformed", &|p| drop(p["challenge"].as_object_mut().unwrap().remove("signature")));
    add("empty signature", "forged", &|p| p["challenge"]["signature"] = "".into());
    add("signature in capitals", "forged", &|p| {
        p["challenge"]["signature"] = p["challenge"]["signature"].as_str().unwrap().to_uppercase().into();
    });
    add("a key that the crate would believe", "malformed", &parameters(|p| p["keySignature"] = "00".into()));
    add("an unsigned parameter", "malformed", &parameters(|p| p["memoryCost"] = 1.into()));
    add("unsigned data", "malformed", &parameters(|p| p["data"]["admin"] = true.into()));
    add("an unsigned field", "malformed", &|p| p["verified"] = true.into());
    add("an unsigned field of the challenge", "malformed", &|p| p["challenge"]["configuration"] = json!({}));
    add("an unsigned field of the solution", "malformed", &|p| p["solution"]["x"] = 1.into());
    add("a counter of 33 bits", "malformed", &|p| p["solution"]["counter"] = 4_294_967_296_u64.into());
    add("a counter below nought", "malformed", &|p| p["solution"]["counter"] = (-1).into());
    add("no key", "malformed", &|p| drop(p["solution"].as_object_mut().unwrap().remove("derivedKey")));
    attacks
}

/// What is no solution at all.
fn garbage(good: &Value) -> Vec<(String, String, &'static str)> {
    let text = good.to_string();
    let padded = format!("{text}{}", " ".repeat(5 * 1_024 - text.len()));
    let version_1 = |salt: &str, number: u32| json!({ "algorithm": "SHA-256", "challenge": "00", "number": number, "salt": salt, "signature": "00", "took": 1 });
    // Two characters of padding at the end.
    let uneven = format!("{text}{}", " ".repeat((4 - text.len() % 3) % 3));
    let cases = [
        ("5 KiB", STANDARD.encode(padded), "too_long"),
        ("5 KiB of nothing", "A".repeat(5 * 1_024), "too_long"),
        ("version 1", encoded(&version_1("aa?expires=9999999999&", 123)), "malformed"),
        ("version 1, its digits moved", encoded(&version_1("aa?expires=99999999991", 23)), "malformed"),
        ("no base64", "{}".into(), "malformed"),
        ("JSON itself", text.clone(), "malformed"),
        ("no padding", STANDARD.encode(uneven).replace("==", ""), "malformed"),
        ("two of them", STANDARD.encode(format!("{text}{text}")), "malformed"),
        ("a field twice", STANDARD.encode(text.replacen("\"counter\"", "\"counter\":0,\"counter\"", 1)), "malformed"),
        ("not UTF-8", STANDARD.encode(b"\"\xFF\""), "malformed"),
        ("as deep as it gets", STANDARD.encode("[".repeat(3_000)), "malformed"),
    ];
    cases.into_iter().map(|(what, proof, word)| (what.to_owned(), proof, word)).collect()
}

#[tokio::test]
async fn nothing_that_was_changed_or_made_up_is_accepted_and_it_costs_neither_a_key_nor_the_challenge() {
    let app = asking(StoreKind::Memory).start().await;
    for api in Api::ALL {
        let challenge = challenge(&app, REGISTER).await;
        let good = payload(&challenge, &solved(&challenge));
        let (checked, accepted) = (app.events.count("challenge checked"), app.events.count("challenge accepted"));
        for (what, proof, word) in changed(&good).into_iter().chain(garbage(&good)) {
            let before = app.events.count(word);
            let answer = api.register_with(&app, "eve", &password("eve"), "", &proof).await;
            assert!(is_invalid(&answer), "{api:?}, {what}: {answer:?}");
            assert_eq!(app.events.count(word), before + 1, "{api:?}, {what} is not {word}");
        }
        let other = api.login_with(&app, "eve", &password("eve"), &encoded(&good)).await;
        assert!(is_invalid(&other) && app.events.count("other_purpose") > 0, "{other:?}");
        assert_eq!(app.events.count("challenge checked"), checked, "a key was derived");
        assert_eq!(app.events.count("challenge accepted"), accepted);
        let name = format!("ada-{api:?}");
        let answer = api.register_with(&app, &name, &password(&name), "", &encoded(&good)).await;
        assert_eq!(answer.outcome(), "ok", "the challenge itself was still good");
    }
}

#[tokio::test]
async fn a_wrong_solution_is_refused_and_spends_its_challenge() {
    let app = asking(StoreKind::Memory).start().await;
    for api in Api::ALL {
        // The true key of counter 0, which does not begin as it must, but for one challenge in sixteen.
        let (challenge, first) = loop {
            let challenge = challenge(&app, REGISTER).await;
            let mut easy = challenge.clone();
            easy.parameters.key_prefix.clear();
            let first = solved(&easy);
            assert_eq!(first.counter, 0);
            if !first.derived_key.starts_with(&challenge.parameters.key_prefix) {
                break (challenge, first);
            }
        };
        let right = solved(&challenge);
        let wrong_key = Solution { derived_key: first.derived_key.clone(), ..right.clone() };
        let no_key = Solution { derived_key: String::new(), ..right.clone() };
        let begun = Solution { derived_key: challenge.parameters.key_prefix.clone(), ..right.clone() };
        let before = app.events.count("unsolved");
        let answer = api.register_with(&app, "eve", &password("eve"), "", &encoded(&payload(&challenge, &first))).await;
        assert!(is_invalid(&answer) && app.events.count("unsolved") == before + 1, "{answer:?}");
        let late = api.register_with(&app, "eve", &password("eve"), "", &encoded(&payload(&challenge, &right))).await;
        assert!(is_invalid(&late), "a wrong solution spends it too: {late:?}");
        for wrong in [wrong_key, no_key, begun] {
            let fresh = self::challenge(&app, REGISTER).await;
            let counter = solved(&fresh).counter;
            let proof = encoded(&payload(&fresh, &Solution { counter, ..wrong }));
            assert!(is_invalid(&api.register_with(&app, "eve", &password("eve"), "", &proof).await));
        }
        assert_eq!(app.events.count("unsolved"), before + 4);
    }
    assert_eq!(app.events.count("challenge accepted"), 0);
}

#[tokio::test]
async fn a_solution_as_long_as_is_allowed_is_read() {
    let app = asking(StoreKind::Memory).start().await;
    let challenge = challenge(&app, REGISTER).await;
    let text = payload(&challenge, &solved(&challenge)).to_string();
    let longest = STANDARD.encode(format!("{text}{}", " ".repeat(3 * 1_024 - text.len())));
    assert_eq!(longest.len(), 4 * 1_024);
    assert_eq!(Api::Grpc.register_with(&app, "ada", &password("ada"), "", &longest).await.outcome(), "ok");
}

#[tokio::test]
async fn a_challenge_is_good_until_its_second_and_not_in_it() {
    for kind in [StoreKind::Memory, StoreKind::Embedded] {
        let app = asking(kind).start().await;
        for (seconds, is_good) in [(-1, true), (0, false), (1, false)] {
            let challenge = challenge(&app, REGISTER).await;
            let expires_at = challenge.parameters.expires_at.unwrap();
            let proof = encoded(&payload(&challenge, &solved(&challenge)));
            let then = UNIX_EPOCH + Duration::from_secs((expires_at + seconds).try_into().unwrap());
            app.clock.advance(then.duration_since(app.clock.now()).unwrap());
            let name = format!("ada{seconds}");
            let answer = Api::Grpc.register_with(&app, &name, &password(&name), "", &proof).await;
            assert_eq!((answer.outcome() == "ok", is_invalid(&answer)), (is_good, !is_good), "{kind:?} {seconds}");
        }
        assert_eq!(app.events.count("expired"), 2);
    }
}

#[tokio::test]
async fn a_challenge_of_the_last_minute_of_a_day_is_good_on_the_next_one() {
    const DAY: u64 = 86_400;
    let clock = ManualClock::default();
    let now = clock.now().duration_since(UNIX_EPOCH).unwrap();
    clock.advance_wall(Duration::from_secs((now.as_secs() / DAY + 1) * DAY - 60) - now);
    let app = asking(StoreKind::Memory).clock(clock).start().await;
    let proof = solution(&app, REGISTER).await;
    app.clock.advance(Duration::from_secs(120));
    assert_eq!(Api::Grpc.register_with(&app, "ada", &password("ada"), "", &proof).await.outcome(), "ok");
}

/// One race of 64 for one solution, by turns over nodes and doors; answers how many had a success.
async fn race(nodes: &Arc<Vec<App>>, proof: &str, round: usize) -> usize {
    let mut racers = JoinSet::new();
    for racer in 0..RACERS {
        let (nodes, proof) = (nodes.clone(), proof.to_owned());
        racers.spawn(async move {
            let (node, api) = (&nodes[racer % nodes.len()], Api::ALL[racer / 2 % 2]);
            let name = format!("racer-{round}-{racer}");
            let answer = api.register_with(node, &name, &password(&name), "", &proof).await;
            assert!(answer.outcome() == "ok" || is_invalid(&answer), "{answer:?}");
            usize::from(answer.outcome() == "ok")
        });
    }
    racers.join_all().await.into_iter().sum()
}

/// T11 and T39.
#[tokio::test(flavor = "multi_thread")]
async fn of_64_racers_with_one_solution_exactly_one_is_accepted_and_none_after_a_restart() {
    for (kind, nodes) in [(StoreKind::Memory, 1), (StoreKind::Embedded, 1), (StoreKind::Redis, 2)] {
        let place = TestStore::new(kind);
        let start = async || {
            let mut started = Vec::new();
            for _ in 0..nodes {
                // As many workers as racers, so that nobody is turned away.
                let node = asking(kind).change(|config| config.hashing.workers = RACERS);
                started.push(node.start_in(place.clone()).await);
            }
            Arc::new(started)
        };
        let running = start().await;
        let proof = solution(&running[0], REGISTER).await;
        assert_eq!(race(&running, &proof, 0).await, 1, "{kind:?}");
        for word in ["challenge spent", "challenge checked", "challenge accepted"] {
            assert_eq!(running.iter().map(|node| node.events.count(word)).sum::<usize>(), 1, "{kind:?} {word}");
        }
        if kind == StoreKind::Memory {
            continue;
        }
        for node in Arc::into_inner(running).expect("the racers have ended") {
            node.stopped().await;
        }
        let again = start().await;
        assert_eq!(race(&again, &proof, 1).await, 0, "{kind:?}: after a restart");
    }
}

/// The control of T39: a store that forgets what was spent lets more than one through.
#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_spends_everything_again_is_found_out() {
    let app = App::on(Faulty::with(Fault::SpendsAgain)).args(&["--challenge", "both"]);
    let nodes = Arc::new(vec![app.change(|config| config.hashing.workers = RACERS).start().await]);
    let proof = solution(&nodes[0], REGISTER).await;
    let successes = race(&nodes, &proof, 0).await;
    assert!(successes > 1, "the control shows nothing: {successes}");
}

#[tokio::test]
async fn nothing_counts_while_nobody_knows_whether_it_was_spent() {
    let faulty = Faulty::with(Fault::None);
    let app = App::on(faulty.clone()).args(&["--challenge", "both"]).start().await;
    for (fault, grpc, http, is_good_later) in [
        (Fault::Down, "STORE_UNAVAILABLE", 503, true),
        // The write was made: whoever repeats it is not the first.
        (Fault::ReplyLost, "OUTCOME_UNKNOWN", 500, false),
    ] {
        for api in Api::ALL {
            let (name, proof) = (format!("{fault:?}-{api:?}"), solution(&app, REGISTER).await);
            let checked = app.events.count("challenge checked");
            faulty.set(fault);
            match api.register_with(&app, &name, &password(&name), "", &proof).await {
                Answer::Grpc(status) => assert_eq!(reason(&status), grpc),
                Answer::Http { status, text, .. } => assert_eq!(status, http, "{text}"),
                Answer::Ok { .. } => panic!("{fault:?}: accepted"),
            }
            assert_eq!(app.events.count("challenge checked"), checked, "a key was derived for nothing");
            faulty.set(Fault::None);
            let later = api.register_with(&app, &name, &password(&name), "", &proof).await;
            assert_eq!(later.outcome() == "ok", is_good_later, "{fault:?} {api:?}: {later:?}");
        }
    }
}

#[tokio::test]
async fn what_was_spent_in_one_store_is_spent_in_its_copy() {
    let (embedded, redis) = (TestStore::new(StoreKind::Embedded), TestStore::new(StoreKind::Redis));
    let node = |kind| asking(kind).args(&["--token-issuer", "https://auth.example"]);
    let app = node(StoreKind::Embedded).start_in(embedded.clone()).await;
    let (spent, fresh) = (solution(&app, REGISTER).await, solution(&app, REGISTER).await);
    assert_eq!(Api::Grpc.register_with(&app, "ada", &password("ada"), "", &spent).await.outcome(), "ok");
    app.stopped().await;
    let (code, out, err) = copy(&embedded, &redis);
    assert_eq!(code, 0, "{out}{err}");
    let app = node(StoreKind::Redis).start_in(redis).await;
    assert!(is_invalid(&Api::Grpc.register_with(&app, "eve", &password("eve"), "", &spent).await));
    let answer = Api::Grpc.register_with(&app, "bob", &password("bob"), "", &fresh).await;
    assert_eq!(answer.outcome(), "ok", "the keys of challenges come along");
}

// === T40: a flood costs us nothing

/// The store would refuse whoever asks it, and a counter hears of every key that is derived.
#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_forged_solutions_costs_neither_a_key_nor_a_look_into_the_store() {
    const FLOOD: usize = 2_000;
    let faulty = Faulty::with(Fault::None);
    let app = Arc::new(App::on(faulty.clone()).args(&["--challenge", "both"]).start().await);
    let challenge = challenge(&app, LOGIN).await;
    let mut forged = payload(&challenge, &solved(&challenge));
    faulty.set(Fault::Down);
    let client = app.client().await;
    let mut flood = JoinSet::new();
    for number in 0..FLOOD {
        forged["challenge"]["parameters"]["nonce"] = format!("{number:032x}").into();
        let request = pb::LoginRequest {
            username: "ada".into(),
            password: password("ada"),
            challenge_solution: encoded(&forged),
        };
        let mut client = client.clone();
        flood.spawn(async move { reason(&client.login(request).await.unwrap_err()) });
    }
    assert!(flood.join_all().await.iter().all(|reason| reason == "CHALLENGE_INVALID"));
    let target = format!("/login?{}", query(&[("username", "ada"), ("password", "x"), ("altcha", &encoded(&forged))]));
    assert_eq!(http(app.http_socket(), "GET", &target, &[], "").await.status, 400);
    assert_eq!(app.events.count("forged"), FLOOD + 1);
    for word in ["challenge checked", "challenge spent", "store failed", "hashed"] {
        assert_eq!(app.events.count(word), 0, "{word}");
    }
}

#[tokio::test]
async fn an_operator_sees_what_became_of_challenges() {
    let app = asking(StoreKind::Memory).start().await;
    let proof = solution(&app, LOGIN).await;
    for proof in ["", &proof, &proof, "?"] {
        Api::Grpc.login_with(&app, "ada", &password("ada"), proof).await;
    }
    let page = http(app.ops_socket(), "GET", "/metrics", &[], "").await.body;
    for line in [
        r#"watchword_challenges_total{outcome="created"} 1"#,
        r#"watchword_challenges_total{outcome="missing"} 1"#,
        r#"watchword_challenges_total{outcome="accepted"} 1"#,
        r#"watchword_challenges_total{outcome="spent"} 1"#,
        r#"watchword_challenges_total{outcome="malformed"} 1"#,
        "watchword_challenge_checks_total 1",
    ] {
        assert!(page.contains(line), "{line} is missing:\n{page}");
    }
}
