//! One test for each row of the error table, on every door.

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tonic::{Code, Status};
use watchword::{api::rpc, domain::StoreHealth};

use crate::support::{
    Answer, Api, App, StoreKind, app, details,
    fault::{Fault, Faulty},
    h2, http, password, reason,
};

/// The two columns of one row.
struct Row {
    code: Code,
    reason: &'static str,
    http: u16,
    /// Part of the plain text.
    text: &'static str,
    may_retry: bool,
}

fn assert_row(answer: &Answer, row: &Row) {
    match answer {
        Answer::Ok { .. } => panic!("not refused"),
        Answer::Grpc(status) => assert_grpc(status, row),
        Answer::Http { status, text, retry_after } => {
            assert_eq!(*status, row.http, "{text}");
            assert!(text.contains(row.text), "{text}");
            assert_eq!(retry_after.is_some(), row.may_retry, "{text}");
        }
    }
}

fn assert_grpc(status: &Status, row: &Row) {
    assert_eq!((status.code(), reason(status).as_str()), (row.code, row.reason), "{status:?}");
    assert!(status.details().len() < 2_048, "details must fit the headers of every proxy");
    let pushback = status.metadata().get("grpc-retry-pushback-ms").map(|ms| ms.to_str().unwrap().parse().unwrap());
    let delay = details::<rpc::RetryInfo>(status, "google.rpc.RetryInfo").pop().map(|info| {
        let delay = info.retry_delay.unwrap();
        delay.seconds * 1_000 + i64::from(delay.nanos) / 1_000_000
    });
    assert_eq!(pushback, delay, "both forms of the wait are equal");
    assert_eq!(delay.is_some(), row.may_retry);
}

#[tokio::test]
async fn wrong_credentials_are_refused_in_each_doors_words() {
    let app = app().await;
    app.registered("ada").await;
    let row = Row {
        code: Code::Unauthenticated,
        reason: "INVALID_CREDENTIALS",
        http: 200,
        text: "User not found",
        may_retry: false,
    };
    for api in Api::ALL {
        assert_row(&api.login(&app, "ada", "not her password").await, &row);
        assert_row(&api.login(&app, "nobody", "not her password").await, &row);
    }
}

#[tokio::test]
async fn a_taken_name_is_told() {
    let app = app().await;
    app.registered("ada").await;
    let row = Row {
        code: Code::AlreadyExists,
        reason: "USER_ALREADY_EXISTS",
        http: 200,
        text: "User already registered.",
        may_retry: false,
    };
    for api in Api::ALL {
        assert_row(&api.register(&app, "ADA", "another password", "").await, &row);
    }
}

#[tokio::test]
async fn bad_fields_are_all_named_at_once() {
    let app = app().await;
    let row = Row {
        code: Code::InvalidArgument,
        reason: "INVALID_FIELD",
        http: 400,
        text: "username is required; password is required",
        may_retry: false,
    };
    for api in Api::ALL {
        assert_row(&api.register(&app, "", "", "").await, &row);
        assert_row(&api.login(&app, "", "").await, &row);
    }
    let Answer::Grpc(status) = Api::Grpc.register(&app, "a b", "short", &"d".repeat(8_193)).await else { panic!() };
    let bad: Vec<rpc::BadRequest> = details(&status, "google.rpc.BadRequest");
    let violations: Vec<_> = bad[0].field_violations.iter().map(|v| (v.field.as_str(), v.reason.as_str())).collect();
    assert_eq!(violations, [("username", "FORBIDDEN_CHARACTER"), ("password", "TOO_SHORT"), ("data", "TOO_LONG")]);
}

#[tokio::test]
async fn the_password_policy_says_why() {
    let app = app().await;
    for (password, why, text) in [
        ("seven77", "TOO_SHORT", "fewer than 8 characters"),
        ("sunshine", "TOO_COMMON", "most common passwords"),
        ("Ada-Lovelace", "EQUALS_USERNAME", "no more than the username"),
        (&"x".repeat(1_025), "TOO_LONG", "more than 1024 bytes"),
    ] {
        let row = Row { code: Code::InvalidArgument, reason: "PASSWORD_POLICY", http: 400, text, may_retry: false };
        for api in Api::ALL {
            let answer = api.register(&app, "ada-lovelace", password, "").await;
            assert_row(&answer, &row);
            if let Answer::Grpc(status) = answer {
                let bad: Vec<rpc::BadRequest> = details(&status, "google.rpc.BadRequest");
                assert_eq!(bad[0].field_violations[0].reason, why);
                assert!(!format!("{status:?}").contains(password), "an answer repeats the password");
            }
        }
    }
}

#[tokio::test]
async fn a_login_with_an_over_long_password_is_a_bad_field_and_no_matter_of_policy() {
    let app = app().await;
    let text = "password has more than 1024 bytes";
    let row = Row { code: Code::InvalidArgument, reason: "INVALID_FIELD", http: 400, text, may_retry: false };
    for api in Api::ALL {
        assert_row(&api.login(&app, "ada", &"x".repeat(1_025)).await, &row);
    }
}

#[tokio::test]
async fn a_request_that_is_too_large_is_told_so() {
    let app = app().await;
    let row =
        Row { code: Code::ResourceExhausted, reason: "REQUEST_TOO_LARGE", http: 413, text: "larger", may_retry: false };
    for bytes in [20 * 1024, 4 * 1024 * 1024] {
        assert_row(&Api::Grpc.register(&app, "ada", &password("ada"), &"d".repeat(bytes)).await, &row);
    }
    let form = ("content-type", "application/x-www-form-urlencoded");
    let reply = http(app.http_socket(), "POST", "/register", &[form], &"d".repeat(65 * 1024)).await;
    assert_eq!(reply.status, 413, "{reply:?}");
    assert_eq!(Api::Grpc.login(&app, "ada", &password("ada")).await.outcome(), "INVALID_CREDENTIALS");
}

#[tokio::test]
async fn a_full_hash_queue_is_refused_with_the_time_to_come_back() {
    // One worker, and a cost that keeps it busy long enough to fill the queue's 300 ms.
    let app = App::with(StoreKind::Memory)
        .change(|config| {
            config.hashing.workers = 1;
            config.hashing.cost = watchword::domain::password::Cost { memory_kib: 19_456, passes: 16, lanes: 1 };
        })
        .start()
        .await;
    let channel = app.channel().await;
    let calls = (0..100).map(|_| {
        let mut client = watchword::api::pb::auth_client::AuthClient::new(channel.clone());
        let request = watchword::api::pb::LoginRequest {
            username: "nobody".into(),
            password: "whatever".into(),
            ..Default::default()
        };
        tokio::spawn(async move { client.login(request).await.unwrap_err() })
    });
    let (mut refused, mut late) = (0, 0);
    for call in calls.collect::<Vec<_>>() {
        let status = call.await.unwrap();
        match reason(&status).as_str() {
            "INVALID_CREDENTIALS" => {}
            // Let in, and then the machine was too busy for all of those within their time.
            "DEADLINE_EXCEEDED" => late += 1,
            _ => {
                let row =
                    Row { code: Code::ResourceExhausted, reason: "OVERLOADED", http: 429, text: "", may_retry: true };
                assert_grpc(&status, &row);
                refused += 1;
            }
        }
    }
    assert!(refused > 0, "a hundred calls at once were all let in");
    assert_eq!(app.events.count("overloaded"), refused);
    let hashed = app.events.count("hashed");
    assert!(
        (100 - refused - late..=100 - refused).contains(&hashed),
        "hashed {hashed}, refused {refused}, late {late}"
    );
}

#[tokio::test]
async fn a_store_that_is_down_is_told_and_nothing_was_executed() {
    let store = Faulty::with(Fault::Down);
    let app = App::on(store.clone()).start().await;
    let row =
        Row { code: Code::Unavailable, reason: "STORE_UNAVAILABLE", http: 503, text: "try again", may_retry: true };
    for api in Api::ALL {
        assert_row(&api.register(&app, "ada", &password("ada"), "").await, &row);
        assert_row(&api.login(&app, "ada", &password("ada")).await, &row);
    }
    store.set(Fault::None);
    app.registered("ada").await;
}

#[tokio::test]
async fn a_lost_reply_is_an_unknown_outcome_and_the_request_id_makes_it_certain() {
    let store = Faulty::with(Fault::ReplyLost);
    let app = App::on(store.clone()).start().await;
    let row =
        Row { code: Code::Unknown, reason: "OUTCOME_UNKNOWN", http: 500, text: "same request_id", may_retry: false };
    for api in Api::ALL {
        assert_row(&api.register(&app, &format!("{api:?}"), &password("x"), "").await, &row);
    }
    let request = watchword::api::pb::RegisterRequest {
        username: "ada".into(),
        password: password("ada"),
        data: None,
        request_id: "0f0e7c2e-54b0-4f1c-9d3a-0f5f2f6f7a11".into(),
        ..Default::default()
    };
    let mut client = app.client().await;
    assert_eq!(reason(&client.register(request.clone()).await.unwrap_err()), "OUTCOME_UNKNOWN");
    store.set(Fault::None);
    let user = client.register(request).await.unwrap().into_inner().user.unwrap();
    assert_eq!(user.username, "ada");
}

#[tokio::test]
async fn a_deadline_that_passes_is_deadline_exceeded_and_never_cancelled() {
    let app = App::on(Faulty::with(Fault::Hangs)).start().await;
    let row = Row {
        code: Code::DeadlineExceeded,
        reason: "DEADLINE_EXCEEDED",
        http: 504,
        text: "deadline",
        may_retry: false,
    };
    assert_grpc(&login_within(&app, "200m").await, &row);
    assert_row(&Api::Legacy.login(&app, "ada", &password("ada")).await, &row);
}

#[tokio::test]
async fn a_deadline_too_near_for_one_hash_is_refused_before_the_hash() {
    let app = app().await;
    let status = login_within(&app, "1u").await;
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status:?}");
    assert_eq!(app.events.count("hashed"), 0);
}

/// A refused login whose caller has no timer of his own, so that it is the server who answers.
async fn login_within(app: &App, timeout: &str) -> Status {
    let login =
        watchword::api::pb::LoginRequest { username: "ada".into(), password: password("ada"), ..Default::default() };
    let path = "/watchword.auth.v1.Auth/Login";
    h2::status(h2::call(app, path, &[("grpc-timeout", timeout)], h2::framed(&login)).await).await
}

#[tokio::test]
async fn an_unreadable_user_is_data_loss_for_that_user_with_an_error_id() {
    let store = Faulty::with(Fault::Corrupt);
    let app = App::on(store).start().await;
    let row =
        Row { code: Code::DataLoss, reason: "CORRUPT_RECORD", http: 500, text: "cannot be read", may_retry: false };
    for api in Api::ALL {
        let answer = api.login(&app, "ada", &password("ada")).await;
        assert_row(&answer, &row);
        if let Answer::Grpc(status) = answer {
            let infos: Vec<rpc::ErrorInfo> = details(&status, "google.rpc.ErrorInfo");
            let id = &infos[0].metadata["error_id"];
            assert!(status.message().contains(id.as_str()), "dynamic text is in the metadata too");
            assert!(!format!("{status:?}").contains("torn by a test"), "the cause belongs in the log");
        }
    }
}

#[tokio::test]
async fn a_bug_is_internal_with_an_error_id_and_the_server_goes_on() {
    let store = Faulty::with(Fault::Panic);
    let app = App::on(store.clone()).start().await;
    let row = Row { code: Code::Internal, reason: "INTERNAL", http: 500, text: "internal error", may_retry: false };
    for api in Api::ALL {
        assert_row(&api.login(&app, "ada", &password("ada")).await, &row);
    }
    store.set(Fault::None);
    app.registered("ada").await;
}

#[tokio::test]
async fn a_draining_node_says_so_to_calls_that_had_begun() {
    let mut app = app().await;
    let row = Row { code: Code::Unavailable, reason: "DRAINING", http: 503, text: "shutting down", may_retry: true };
    // Both calls have sent their heads before the drain, and send their bodies during it.
    let (body, answer) = h2::call_with_late_body(&app, "/watchword.auth.v1.Auth/Login", &[]).await;
    let mut form = TcpStream::connect(app.http_socket()).await.unwrap();
    let form_body = b"username=ada&password=long-enough";
    let head = format!(
        "POST /register HTTP/1.1\r\nhost: localhost\r\nexpect: 100-continue\r\ncontent-length: {}\r\n\
         content-type: application/x-www-form-urlencoded\r\n\r\n",
        form_body.len()
    );
    form.write_all(head.as_bytes()).await.unwrap();
    // The handler asks for the body: it has the request.
    form.read_exact(&mut [0; 25]).await.unwrap();
    app.stop();
    // New connections are refused once the drain has begun.
    while TcpStream::connect(app.http_socket()).await.is_ok() {
        tokio::task::yield_now().await;
    }
    let login =
        watchword::api::pb::LoginRequest { username: "ada".into(), password: "whatever".into(), ..Default::default() };
    body.send(h2::framed(&login)).unwrap();
    assert_grpc(&h2::status(answer.await).await, &row);
    form.write_all(form_body).await.unwrap();
    let mut text = String::new();
    form.read_to_string(&mut text).await.unwrap();
    assert!(
        text.starts_with("HTTP/1.1 503 ") && text.contains("retry-after: 1\r\n") && text.contains(row.text),
        "{text}"
    );
    app.ended().await;
}

#[tokio::test]
async fn a_store_that_fails_for_good_ends_the_node() {
    let store = Faulty::with(Fault::None);
    let app = App::on(store.clone()).start().await;
    store.set_pulse(StoreHealth::Failed);
    assert_eq!(app.ended().await, watchword::app::StopReason::StoreFailed);
}
