//! Runs the example programs and grpcurl as described in `examples/`.
//!
//! `tests/run` installs the tools. A missing tool fails the test with a message; no test is skipped.

use std::{
    fs::{self, File},
    net::TcpListener,
    path::Path,
    process::{Output, Stdio},
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use prost::Message;
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::Command,
    time::timeout,
};
use uuid::Uuid;
use watchword::{
    api::{errors::status, pb},
    domain::{Error, Limit, Work},
};

use crate::{
    client::proof_of_work::hooked,
    support::{
        App, BINARY, CHEAP_WORK, ManualClock, StoreKind, app, http,
        program::{PROGRAM_TIMEOUT, existing, root, run, succeeds, text, tool},
    },
};

/// The exit code of grpcurl for UNAUTHENTICATED: 64 plus the gRPC status code.
const UNAUTHENTICATED: i32 = 64 + 16;

const AUTH: &str = "watchword.auth.v1.Auth";

#[tokio::test]
async fn rust_example_registers_logs_in_and_reads_the_error_reason() {
    assert_registers_logs_in_and_reads_the_error_reason(rust).await;
}

/// The protected service verifies tokens with the published keys only.
#[tokio::test]
async fn protected_rust_service_answers_authenticated_users_only() {
    let app = app().await;
    app.registered("ada").await;
    let tokens = app.authenticate("ada").await;
    let mut service = rust_program("protected");
    service.env("WATCHWORD_ISSUER", format!("http://{}", app.http_socket())).env("HELLO_ADDR", "127.0.0.1:0");
    let mut service = service.kill_on_drop(true).stdout(Stdio::piped()).spawn().unwrap();
    let mut output = BufReader::new(service.stdout.take().unwrap()).lines();
    let line = timeout(PROGRAM_TIMEOUT, output.next_line()).await.unwrap().unwrap().unwrap();
    let address = line.strip_prefix("listening on ").unwrap().parse().unwrap();
    let bearer = format!("Bearer {}", tokens.access_token);
    let response = http(address, "GET", "/hello", &[("authorization", &bearer)], "").await;
    let user_id = app.introspect(&tokens.access_token).await.user_id;
    assert_eq!((response.status, response.body), (200, format!("hello {user_id}\n")));
    for credentials in ["", "Bearer x", &format!("Bearer {}", tokens.refresh_token)] {
        assert_eq!(
            http(address, "GET", "/hello", &[("authorization", credentials)], "").await.status,
            401,
            "{credentials}"
        );
    }
}

#[tokio::test]
async fn rust_service_is_protected_in_at_most_ten_lines() {
    let text = fs::read_to_string(root().join("examples/rust/protected.rs")).unwrap();
    let main = text.split("async fn main()").nth(1).unwrap().split("\n}").next().unwrap();
    let code = main.lines().skip(1).filter(|line| !line.trim().is_empty()).count();
    assert!(code <= 10, "{code} lines");
}

#[tokio::test]
async fn python_example_registers_logs_in_and_reads_the_error_reason() {
    assert_registers_logs_in_and_reads_the_error_reason(python).await;
}

#[tokio::test]
async fn node_example_registers_logs_in_and_reads_the_error_reason() {
    assert_registers_logs_in_and_reads_the_error_reason(node).await;
}

#[tokio::test]
async fn go_example_registers_logs_in_and_reads_the_error_reason() {
    assert_registers_logs_in_and_reads_the_error_reason(go).await;
}

#[tokio::test]
async fn reflection_example_registers_and_logs_in_without_proto_files() {
    let app = app().await;
    let printed = succeeds(python_reflection().env("WATCHWORD_ADDR", app.grpc_addr())).await;
    assert_logged_in(printed.trim_end());
}

/// Every program registers and logs in, and the server accepts a solution for each of these calls.
#[tokio::test]
async fn every_example_solves_the_challenges_that_the_server_requires() {
    for key_prefix in ["0", "00"] {
        let app = with_challenges(Work { key_prefix, ..CHEAP_WORK }).await;
        for mut program in [rust(), python(), node(), go()] {
            let accepted = app.events.count("challenge accepted");
            let printed = succeeds(program.env("WATCHWORD_ADDR", app.grpc_addr())).await;
            assert!(printed.ends_with("refused: INVALID_CREDENTIALS\n"), "{program:?}: {printed}");
            assert_eq!(app.events.count("challenge accepted"), accepted + 3, "{program:?}");
        }
        let accepted = app.events.count("challenge accepted");
        succeeds(python_reflection().env("WATCHWORD_ADDR", app.grpc_addr())).await;
        for (_, program) in verifiers() {
            succeeds(&mut verifier(&app, program)).await;
        }
        assert_eq!(app.events.count("challenge accepted"), accepted + 8);
    }
}

/// A proxy refuses each call without a solution, with the limits in turn. Every program registers, logs in, and logs in with
/// a wrong password.
#[tokio::test]
async fn every_example_passes_the_limits_that_count_no_proof_of_work_and_no_other() {
    let app = app().await;
    let passed = limited(&app, &[Limit::Registrations, Limit::Address, Limit::AddressAndAccount]).await;
    let also_passed = limited(&app, &[Limit::Account]).await;
    let not_passed = limited(&app, &[Limit::ProofOfWork]).await;
    let run_with = async |mut program: Command, address: &str| run(program.env("WATCHWORD_ADDR", address)).await;
    for program in [rust, python, node, go] {
        for address in [&passed, &also_passed] {
            let accepted = app.events.count("challenge accepted");
            let ended = run_with(program(), address).await;
            assert!(text(&ended.stdout).ends_with("refused: INVALID_CREDENTIALS\n"), "{ended:?}");
            assert_eq!(app.events.count("challenge accepted"), accepted + 3, "{ended:?}");
        }
        let created = app.events.count("challenge created");
        let ended = run_with(program(), &not_passed).await;
        assert!(!ended.status.success(), "{ended:?}");
        assert_eq!(app.events.count("challenge created"), created, "{ended:?}: solved in vain");
    }
}

#[tokio::test]
async fn every_example_refuses_a_challenge_that_asks_for_too_much_work() {
    let app = with_challenges(Work { cost: 10, key_prefix: "00000000" }).await;
    for (number, mut program) in [rust(), python(), python_reflection(), node(), go()].into_iter().enumerate() {
        let ended = run(program.env("WATCHWORD_ADDR", app.grpc_addr())).await;
        assert!(!ended.status.success(), "{program:?}");
        assert!(text(&ended.stderr).contains("the challenge asks for "), "{program:?}: {ended:?}");
        assert_eq!(app.events.count("challenge created"), number + 1, "{program:?}");
    }
}

#[tokio::test]
async fn every_example_fails_without_a_server() {
    let unused_address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    for mut program in [rust(), python(), python_reflection(), node(), go()] {
        let ended = run(program.env("WATCHWORD_ADDR", &unused_address)).await;
        assert!(!ended.status.success() && !ended.stderr.is_empty(), "{program:?}: {ended:?}");
        assert_eq!(text(&ended.stdout), "", "{program:?}");
    }
}

#[tokio::test]
async fn grpcurl_lists_the_services_by_reflection() {
    let app = app().await;
    let services = succeeds(grpcurl().args(["-plaintext", &app.grpc_addr(), "list"])).await;
    let expected = [
        "envoy.service.auth.v3.Authorization",
        "grpc.health.v1.Health",
        "grpc.reflection.v1.ServerReflection",
        "grpc.reflection.v1alpha.ServerReflection",
        AUTH,
    ];
    assert_eq!(services.lines().collect::<Vec<_>>(), expected);
}

#[tokio::test]
async fn grpcurl_describes_methods_and_fields_with_their_comments() {
    let app = app().await;
    for (symbol, comment) in [
        ("watchword.auth.v1.Auth", "// Registers users, authenticates them, and manages their sessions and tokens."),
        ("watchword.auth.v1.Auth.Login", "// Verifies a user's password and creates a session."),
        ("watchword.auth.v1.RegisterRequest", "// Makes the call idempotent (AIP-155)"),
        ("envoy.service.auth.v3.Authorization", "// Says whether the request that a gateway holds may pass"),
        ("watchword.auth.v1.ErrorReason", "// The username, the password or the reset code"),
    ] {
        let described = succeeds(grpcurl().args(["-plaintext", &app.grpc_addr(), "describe", symbol])).await;
        assert!(described.contains(comment), "{symbol} lacks {comment:?}:\n{described}");
    }
}

#[tokio::test]
async fn grpcurl_registers_and_logs_in_with_the_example_request_files() {
    let app = app().await;
    let registered = succeeds(grpcurl_call(&app, "Register").stdin(request("register.json"))).await;
    assert!(registered.contains(r#""username": "ada""#), "{registered}");
    let again = succeeds(grpcurl_call(&app, "Register").stdin(request("register.json"))).await;
    assert_eq!(registered, again, "a repeated request_id must return the first answer");
    let logged_in = succeeds(grpcurl_call(&app, "Login").stdin(request("login.json"))).await;
    let user_id = registered.lines().find(|line| line.contains("userId")).unwrap();
    assert!(logged_in.contains(user_id), "{registered}\n{logged_in}");
}

#[tokio::test]
async fn grpcurl_prints_error_details_as_json() {
    let app = app().await;
    assert_reason_is_readable(&run(grpcurl_call(&app, "Login").stdin(request("login.json"))).await);
}

#[tokio::test]
async fn grpcurl_with_the_descriptor_set_needs_no_reflection() {
    let app = App::with(StoreKind::Memory).args(&["--reflection", "off"]).start().await;
    let refused = run(grpcurl_call(&app, "Login").stdin(request("login.json"))).await;
    assert!(text(&refused.stderr).contains("does not support the reflection API"), "{refused:?}");

    let folder = TempDir::new().unwrap();
    let protoset = folder.path().join("watchword.binpb");
    fs::write(&protoset, run(Command::new(BINARY).arg("descriptor")).await.stdout).unwrap();
    let with_protoset = |method| {
        let mut call = grpcurl();
        call.args(["-plaintext", "-d", "@", "-protoset"]).arg(&protoset);
        call.args([app.grpc_addr(), format!("{AUTH}/{method}")]);
        call
    };
    assert_reason_is_readable(&run(with_protoset("Login").stdin(request("login.json"))).await);
    succeeds(with_protoset("Register").stdin(request("register.json"))).await;
    succeeds(with_protoset("Login").stdin(request("login.json"))).await;
}

/// Each program uses the common JWT library of its language and the published keys only.
#[tokio::test]
async fn verifiers_in_other_languages_accept_a_valid_token() {
    let app = app().await;
    for (language, program) in verifiers() {
        let printed = succeeds(&mut verifier(&app, program)).await;
        let (called, verified) = printed.trim_end().split_once('\n').unwrap();
        let user_id = called.strip_prefix("called as: ada-").unwrap().split_once(' ').unwrap().1;
        assert_eq!(verified, format!("verified: {user_id}"), "{language}");
    }
}

/// The clock of the server is one hour behind, so its tokens are already expired for all verifiers.
#[tokio::test]
async fn verifiers_in_other_languages_refuse_an_expired_token() {
    let clock = ManualClock::default();
    clock.set_back(Duration::from_secs(3_600));
    let app = App::with(StoreKind::Memory).clock(clock).start().await;
    for (language, program) in verifiers() {
        let ended = run(&mut verifier(&app, program)).await;
        let errors = text(&ended.stderr).to_lowercase();
        assert!(!ended.status.success() && errors.contains("exp"), "{language}: {errors}");
        assert!(
            text(&ended.stdout).starts_with("called as: "),
            "{language}: the server must accept the token by its own clock"
        );
    }
}

fn verifiers() -> [(&'static str, Command); 3] {
    let go = Command::new(tool("go-verify"));
    [("Python", python_program("verify.py")), ("Node", node_program("verify.mjs")), ("Go", go)]
}

fn verifier(app: &App, mut program: Command) -> Command {
    program.env("WATCHWORD_ADDR", app.grpc_addr());
    program.env("WATCHWORD_ISSUER", format!("http://{}", app.http_socket()));
    program
}

// === Assertions

async fn assert_registers_logs_in_and_reads_the_error_reason(program: fn() -> Command) {
    let app = app().await;
    // The second run must work too.
    for _ in 0..2 {
        let printed = succeeds(program().env("WATCHWORD_ADDR", app.grpc_addr())).await;
        let (logged_in, refused) = printed.trim_end().split_once('\n').unwrap();
        assert_logged_in(logged_in);
        assert_eq!(refused, "refused: INVALID_CREDENTIALS");
    }
}

async fn with_challenges(work: Work) -> App {
    let setup = App::with(StoreKind::Memory).args(&["--challenge", "both"]);
    setup.change(move |config| config.rules.challenges.work = work).start().await
}

/// The address of a proxy before `app` that refuses each call without a solution with one of these limits, in turn.
async fn limited(app: &App, limits: &'static [Limit]) -> String {
    let calls = AtomicUsize::new(0);
    let before_call = move |path: &str, message: &[u8]| {
        let solution = match path.rsplit('/').next() {
            Some("Register") => pb::RegisterRequest::decode(message).unwrap().challenge_solution,
            Some("Login") => pb::LoginRequest::decode(message).unwrap().challenge_solution,
            _ => return None,
        };
        let limit = solution.is_empty().then(|| limits[calls.fetch_add(1, Ordering::Relaxed) % limits.len()])?;
        Some(status(&Error::RateLimited { limit, retry_after: Duration::from_secs(60) }))
    };
    hooked(app, before_call).await.replace("http://", "")
}

fn assert_logged_in(line: &str) {
    let (username, user_id) = line.strip_prefix("logged in: ").unwrap().split_once(' ').unwrap();
    assert!(username.starts_with("ada-"), "{line}");
    assert_eq!(Uuid::parse_str(user_id).unwrap().get_version_num(), 7, "{line}");
}

fn assert_reason_is_readable(ended: &Output) {
    let printed = text(&ended.stderr);
    assert_eq!(ended.status.code(), Some(UNAUTHENTICATED), "{printed}");
    assert!(printed.contains(r#""reason": "INVALID_CREDENTIALS""#), "{printed}");
    // grpcurl prints these for details whose type it cannot resolve.
    assert!(!printed.contains("@value") && !printed.contains("@error"), "{printed}");
}

// === Programs

fn rust() -> Command {
    rust_program("client")
}

fn rust_program(name: &str) -> Command {
    // `cargo test` builds the examples next to the binary.
    let built = Path::new(BINARY).with_file_name("examples").join(name);
    Command::new(existing(built, "the Rust examples"))
}

fn python() -> Command {
    python_program("client.py")
}

fn python_reflection() -> Command {
    python_program("reflection.py")
}

fn python_program(file: &str) -> Command {
    let mut command = Command::new(existing(root().join("target/tools/venv/bin/python"), "the Python packages"));
    // -B: no __pycache__ folders in the source tree.
    command.arg("-B").arg(root().join("examples/python").join(file));
    command
}

fn node() -> Command {
    node_program("client.mjs")
}

fn node_program(file: &str) -> Command {
    existing(root().join("examples/node/node_modules"), "the Node packages");
    let mut command = Command::new(tool("node"));
    command.arg(root().join("examples/node").join(file));
    command
}

fn go() -> Command {
    Command::new(tool("go-client"))
}

fn grpcurl() -> Command {
    Command::new(tool("grpcurl"))
}

/// `grpcurl -d @`: the request is read from standard input.
fn grpcurl_call(app: &App, method: &str) -> Command {
    let mut command = grpcurl();
    command.args(["-plaintext", "-d", "@", &app.grpc_addr(), &format!("{AUTH}/{method}")]);
    command
}

fn request(file: &str) -> Stdio {
    File::open(root().join("examples/requests").join(file)).unwrap().into()
}
