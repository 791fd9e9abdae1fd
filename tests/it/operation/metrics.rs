//! Metrics: every call is counted once, and no caller can choose a label value.

use std::time::Duration;

use tokio::{io::AsyncWriteExt, time::timeout};
use tonic::Code;
use watchword::api::{
    METHODS,
    health::{HealthCheckRequest, health_client::HealthClient},
    pb,
};

use crate::support::{
    Api, App, WAIT_MAX, app,
    fault::{Fault, Faulty},
    frames::{RST_STREAM, SETTINGS, begun, call, frame},
    h2, http, password, query,
};

const AUTH: &str = "watchword.auth.v1.Auth";

/// One line of the metrics page: the name, labels and value of a metric.
#[derive(Debug)]
struct Sample {
    name: String,
    labels: Vec<(String, String)>,
    value: f64,
}

impl Sample {
    fn parse(line: &str) -> Self {
        let (series, value) = line.rsplit_once(' ').unwrap();
        let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
        let labels = labels.strip_suffix('}').unwrap();
        let labels = labels.split_terminator("\",").map(|label| {
            let (name, value) = label.split_once("=\"").unwrap();
            (name.to_owned(), value.trim_end_matches('"').to_owned())
        });
        Self { name: name.into(), labels: labels.collect(), value: value.parse().unwrap() }
    }

    fn has(&self, label: &str, value: &str) -> bool {
        self.labels.iter().any(|(name, other)| name == label && other == value)
    }
}

async fn samples(app: &App) -> Vec<Sample> {
    let page = http(app.ops_socket(), "GET", "/metrics", &[], "").await.body;
    page.lines().filter(|line| !line.starts_with('#')).map(Sample::parse).collect()
}

/// The number of calls of a method that ended with a status code.
async fn calls(app: &App, method: &str, code: &str) -> f64 {
    let samples = samples(app).await;
    let found = samples.iter().find(|sample| {
        sample.name == "rpc_server_call_duration_seconds_count"
            && sample.has("rpc_method", method)
            && sample.has("rpc_status_code", code)
            && sample.has("rpc_system_name", "grpc")
    });
    found.map_or(0.0, |sample| sample.value)
}

/// Waits until the number of calls is exactly `expected`: a response can reach the caller before the call is counted.
async fn wait_for_calls(app: &App, method: &str, code: &str, expected: f64) {
    let polling = async { while calls(app, method, code).await < expected {} };
    assert!(timeout(WAIT_MAX, polling).await.is_ok(), "{method} {code}: {}", calls(app, method, code).await);
    assert!((calls(app, method, code).await - expected).abs() < 0.5, "{method} {code}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_grpc_call_is_counted_once_with_its_method_and_status_code() {
    let store = Faulty::with(Fault::None);
    let app = App::on(store.clone()).start().await;
    app.registered("ada").await;
    let access = app.authenticate("ada").await.access_token;
    Api::Grpc.login(&app, "ada", "wrong password").await;
    for _ in 0..3 {
        app.introspect(&access).await;
    }
    app.client().await.login(pb::LoginRequest::default()).await.unwrap_err();
    // A response of tonic itself, unknown methods, and a stream.
    let large = h2::framed(&pb::IntrospectTokenRequest { token: "x".repeat(20_000), ..Default::default() });
    let refused = h2::status(h2::call(&app, &format!("/{AUTH}/IntrospectToken"), &[], large).await).await;
    assert_eq!(refused.code(), Code::ResourceExhausted);
    for path in [format!("/{AUTH}/Nope"), "/no.such.Service/Login".into(), format!("/{AUTH}/"), "/".into()] {
        assert_eq!(h2::status(h2::call(&app, &path, &[], vec![0; 5]).await).await.code(), Code::Unimplemented);
    }
    let mut health = HealthClient::new(app.channel().await);
    let watch = health.watch(HealthCheckRequest::default()).await.unwrap().into_inner();
    drop(watch);
    store.set(Fault::Hangs);
    let short_deadline = [("grpc-timeout", "20m")];
    let login = h2::framed(&pb::LoginRequest {
        username: "ada".into(),
        password: password("ada"),
        challenge_solution: String::new(),
    });
    let late = h2::status(h2::call(&app, &format!("/{AUTH}/Login"), &short_deadline, login).await).await;
    assert_eq!(late.code(), Code::DeadlineExceeded);
    // A caller cancels while the store does not answer.
    let mut stream = begun(app.grpc_socket(), &frame(SETTINGS, 0, 0, &[])).await;
    let entered = store.clone().entered();
    stream.write_all(&call(1, &format!("/{AUTH}/Register"), &[], &h2::framed(&registration("eve")))).await.unwrap();
    entered.await;
    stream.write_all(&frame(RST_STREAM, 0, 1, &[0, 0, 0, 8])).await.unwrap();

    for (method, code, expected) in [
        ("Register", "OK", 1.0),
        ("Register", "CANCELLED", 1.0),
        ("Login", "OK", 1.0),
        ("Login", "UNAUTHENTICATED", 1.0),
        ("Login", "INVALID_ARGUMENT", 1.0),
        ("Login", "DEADLINE_EXCEEDED", 1.0),
        ("IntrospectToken", "OK", 3.0),
        ("IntrospectToken", "RESOURCE_EXHAUSTED", 1.0),
        ("GetUser", "OK", 0.0),
    ] {
        wait_for_calls(&app, &format!("{AUTH}/{method}"), code, expected).await;
    }
    wait_for_calls(&app, "_OTHER", "UNIMPLEMENTED", 4.0).await;
    wait_for_calls(&app, "grpc.health.v1.Health/Watch", "CANCELLED", 1.0).await;
}

fn registration(name: &str) -> pb::RegisterRequest {
    pb::RegisterRequest { username: name.into(), password: password(name), ..pb::RegisterRequest::default() }
}

#[tokio::test]
async fn call_duration_is_measured_with_the_clock_of_the_environment() {
    let store = Faulty::with(Fault::Hangs);
    let app = App::on(store.clone()).start().await;
    let entered = store.clone().entered();
    let client = app.client().await;
    let running = tokio::spawn(async move { client.clone().register(registration("ada")).await });
    entered.await;
    app.clock.advance(Duration::from_secs(3));
    running.abort();
    wait_for_calls(&app, &format!("{AUTH}/Register"), "CANCELLED", 1.0).await;
    let samples = samples(&app).await;
    let sum = samples.iter().find(|sample| sample.name == "rpc_server_call_duration_seconds_sum").unwrap();
    assert!((3.0..4.0).contains(&sum.value), "{sum:?}");
}

#[tokio::test]
async fn every_http_request_is_counted_under_its_route() {
    let app = app().await;
    let ask = async |method: &str, target: &str, headers: &[(&str, &str)]| {
        http(app.http_socket(), method, target, headers, "").await.status
    };
    let ada = query(&[("username", "ada"), ("password", &password("ada"))]);
    for (method, target, status) in [
        ("POST", format!("/register?{ada}"), 200),
        ("GET", format!("/login?{ada}"), 200),
        ("HEAD", "/login".into(), 400),
        ("GET", "/login".into(), 400),
        ("DELETE", "/login".into(), 405),
        ("BREW", "/login".into(), 405),
        ("GET", "/secret/ada".into(), 404),
        ("GET", "/".into(), 200),
        ("GET", "/.well-known/jwks.json".into(), 200),
        ("GET", "/oauth2/unknown".into(), 404),
    ] {
        assert_eq!(ask(method, &target, &[]).await, status, "{method} {target}");
    }
    assert_eq!(ask("GET", "/", &[("origin", "https://evil.example")]).await, 403);
    let samples = samples(&app).await;
    let count = |route: &str, method: &str, status: &str| {
        let found = samples.iter().find(|sample| {
            sample.name == "http_server_request_duration_seconds_count"
                && sample.has("http_route", route)
                && sample.has("http_request_method", method)
                && sample.has("http_response_status_code", status)
        });
        found.map_or(0.0, |sample| sample.value)
    };
    for (route, method, status) in [
        ("/register", "POST", "200"),
        ("/login", "GET", "200"),
        ("/login", "HEAD", "400"),
        ("/login", "GET", "400"),
        ("/login", "DELETE", "405"),
        ("/login", "_OTHER", "405"),
        ("_OTHER", "GET", "404"),
        ("/", "GET", "200"),
        ("/", "GET", "403"),
        ("/.well-known/jwks.json", "GET", "200"),
        ("/oauth2/{*path}", "GET", "404"),
    ] {
        assert!((count(route, method, status) - 1.0).abs() < 0.5, "{route} {method} {status}\n{samples:#?}");
    }
}

/// The table of docs/reference/metrics.md: name, type, labels.
fn documented() -> Vec<[&'static str; 3]> {
    let page = include_str!("../../../docs/reference/metrics.md");
    let rows = page.lines().filter(|line| line.starts_with("| `"));
    rows.map(|row| {
        let cells: Vec<_> = row.split('|').map(str::trim).collect();
        [cells[1].trim_matches('`'), cells[2], cells[3]]
    })
    .collect()
}

/// Whether the table lists this label of this metric, and the value where it lists values.
fn is_documented(sample: &Sample, label: &str, value: &str) -> bool {
    let one_of = |values: &[&str]| values.contains(&value);
    let is_known = |value: &str| match label {
        "rpc_method" => METHODS.contains(&value) || value == "_OTHER",
        "rpc_status_code" => CODES.contains(&value),
        "http_route" => one_of(&["/", "/register", "/login", "/.well-known/jwks.json", "/oauth2/{*path}", "_OTHER"]),
        "http_request_method" => one_of(&["GET", "HEAD", "POST", "OPTIONS", "DELETE", "_OTHER"]),
        "http_response_status_code" => value.parse::<u16>().is_ok(),
        "version" => value == env!("CARGO_PKG_VERSION"),
        _ => false,
    };
    let name =
        ["_bucket", "_sum", "_count"].iter().find_map(|end| sample.name.strip_suffix(end)).unwrap_or(&sample.name);
    let rows = documented();
    let Some([_, _, labels]) = rows.iter().find(|[known, ..]| *known == name) else { return false };
    match labels.split_once(&format!("`{label}`")) {
        // The list of values extends to the end of the cell.
        Some((_, values)) if values.starts_with(": ") => values[2..].split(", ").any(|known| known == value),
        Some(_) => is_known(value),
        None => label == "le" && (value == "+Inf" || value.parse::<f64>().is_ok()),
    }
}

const CODES: [&str; 17] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];

#[tokio::test]
async fn flood_of_names_paths_methods_and_tokens_adds_no_label_value() {
    let app = app().await;
    let hostile: Vec<String> = (0..40).map(|number| format!("evil{number}\"}}\n{{x=\"198.51.100.{number}")).collect();
    for (number, text) in hostile.iter().enumerate() {
        for api in Api::ALL {
            api.login(&app, text, text).await;
            api.login(&app, &format!("evil{number}"), "evil login").await;
            api.register(&app, &format!("evil{number}"), "evil password", text).await;
        }
        app.introspect(&format!("evil.{number}.token")).await;
        let agent = [("user-agent", text.as_str().split('\n').next().unwrap())];
        let path = format!("/evil{number}.Service/Evil{number}");
        h2::call(&app, &path, &agent, vec![0; 5]).await;
        h2::call(&app, &format!("/{AUTH}/Evil{number}"), &agent, vec![0; 5]).await;
        let target = format!("/evil{number}?{}", query(&[("username", text)]));
        http(app.http_socket(), &format!("EVIL{number}"), &target, &agent, "").await;
        http(app.http_socket(), "GET", &format!("/oauth2/evil{number}"), &agent, "").await;
    }
    let samples = samples(&app).await;
    assert!(samples.len() > 100);
    for sample in &samples {
        let undocumented = sample.labels.iter().find(|(label, value)| !is_documented(sample, label, value));
        assert!(undocumented.is_none(), "{undocumented:?} of {}", sample.name);
    }
    let page = http(app.ops_socket(), "GET", "/metrics", &[], "").await.body;
    assert!(!page.to_lowercase().contains("evil") && !page.contains("198.51") && !page.contains("127.0.0.1"));
}

#[tokio::test]
async fn metrics_page_and_reference_list_equal_metrics_and_types() {
    let app = app().await;
    Api::Legacy.login(&app, "ada", "a wrong password").await;
    Api::Grpc.login(&app, "ada", "a wrong password").await;
    let page = http(app.ops_socket(), "GET", "/metrics", &[], "").await.body;
    let types: Vec<_> = page.lines().filter_map(|line| line.strip_prefix("# TYPE ")).collect();
    let mut shown: Vec<_> = types
        .iter()
        .map(|line| {
            let (name, kind) = line.split_once(' ').unwrap();
            let end = match kind {
                "counter" => "_total",
                "info" => "_info",
                _ => "",
            };
            (format!("{name}{end}"), kind)
        })
        .collect();
    let mut listed: Vec<_> = documented().into_iter().map(|[name, kind, _]| (name.to_owned(), kind)).collect();
    // Present only while there is a configuration warning.
    shown.push(("watchword_store_alarm".into(), "gauge"));
    shown.sort();
    listed.sort();
    assert_eq!(listed, shown);
}
