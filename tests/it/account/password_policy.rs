//! The password policy: forbidden passwords, the operator's blocklist and context words, and costly input.

use std::fs;

use tonic::{Request, Status};
use watchword::api::{pb, rpc};

use crate::support::{Api, App, StoreKind, app, details, http, is_full, password, reason, run};

/// A request with the access token of `tokens`.
fn with_token<T>(tokens: &pb::Tokens, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("authorization", format!("Bearer {}", tokens.access_token).parse().unwrap());
    request
}

pub async fn change_password(app: &App, tokens: &pb::Tokens, from: &str, to: &str) -> Result<(), Status> {
    let request =
        pb::ChangePasswordRequest { current_password: from.into(), new_password: to.into(), ..Default::default() };
    app.client().await.change_password(with_token(tokens, request)).await.map(drop)
}

/// The field and the reason of the only violation in a refusal.
fn violation(status: &Status) -> (String, String) {
    assert_eq!(reason(status), "PASSWORD_POLICY");
    let bad_request: Vec<rpc::BadRequest> = details(status, "google.rpc.BadRequest");
    let [violation] = bad_request[0].field_violations.as_slice() else { panic!("{bad_request:?}") };
    assert!(
        violation.description.contains("choose another"),
        "the description does not help: {}",
        violation.description
    );
    (violation.field.clone(), violation.reason.clone())
}

#[tokio::test]
async fn blocklisted_passwords_and_context_words_are_refused_with_a_reason() {
    let folder = tempfile::TempDir::new().unwrap();
    let blocklist = folder.path().join("blocklist");
    fs::write(&blocklist, "Spring-at-Acme\ncafe\u{301} au lait\n").unwrap();
    let blocklist = blocklist.display().to_string();
    let args = ["--password-blocklist-file", &blocklist, "--password-context-words", "Acme,Anvil Works"];
    let app = App::with(StoreKind::Memory).args(&args).start().await;
    app.registered("ada@example.com").await;
    let tokens = app.authenticate("ada@example.com").await;
    let current = password("ada@example.com");
    let hashes = app.events.count("hashed");
    for (forbidden, expected) in [
        ("spring-at-ACME", "BLOCKLISTED"),
        ("caf\u{e9} au lait", "BLOCKLISTED"),
        ("acmeacme2026", "CONTEXT_WORD"),
        ("anvil works!", "CONTEXT_WORD"),
        ("Watchword1", "CONTEXT_WORD"),
        ("ada@example.com", "EQUALS_USERNAME"),
        ("AdaAdaAda!", "EQUALS_USERNAME"),
        ("ada-acme-ada", "EQUALS_USERNAME"),
        ("adA2026adA", "EQUALS_USERNAME"),
        ("sunshine", "TOO_COMMON"),
    ] {
        let request = pb::RegisterRequest {
            username: "ada@elsewhere.example".into(),
            password: forbidden.into(),
            ..pb::RegisterRequest::default()
        };
        if forbidden != "ada@example.com" {
            let error = app.client().await.register(request).await.unwrap_err();
            assert_eq!(violation(&error), ("password".into(), expected.into()), "{forbidden}");
            let answer = Api::Legacy.register(&app, "ada@elsewhere.example", forbidden, "").await.outcome();
            assert!(answer.starts_with("400 password is"), "{forbidden}: {answer}");
        }
        let error = change_password(&app, &tokens, &current, forbidden).await.unwrap_err();
        assert_eq!(violation(&error), ("new_password".into(), expected.into()), "{forbidden}");
    }
    assert_eq!(app.events.count("hashed"), hashes, "refused before any hash");
    // A password that only contains these words is valid.
    change_password(&app, &tokens, &current, "ada of acme likes watchword").await.unwrap();
}

/// The names and passwords of a report: the comparison stripped digits and signs from the name alone.
#[tokio::test]
async fn repetition_of_a_name_with_its_digits_and_signs_is_refused() {
    let app = app().await;
    for (name, made) in [
        ("alice2", "ALICE2alice2"),
        ("alice2", "2alice2alice"),
        ("7bob", "7bob7bob"),
        ("joe!", "joe!joe!joe!"),
        ("joe!", "joe joe!joe"),
        ("o'brien", "O\u{2019}Brien1960"),
        ("ada.lovelace", "ecalevol.ada"),
    ] {
        for api in Api::ALL {
            let outcome = api.register(&app, name, made, "").await.outcome();
            assert!(
                outcome == "PASSWORD_POLICY" || outcome.starts_with("400 password is no more"),
                "{made}: {outcome}"
            );
        }
    }
    for (name, fine) in [("al", "a tall pale llama"), ("jo", "joyful jo jogs"), ("7bob", "7bobbins7bob")] {
        assert_eq!(Api::Grpc.register(&app, name, fine, "").await.outcome(), "ok", "{fine}");
    }
    app.registered("joe!").await;
    let tokens = app.authenticate("joe!").await;
    let error = change_password(&app, &tokens, &password("joe!"), "joe!joe!joe!").await.unwrap_err();
    assert_eq!(violation(&error), ("new_password".into(), "EQUALS_USERNAME".into()));
}

#[test]
fn unreadable_blocklist_stops_the_start_and_the_error_names_flag_and_line() {
    let folder = tempfile::TempDir::new().unwrap();
    let file = folder.path().join("blocklist");
    let path = file.display().to_string();
    let check = || run(&["check-config", "--store", "memory:", "--password-blocklist-file", &path]);
    let (code, out, err) = check();
    assert!(code != 0 && (out + &err).contains("--password-blocklist-file"), "a missing file");
    for (content, expected) in [
        (b"fine\nb\xffd-secret\n".to_vec(), "line 2 is not UTF-8"),
        (Vec::new(), "contains no password"),
        (vec![b'x'; 32 * 1_024 * 1_024 + 1], "has more than 33554432 bytes"),
        (format!("fine\nfine\n{}", "x".repeat(1_025)).into_bytes(), "line 3 has more than 1024 bytes"),
    ] {
        fs::write(&file, content).unwrap();
        let (code, out, err) = check();
        let output = out + &err;
        assert!(code != 0 && output.contains(&format!("--password-blocklist-file {path}: {expected}")), "{output}");
        assert!(!output.contains("secret"), "{output}");
    }
    let words = vec!["w"; 101].join(",");
    for (words, expected) in
        [("2026", "with a letter"), (&"w".repeat(65), "64 characters"), (&words, "at most 100 words")]
    {
        let (code, out, err) = run(&["check-config", "--store", "memory:", "--password-context-words", words]);
        let output = out + &err;
        assert!(code != 0 && output.contains("--password-context-words") && output.contains(expected), "{output}");
    }
}

/// T21: input that is large, or costly to normalise, is refused early, before any hash. `benches/load/floods.rs` measures what
/// each costs.
#[tokio::test]
async fn oversized_password_and_combining_marks_are_refused_before_any_hash() {
    let app = app().await;
    app.registered("ada").await;
    let hashes = app.events.count("hashed");
    let marks = |count: usize| format!("e{}", "\u{316}\u{301}".repeat(count / 2));
    let form = [("content-type", "application/x-www-form-urlencoded")];
    for (hostile, over_grpc, over_form) in [
        ("x".repeat(4 * 1_024 * 1_024), "REQUEST_TOO_LARGE", 413),
        (marks(100_000), "REQUEST_TOO_LARGE", 413),
        // These fit the message limit of each API, some of them almost exactly.
        (marks(7_000), "INVALID_FIELD", 400),
        ("x".repeat(16_000), "INVALID_FIELD", 400),
        (marks(600), "INVALID_FIELD", 400),
    ]
    .into_iter()
    .cycle()
    .take(if is_full() { 500 } else { 5 })
    {
        let login = Api::Grpc.login(&app, "ada", &hostile).await.outcome();
        assert_eq!(login, over_grpc);
        let register = Api::Grpc.register(&app, "bob", &hostile, "").await.outcome();
        assert!(register == over_grpc || over_grpc == "INVALID_FIELD" && register == "PASSWORD_POLICY", "{register}");
        let body = format!("username=bob&password={hostile}");
        let reply = http(app.http_socket(), "POST", "/register", &form, &body).await;
        assert_eq!(reply.status, over_form, "{}", reply.body);
    }
    let body = format!("username=bob&password={}", marks(32_000));
    assert_eq!(http(app.http_socket(), "POST", "/register", &form, &body).await.status, 400);
    assert_eq!(app.events.count("hashed"), hashes);
    assert_eq!(app.events.count("registered"), 1);
}
