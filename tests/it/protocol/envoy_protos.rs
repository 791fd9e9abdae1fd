//! A gateway that reads Envoy's own protobuf files, from npm, in place of ours: what one says the other understands.
//!
//! The program is in `tests/envoy`; `tests/run` installs what it needs.

use std::{
    fs::File,
    io::{Seek, Write},
    process::Stdio,
    time::Duration,
};

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use tokio::process::Command;

use crate::support::{
    App, app,
    fault::{Fault, Faulty},
    program::{existing, root, succeeds, tool},
};

/// Calls whose time is told.
const CALLS: usize = 200;

fn node(program: &str) -> Command {
    let folder = root().join("tests/envoy");
    existing(folder.join("node_modules"), "the Node packages");
    let mut command = Command::new(tool("node"));
    command.arg(folder.join(program));
    command
}

/// What the gateway is answered to each question.
async fn answers(app: &App, gateway: &mut Command, questions: &[Value]) -> Vec<Value> {
    let mut file: File = tempfile::tempfile().unwrap();
    for question in questions {
        writeln!(file, "{question}").unwrap();
    }
    file.rewind().unwrap();
    let printed = succeeds(gateway.env("WATCHWORD_ADDR", app.grpc_addr()).stdin(Stdio::from(file))).await;
    printed.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

async fn asked(app: &App, questions: &[Value]) -> Vec<Value> {
    let answers = answers(app, &mut node("ask.mjs"), questions).await;
    assert_eq!(answers.len(), questions.len());
    answers
}

fn about(http: Value, route: Value) -> Value {
    json!({"attributes": {
        // What Envoy also says, and Watchword does not read.
        "source": {"address": {"socket_address": {"address": "192.0.2.1", "port_value": 4711}}, "principal": "spiffe://a/b"},
        "request": {"time": {"seconds": 1}, "http": http},
        "context_extensions": route,
        "metadata_context": {"filter_metadata": {}},
        "tls_session": {"sni": "shop.example"},
    }})
}

fn header(key: &str, value: &str) -> Value {
    json!({"key": key, "raw_value": STANDARD.encode(value)})
}

/// The headers of an answer, all of which replace what is there.
fn headers(answer: &Value) -> Value {
    let headers = answer["headers"].as_array().unwrap().iter();
    let pairs = headers.map(|option| {
        assert_eq!(option["append_action"], "OVERWRITE_IF_EXISTS_OR_ADD");
        (option["header"]["key"].as_str().unwrap().to_owned(), option["header"]["value"].clone())
    });
    Value::Object(pairs.collect())
}

#[tokio::test]
async fn a_gateway_with_envoys_own_files_is_answered_as_it_expects() {
    let store = Faulty::with(Fault::None);
    let app = App::on(store.clone()).start().await;
    app.registered("zoë").await;
    let tokens = app.authenticate("zoë").await;
    let whose = app.introspect(&tokens.access_token).await;
    let bearer = format!("Bearer {}", tokens.access_token);
    let joined = json!({"method": "GET", "path": "/", "size": -1, "headers": {"authorization": bearer}});
    let spoofed = [header(":path", "/"), header("Authorization", &bearer), header("X-Auth-Subject", "root")];
    let as_they_came = json!({"method": "GET", "path": "/", "header_map": {"headers": spoofed}});
    let questions = [
        about(joined, json!({})),
        about(as_they_came.clone(), json!({"auth": "required", "forward_authorization": "false"})),
        about(json!({"method": "GET", "headers": {"authorization": "Basic em9lOng="}}), json!({"auth": "optional"})),
        about(json!({"method": "GET"}), json!({})),
        about(json!({"method": "GET"}), json!({"auth": "optional"})),
        json!({}),
    ];
    let answers = asked(&app, &questions).await;

    for (answer, removed) in answers.iter().zip([json!(["x-auth-scopes"]), json!(["x-auth-scopes", "authorization"])]) {
        let ok = &answer["ok_response"];
        assert_eq!((&answer["status"]["code"], &ok["headers_to_remove"]), (&json!(0), &removed), "{answer}");
        let expected = json!({
            "x-auth-subject": whose.user_id,
            "x-auth-username": "zo%C3%AB",
            "x-auth-session-id": tokens.session_id,
        });
        assert_eq!(headers(ok), expected);
        let facts = &answer["dynamic_metadata"]["fields"];
        assert_eq!(facts["sub"]["stringValue"], whose.user_id);
        assert!(facts["exp"]["numberValue"].as_u64() > facts["iat"]["numberValue"].as_u64(), "{facts}");
    }
    let expected = [(2, "TOKEN_INVALID"), (3, "TOKEN_MISSING"), (5, "TOKEN_MISSING")];
    for (denied, reason) in expected.map(|(number, reason)| (&answers[number], reason)) {
        assert_eq!(denied["status"]["code"], 16, "{denied}");
        assert_eq!(denied["denied_response"]["status"]["code"], "Unauthorized");
        let body: Value = serde_json::from_str(denied["denied_response"]["body"].as_str().unwrap()).unwrap();
        assert_eq!(body["reason"], reason);
    }
    let nobody = json!(["x-auth-subject", "x-auth-username", "x-auth-session-id", "x-auth-scopes"]);
    assert_eq!(answers[4]["ok_response"]["headers_to_remove"], nobody);

    store.set(Fault::Down);
    // What the store said a moment ago counts for less than a second.
    app.clock.advance(Duration::from_millis(800));
    let answer = &asked(&app, &[about(as_they_came, json!({}))]).await[0];
    assert_eq!(answer["status"]["code"], 14, "{answer}");
    assert_eq!(answer["error_response"]["status"]["code"], "ServiceUnavailable", "{answer}");
    assert_eq!(headers(&answer["error_response"])["retry-after"], "1");
}

/// Its figure is told and not judged: tests share the machine with each other.
#[tokio::test]
#[expect(clippy::print_stdout, reason = "`-- --nocapture` shows the figure")]
async fn two_hundred_checks_are_answered_and_their_time_is_told() {
    let app = app().await;
    app.registered("ada").await;
    let bearer = format!("Bearer {}", app.authenticate("ada").await.access_token);
    let question = about(json!({"method": "GET", "headers": {"authorization": bearer}}), json!({}));
    let times = answers(&app, node("ask.mjs").arg(CALLS.to_string()), &[question]).await;
    assert_eq!(times[0]["calls"], CALLS, "{times:?}");
    println!("checks, milliseconds: {}", times[0]);
}

#[tokio::test]
async fn our_files_say_what_envoys_own_say() {
    let printed = succeeds(&mut node("subset.mjs")).await;
    let compared: usize = printed.split(' ').next().unwrap().parse().unwrap();
    assert!(compared > 30, "{printed}");
}

#[tokio::test]
async fn envoys_own_files_know_every_setting_of_the_examples() {
    let printed = succeeds(&mut node("settings.mjs")).await;
    let checked: usize = printed.split(' ').next().unwrap().parse().unwrap();
    assert!(checked > 500, "{printed}");
}
