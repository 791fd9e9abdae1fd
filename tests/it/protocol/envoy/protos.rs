//! A gateway that uses Envoy's own protobuf files, from npm, understands the service.
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

use super::spellings_without;
use crate::support::{
    App, app,
    fault::{Fault, Faulty},
    program::{existing, root, succeeds, tool},
};

/// The number of calls that are measured.
const CALLS: usize = 200;

fn node(program: &str) -> Command {
    let folder = root().join("tests/envoy");
    existing(folder.join("node_modules"), "the Node packages");
    let mut command = Command::new(tool("node"));
    command.arg(folder.join(program));
    command
}

/// Sends the requests through a gateway program and returns the responses.
async fn run_gateway(app: &App, gateway: &mut Command, requests: &[Value]) -> Vec<Value> {
    let mut file: File = tempfile::tempfile().unwrap();
    for request in requests {
        writeln!(file, "{request}").unwrap();
    }
    file.rewind().unwrap();
    let printed = succeeds(gateway.env("WATCHWORD_ADDR", app.grpc_addr()).stdin(Stdio::from(file))).await;
    printed.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

async fn check_all(app: &App, requests: &[Value]) -> Vec<Value> {
    let responses = run_gateway(app, &mut node("ask.mjs"), requests).await;
    assert_eq!(responses.len(), requests.len());
    responses
}

fn check_request(http: Value, route: Value) -> Value {
    json!({"attributes": {
        // With fields that Envoy sends and Watchword does not read.
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

/// The headers of a response. Each of them must overwrite a header of the request.
fn headers(response: &Value) -> Value {
    let headers = response["headers"].as_array().unwrap().iter();
    let pairs = headers.map(|option| {
        assert_eq!(option["append_action"], "OVERWRITE_IF_EXISTS_OR_ADD");
        (option["header"]["key"].as_str().unwrap().to_owned(), option["header"]["value"].clone())
    });
    Value::Object(pairs.collect())
}

#[tokio::test]
async fn gateway_with_envoys_protobuf_files_reads_every_kind_of_response() {
    let store = Faulty::with(Fault::None);
    let app = App::on(store.clone()).start().await;
    app.registered("zoë").await;
    let tokens = app.authenticate("zoë").await;
    let user = app.introspect(&tokens.access_token).await;
    let bearer = format!("Bearer {}", tokens.access_token);
    let joined = json!({"method": "GET", "path": "/", "size": -1, "headers": {"authorization": bearer}});
    let spoofed = [header(":path", "/"), header("Authorization", &bearer), header("X-Auth-Subject", "root")];
    let with_header_list = json!({"method": "GET", "path": "/", "header_map": {"headers": spoofed}});
    let requests = [
        check_request(joined, json!({})),
        check_request(with_header_list.clone(), json!({"auth": "required", "forward_authorization": "false"})),
        check_request(
            json!({"method": "GET", "headers": {"authorization": "Basic em9lOng="}}),
            json!({"auth": "optional"}),
        ),
        check_request(json!({"method": "GET"}), json!({})),
        check_request(json!({"method": "GET"}), json!({"auth": "optional"})),
        json!({}),
    ];
    let responses = check_all(&app, &requests).await;

    let spellings = spellings_without(&["x-auth-subject", "x-auth-username", "x-auth-session-id"]);
    let without_token = [&["authorization".to_owned()][..], &spellings].concat();
    for (response, removed) in responses.iter().zip([json!(spellings), json!(without_token)]) {
        let ok = &response["ok_response"];
        assert_eq!((&response["status"]["code"], &ok["headers_to_remove"]), (&json!(0), &removed), "{response}");
        let expected = json!({
            "x-auth-subject": user.user_id,
            "x-auth-username": "zo%C3%AB",
            "x-auth-session-id": tokens.session_id,
        });
        assert_eq!(headers(ok), expected);
        let metadata = &response["dynamic_metadata"]["fields"];
        assert_eq!(metadata["sub"]["stringValue"], user.user_id);
        assert!(metadata["exp"]["numberValue"].as_u64() > metadata["iat"]["numberValue"].as_u64(), "{metadata}");
    }
    let expected = [(2, "TOKEN_MISSING"), (3, "TOKEN_MISSING"), (5, "TOKEN_MISSING")];
    for (denied, reason) in expected.map(|(number, reason)| (&responses[number], reason)) {
        assert_eq!(denied["status"]["code"], 16, "{denied}");
        assert_eq!(denied["denied_response"]["status"]["code"], "Unauthorized");
        let body: Value = serde_json::from_str(denied["denied_response"]["body"].as_str().unwrap()).unwrap();
        assert_eq!(body["reason"], reason);
    }
    assert_eq!(responses[4]["ok_response"]["headers_to_remove"], json!(spellings_without(&[])));

    store.set(Fault::Down);
    // A cached token check is valid for less than a second.
    app.clock.advance(Duration::from_millis(800));
    let response = &check_all(&app, &[check_request(with_header_list, json!({}))]).await[0];
    assert_eq!(response["status"]["code"], 14, "{response}");
    assert_eq!(response["error_response"]["status"]["code"], "ServiceUnavailable", "{response}");
    assert_eq!(headers(&response["error_response"])["retry-after"], "1");
}

/// The time is printed and has no limit, because the tests share the machine.
#[tokio::test]
#[expect(clippy::print_stdout, reason = "`-- --nocapture` shows the time")]
async fn two_hundred_checks_complete_and_print_their_time() {
    let app = app().await;
    app.registered("ada").await;
    let bearer = format!("Bearer {}", app.authenticate("ada").await.access_token);
    let request = check_request(json!({"method": "GET", "headers": {"authorization": bearer}}), json!({}));
    let times = run_gateway(&app, node("ask.mjs").arg(CALLS.to_string()), &[request]).await;
    assert_eq!(times[0]["calls"], CALLS, "{times:?}");
    println!("checks, milliseconds: {}", times[0]);
}

#[tokio::test]
async fn our_protobuf_files_are_a_subset_of_envoys() {
    let printed = succeeds(&mut node("subset.mjs")).await;
    let compared: usize = printed.split(' ').next().unwrap().parse().unwrap();
    assert!(compared > 30, "{printed}");
}

#[tokio::test]
async fn every_gateway_setting_of_the_examples_exists_in_envoys_files() {
    let printed = succeeds(&mut node("settings.mjs")).await;
    let checked: usize = printed.split(' ').next().unwrap().parse().unwrap();
    assert!(checked > 500, "{printed}");
}
