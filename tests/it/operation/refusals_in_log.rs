//! Refusals in the default log: the first of a kind at once, all others of that minute as one line with their number.

use std::{collections::BTreeMap, fs, time::Duration};

use serde_json::Value;
use tempfile::TempDir;
use tracing::subscriber::{DefaultGuard, set_default};
use watchword::api::pb;

use crate::support::{
    Api, App, LogOutput, ManualClock, Setup, StoreKind, forwarded_for, password, reason, with_bearer,
};

/// The log of this thread, at the default level. A node that runs on one thread writes all of its lines there.
fn log() -> (LogOutput, DefaultGuard) {
    let output = LogOutput::default();
    let lines = tracing_subscriber::fmt().json().flatten_event(true).with_writer(output.clone()).finish();
    (output, set_default(lines))
}

/// The lines of audit events whose outcome is a failure.
fn refusals(log: &LogOutput) -> Vec<Value> {
    let lines = log.text().lines().map(|line| serde_json::from_str::<Value>(line).unwrap()).collect::<Vec<_>>();
    lines.into_iter().filter(|line| line["outcome"] == "failure").collect()
}

/// For each event and reason: how many lines there are, and how many events they stand for.
fn counted(lines: &[Value]) -> BTreeMap<String, (u64, u64)> {
    let mut counted = BTreeMap::<_, (u64, u64)>::new();
    for line in lines {
        let entry = counted.entry(format!("{} {}", line["event"], line["reason"]).replace('"', "")).or_default();
        *entry = (entry.0 + 1, entry.1 + line["count"].as_u64().unwrap_or(1));
    }
    counted
}

/// A node whose clock stands still and that reads floods as fast as they come.
fn node() -> Setup {
    let setup = App::with(StoreKind::Memory).args(&["--trusted-proxy", "127.0.0.1"]);
    setup.change(|config| config.limits.refusals_per_second = u32::MAX).clock(ManualClock::stopped())
}

fn refresh(address: &str) -> tonic::Request<pb::RefreshTokenRequest> {
    forwarded_for(address, pb::RefreshTokenRequest { refresh_token: "wwr_".into(), ..Default::default() })
}

fn login(password: &str) -> pb::LoginRequest {
    pb::LoginRequest { username: "ada".into(), password: password.into(), ..Default::default() }
}

#[tokio::test]
async fn ten_thousand_refusals_of_a_minute_are_two_lines_of_each_kind_that_add_up() {
    let (log, _guard) = log();
    let limit = ["--throttle", "on", "--throttle-per-address-and-account", "1/1h"];
    let app = node().args(&limit).start().await;
    app.registered("ada").await;
    let mut client = app.client().await;
    let wrong = "the wrong password of a test";
    let error = client.login(forwarded_for("192.0.2.1", login(wrong))).await.unwrap_err();
    assert_eq!(reason(&error), "INVALID_CREDENTIALS");
    for call in 0..2_500 {
        client.get_user(with_bearer("two words", pb::GetUserRequest {})).await.unwrap_err();
        let limited = client.login(forwarded_for("192.0.2.1", login(wrong))).await.unwrap_err();
        assert_eq!(reason(&limited), "RATE_LIMITED");
        for address in [format!("198.51.100.{}", call % 200), "2001:db8::1".into()] {
            client.refresh_token(refresh(&address)).await.unwrap_err();
        }
        if call % 1_000 == 999 {
            app.clock.advance(Duration::from_secs(20));
        }
    }
    app.stopped().await;
    let lines = refusals(&log);
    let expected = [
        ("authn_login_fail wrong_password", (1, 1)),
        ("authn_token_refused malformed", (2, 2_500)),
        ("authn_token_refused not_ours", (2, 5_000)),
        ("excess_rate_limit_exceeded address_and_account", (2, 2_500)),
    ];
    assert_eq!(counted(&lines), expected.map(|(what, counts)| (what.to_owned(), counts)).into());
    let merged = lines.iter().filter(|line| line["count"].is_u64());
    let mut sources: Vec<_> = merged.map(|line| (line["reason"].to_string(), line["sources"].clone())).collect();
    sources.sort_by(|one, other| one.0.cmp(&other.0));
    let of = |reason: &str, sources: u64| (format!("\"{reason}\""), Value::from(sources));
    assert_eq!(sources, [of("address_and_account", 1), of("malformed", 1), of("not_ours", 100)], "100 or more");
    assert!(lines.iter().all(|line| line["count"].is_null() || line["peer"].is_null()), "{lines:?}");
}

#[tokio::test]
async fn refusal_of_one_call_is_in_the_log_at_once_with_its_address_and_without_the_username() {
    let (log, _guard) = log();
    let app = node().args(&["--throttle", "on", "--throttle-per-address-and-account", "1/1h"]).start().await;
    let mut client = app.client().await;
    for (attempt, event) in ["authn_login_fail", "excess_rate_limit_exceeded"].into_iter().enumerate() {
        client.login(forwarded_for("192.0.2.1", login("the wrong password of a test"))).await.unwrap_err();
        let lines = refusals(&log);
        assert_eq!(lines.len(), attempt + 1, "{lines:?}");
        let line = &lines[attempt];
        assert_eq!((line["event"].as_str(), line["client"].as_str()), (Some(event), Some("192.0.2.1")), "{line}");
        assert_eq!((&line["level"], &line["count"]), (&"INFO".into(), &Value::Null), "{line}");
    }
    assert!(!log.text().contains("ada"), "{}", log.text());
}

#[tokio::test]
async fn flood_that_goes_on_has_two_lines_in_each_minute() {
    let (log, _guard) = log();
    let app = node().start().await;
    let mut client = app.client().await;
    for minute in 1..=3_u64 {
        for _ in 0..10 * minute {
            client.refresh_token(refresh("192.0.2.1")).await.unwrap_err();
        }
        app.clock.advance(Duration::from_secs(60));
    }
    app.stopped().await;
    let counts: Vec<_> = refusals(&log).iter().map(|line| line["count"].as_u64().unwrap_or(1)).collect();
    assert_eq!(counts, [1, 9, 1, 19, 1, 29]);
}

/// Each event is in one place: operators who chose a file find everything there, and nothing twice.
#[tokio::test]
async fn refusals_are_in_the_audit_file_alone_where_there_is_one() {
    let (log, _guard) = log();
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("audit.jsonl");
    let app = node().args(&["--audit-log", file.to_str().unwrap()]).start().await;
    app.client().await.refresh_token(refresh("192.0.2.1")).await.unwrap_err();
    Api::Grpc.login(&app, "ada", &password("ada")).await;
    app.stopped().await;
    assert_eq!(refusals(&log), Vec::<Value>::new());
    let written = fs::read_to_string(&file).unwrap();
    assert!(written.contains("authn_token_refused") && written.contains("authn_login_fail"), "{written}");
}
