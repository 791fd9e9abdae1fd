//! Where a proof of work is required, how a client gets a challenge, and the solvers of ALTCHA (T38).

use std::time::{Duration, UNIX_EPOCH};

use altcha::Challenge;
use serde_json::{Value, json};
use tokio::process::Command;
use tonic::Code;
use watchword::{
    api::{pb, rpc},
    domain::{Clock, Work},
};

use super::{LOGIN, REGISTER, is_invalid, is_required, solution, with_challenges};
use crate::support::{
    Answer, Api, App, StoreKind, app, details, http, password,
    program::{existing, root, succeeds, tool},
    query,
};

/// T38. Challenges use one algorithm, PBKDF2/SHA-256, here with the default work. The solutions of all ALTCHA programs are
/// accepted: the worker of the built widget, its library, and the server package with both implementations.
#[tokio::test]
async fn solutions_of_all_altcha_solvers_are_accepted() {
    let app =
        with_challenges(StoreKind::Memory).change(|config| config.rules.challenges.work = Work::DEFAULT).start().await;
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

/// The widget adds its solution as a form field.
#[tokio::test]
async fn solution_in_a_form_body_is_accepted() {
    let app = with_challenges(StoreKind::Memory).start().await;
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

#[tokio::test]
async fn solution_is_required_where_the_setting_says_and_is_always_checked() {
    for (setting, for_register, for_login) in
        [("off", false, false), ("register", true, false), ("login", false, true), ("both", true, true)]
    {
        let app = App::with(StoreKind::Memory).args(&["--challenge", setting]).start().await;
        for api in Api::ALL {
            let name = format!("{api:?}");
            let without = api.register(&app, &name, &password(&name), "").await;
            assert_eq!(is_required(&without), for_register, "{setting} {api:?}: {without:?}");
            if for_register {
                let proof = solution(&app, REGISTER).await;
                assert_eq!(api.register_with(&app, &name, &password(&name), "", &proof).await.outcome(), "ok");
            }
            let without = api.login(&app, &name, &password(&name)).await;
            assert_eq!(is_required(&without), for_login, "{setting} {api:?}: {without:?}");
            let proof = solution(&app, LOGIN).await;
            assert_eq!(api.login_with(&app, &name, &password(&name), &proof).await.outcome(), "ok", "{setting}");
            let reused = api.login_with(&app, &name, &password(&name), &proof).await;
            assert!(is_invalid(&reused), "a solution is checked with {setting} too: {reused:?}");
        }
    }
}

#[tokio::test]
async fn challenge_refusal_does_not_reveal_whether_a_username_exists() {
    let app = with_challenges(StoreKind::Memory).start().await;
    let proof = solution(&app, REGISTER).await;
    Api::Grpc.register_with(&app, "ada", &password("ada"), "", &proof).await;
    let hashed = app.events.count("hashed");
    for api in Api::ALL {
        // The second solution was spent on ada's registration.
        for invalid in ["", &proof, "e30="] {
            let [taken, free] =
                ["ada", "bob"].map(|name| api.register_with(&app, name, "a long password", "", invalid));
            assert_eq!(format!("{:?}", taken.await), format!("{:?}", free.await), "{api:?} {invalid}");
            let [known, unknown] = ["ada", "bob"].map(|name| api.login_with(&app, name, "a long password", invalid));
            assert_eq!(format!("{:?}", known.await), format!("{:?}", unknown.await), "{api:?} {invalid}");
        }
    }
    assert_eq!(app.events.count("hashed"), hashed, "a refusal cost a hash");
    assert_eq!(app.events.count("taken") + app.events.count("unknown user"), 0);
}

#[tokio::test]
async fn challenge_error_names_the_purpose_and_the_reason() {
    let app = with_challenges(StoreKind::Memory).start().await;
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

#[tokio::test]
async fn widget_gets_an_uncacheable_json_challenge_over_http() {
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
async fn username_of_a_challenge_is_read_for_a_login_only_and_an_empty_one_is_none() {
    let app = app().await;
    for ((purpose, name), username, is_valid) in [
        (LOGIN, "", true),
        (LOGIN, "\u{1}", false),
        (REGISTER, "", true),
        (REGISTER, "\u{1}", true),
        (REGISTER, "ada", true),
    ] {
        let target = format!("/altcha/challenge?{}", query(&[("purpose", name), ("username", username)]));
        let reply = http(app.http_socket(), "GET", &target, &[], "").await;
        let request = pb::CreateChallengeRequest { purpose: purpose.into(), username: username.into() };
        let answer = app.client().await.create_challenge(request).await;
        let texts =
            [(reply.status == 200).then_some(reply.body), answer.ok().map(|answer| answer.into_inner().challenge)];
        for text in texts {
            let challenge: Option<Value> = text.map(|text| serde_json::from_str(&text).unwrap());
            let data = challenge.map(|challenge| challenge["parameters"]["data"].clone());
            assert_eq!(data, is_valid.then(|| json!({ "purpose": name })), "{name} {username:?}");
        }
    }
}

#[tokio::test]
async fn create_challenge_works_with_any_setting_and_requires_a_purpose() {
    let app = app().await;
    let mut client = app.client().await;
    let purpose = pb::ChallengePurpose::Login.into();
    let request = pb::CreateChallengeRequest { purpose, username: String::new() };
    let answer = client.create_challenge(request).await.unwrap().into_inner();
    let challenge: Challenge = serde_json::from_str(&answer.challenge).unwrap();
    let expires_at = challenge.parameters.expires_at.unwrap();
    assert_eq!(answer.expire_time.unwrap(), prost_types::Timestamp { seconds: expires_at, nanos: 0 });
    let remaining = UNIX_EPOCH + Duration::from_secs(expires_at.try_into().unwrap());
    let remaining = remaining.duration_since(app.clock.now()).unwrap();
    assert!((280..=300).contains(&remaining.as_secs()), "five minutes at most: {remaining:?}");
    for (purpose, expected) in [(0, "REQUIRED"), (3, "MALFORMED"), (-1, "MALFORMED")] {
        let error =
            client.create_challenge(pb::CreateChallengeRequest { purpose, username: String::new() }).await.unwrap_err();
        let bad_request: Vec<rpc::BadRequest> = details(&error, "google.rpc.BadRequest");
        assert_eq!(
            (error.code(), bad_request[0].field_violations[0].reason.as_str()),
            (Code::InvalidArgument, expected)
        );
    }
}

#[tokio::test]
async fn metrics_count_the_outcomes_of_challenges() {
    let app = with_challenges(StoreKind::Memory).start().await;
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
