//! Each row of the error table, on the gRPC API and on the original routes.

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tonic::{Code, Status};
use watchword::{
    api::{
        pb::{self, auth_client::AuthClient},
        rpc,
    },
    app::StopReason,
    domain::{StoreHealth, password::Cost},
};

use crate::support::{
    Answer, Api, App, StoreKind, app, details,
    fault::{Fault, Faulty},
    h2, http, password, reason,
};

/// One row: the error on the gRPC API and on the original routes.
struct Row {
    code: Code,
    reason: &'static str,
    http: u16,
    /// Part of the plain text body.
    text: &'static str,
    has_retry_delay: bool,
}

fn assert_row(response: &Answer, row: &Row) {
    match response {
        Answer::Ok { .. } => panic!("the call succeeded"),
        Answer::Grpc(status) => assert_grpc(status, row),
        Answer::Http { status, text, retry_after } => {
            assert_eq!(*status, row.http, "{text}");
            assert!(text.contains(row.text), "{text}");
            assert_eq!(retry_after.is_some(), row.has_retry_delay, "{text}");
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
    assert_eq!(pushback, delay, "the header and RetryInfo have the same delay");
    assert_eq!(delay.is_some(), row.has_retry_delay);
}

#[tokio::test]
async fn wrong_password_and_unknown_user_are_the_same_refusal() {
    let app = app().await;
    app.registered("ada").await;
    let row = Row {
        code: Code::Unauthenticated,
        reason: "INVALID_CREDENTIALS",
        http: 200,
        text: "User not found",
        has_retry_delay: false,
    };
    for api in Api::ALL {
        assert_row(&api.login(&app, "ada", "a wrong password").await, &row);
        assert_row(&api.login(&app, "unknown", "a wrong password").await, &row);
    }
}

#[tokio::test]
async fn taken_username_is_already_exists() {
    let app = app().await;
    app.registered("ada").await;
    let row = Row {
        code: Code::AlreadyExists,
        reason: "USER_ALREADY_EXISTS",
        http: 200,
        text: "User already registered.",
        has_retry_delay: false,
    };
    for api in Api::ALL {
        assert_row(&api.register(&app, "ADA", "another password", "").await, &row);
    }
}

#[tokio::test]
async fn all_invalid_fields_are_named_in_one_error() {
    let app = app().await;
    let row = Row {
        code: Code::InvalidArgument,
        reason: "INVALID_FIELD",
        http: 400,
        text: "username is required; password is required",
        has_retry_delay: false,
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
async fn refused_new_password_names_the_policy_rule() {
    let app = app().await;
    for (password, why, text) in [
        ("seven77", "TOO_SHORT", "fewer than 8 characters"),
        ("sunshine", "TOO_COMMON", "most common passwords"),
        ("Ada-Lovelace", "EQUALS_USERNAME", "no more than the username"),
        (&"x".repeat(1_025), "TOO_LONG", "more than 1024 bytes"),
    ] {
        let row =
            Row { code: Code::InvalidArgument, reason: "PASSWORD_POLICY", http: 400, text, has_retry_delay: false };
        for api in Api::ALL {
            let response = api.register(&app, "ada-lovelace", password, "").await;
            assert_row(&response, &row);
            if let Answer::Grpc(status) = response {
                let bad: Vec<rpc::BadRequest> = details(&status, "google.rpc.BadRequest");
                assert_eq!(bad[0].field_violations[0].reason, why);
                assert!(!format!("{status:?}").contains(password), "the error contains the password");
            }
        }
    }
}

#[tokio::test]
async fn login_with_a_too_long_password_is_an_invalid_field() {
    let app = app().await;
    let text = "password has more than 1024 bytes";
    let row = Row { code: Code::InvalidArgument, reason: "INVALID_FIELD", http: 400, text, has_retry_delay: false };
    for api in Api::ALL {
        assert_row(&api.login(&app, "ada", &"x".repeat(1_025)).await, &row);
    }
}

#[tokio::test]
async fn too_large_request_is_refused_as_too_large() {
    let app = app().await;
    let row = Row {
        code: Code::ResourceExhausted,
        reason: "REQUEST_TOO_LARGE",
        http: 413,
        text: "larger",
        has_retry_delay: false,
    };
    for bytes in [20 * 1024, 4 * 1024 * 1024] {
        assert_row(&Api::Grpc.register(&app, "ada", &password("ada"), &"d".repeat(bytes)).await, &row);
    }
    let form = ("content-type", "application/x-www-form-urlencoded");
    let reply = http(app.http_socket(), "POST", "/register", &[form], &"d".repeat(65 * 1024)).await;
    assert_eq!(reply.status, 413, "{reply:?}");
    assert_eq!(Api::Grpc.login(&app, "ada", &password("ada")).await.outcome(), "INVALID_CREDENTIALS");
}

#[tokio::test]
async fn full_hash_queue_is_overloaded_with_a_retry_delay() {
    // One worker, and a cost that keeps it busy long enough to fill the queue's 300 ms.
    let app = App::with(StoreKind::Memory)
        .change(|config| {
            config.hashing.workers = 1;
            config.hashing.cost = Cost { memory_kib: 19_456, passes: 16, lanes: 1 };
        })
        .start()
        .await;
    let channel = app.channel().await;
    let calls = (0..100).map(|_| {
        let mut client = AuthClient::new(channel.clone());
        let request =
            pb::LoginRequest { username: "unknown".into(), password: "a wrong password".into(), ..Default::default() };
        tokio::spawn(async move { client.login(request).await.unwrap_err() })
    });
    let (mut refused, mut expired) = (0, 0);
    for call in calls.collect::<Vec<_>>() {
        let status = call.await.unwrap();
        match reason(&status).as_str() {
            "INVALID_CREDENTIALS" => {}
            // The call was admitted, but a busy machine did not hash it before its deadline.
            "DEADLINE_EXCEEDED" => expired += 1,
            _ => {
                let row = Row {
                    code: Code::ResourceExhausted,
                    reason: "OVERLOADED",
                    http: 429,
                    text: "",
                    has_retry_delay: true,
                };
                assert_grpc(&status, &row);
                refused += 1;
            }
        }
    }
    assert!(refused > 0, "all hundred calls were admitted");
    assert_eq!(app.events.count("overloaded"), refused);
    let hashed = app.events.count("hashed");
    assert!(
        (100 - refused - expired..=100 - refused).contains(&hashed),
        "hashed {hashed}, refused {refused}, expired {expired}"
    );
}

#[tokio::test]
async fn call_during_a_store_outage_is_unavailable_and_not_executed() {
    let store = Faulty::with(Fault::Down);
    let app = App::on(store.clone()).start().await;
    let row = Row {
        code: Code::Unavailable,
        reason: "STORE_UNAVAILABLE",
        http: 503,
        text: "try again",
        has_retry_delay: true,
    };
    for api in Api::ALL {
        assert_row(&api.register(&app, "ada", &password("ada"), "").await, &row);
        assert_row(&api.login(&app, "ada", &password("ada")).await, &row);
    }
    store.set(Fault::None);
    app.registered("ada").await;
}

#[tokio::test]
async fn lost_reply_is_outcome_unknown_and_the_request_id_resolves_it() {
    let store = Faulty::with(Fault::ReplyLost);
    let app = App::on(store.clone()).start().await;
    let row = Row {
        code: Code::Unknown,
        reason: "OUTCOME_UNKNOWN",
        http: 500,
        text: "same request_id",
        has_retry_delay: false,
    };
    for api in Api::ALL {
        assert_row(&api.register(&app, &format!("{api:?}"), &password("x"), "").await, &row);
    }
    let request = pb::RegisterRequest {
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
async fn hanging_store_is_deadline_exceeded_at_the_deadline() {
    let app = App::on(Faulty::with(Fault::Hangs)).start().await;
    let row = Row {
        code: Code::DeadlineExceeded,
        reason: "DEADLINE_EXCEEDED",
        http: 504,
        text: "deadline",
        has_retry_delay: false,
    };
    assert_grpc(&login_within(&app, "200m").await, &row);
    assert_row(&Api::Legacy.login(&app, "ada", &password("ada")).await, &row);
}

#[tokio::test]
async fn deadline_shorter_than_a_hash_is_refused_before_hashing() {
    let app = app().await;
    let status = login_within(&app, "1u").await;
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status:?}");
    assert_eq!(app.events.count("hashed"), 0);
}

/// A refused login with a deadline. The caller has no timer, so the server's error arrives.
async fn login_within(app: &App, timeout: &str) -> Status {
    let login = pb::LoginRequest { username: "ada".into(), password: password("ada"), ..Default::default() };
    let path = "/watchword.auth.v1.Auth/Login";
    h2::status(h2::call(app, path, &[("grpc-timeout", timeout)], h2::framed(&login)).await).await
}

#[tokio::test]
async fn corrupt_user_record_is_data_loss_with_an_error_id() {
    let store = Faulty::with(Fault::Corrupt);
    let app = App::on(store).start().await;
    let row = Row {
        code: Code::DataLoss,
        reason: "CORRUPT_RECORD",
        http: 500,
        text: "cannot be read",
        has_retry_delay: false,
    };
    for api in Api::ALL {
        let response = api.login(&app, "ada", &password("ada")).await;
        assert_row(&response, &row);
        if let Answer::Grpc(status) = response {
            let infos: Vec<rpc::ErrorInfo> = details(&status, "google.rpc.ErrorInfo");
            let id = &infos[0].metadata["error_id"];
            assert!(status.message().contains(id.as_str()), "the error id is in the metadata and in the message");
            assert!(!format!("{status:?}").contains("corrupted by a test"), "the cause is only in the log");
        }
    }
}

#[tokio::test]
async fn panic_is_an_internal_error_and_the_server_continues() {
    let store = Faulty::with(Fault::Panic);
    let app = App::on(store.clone()).start().await;
    let row =
        Row { code: Code::Internal, reason: "INTERNAL", http: 500, text: "internal error", has_retry_delay: false };
    for api in Api::ALL {
        assert_row(&api.login(&app, "ada", &password("ada")).await, &row);
    }
    store.set(Fault::None);
    app.registered("ada").await;
}

#[tokio::test]
async fn open_call_during_the_drain_is_refused_as_draining() {
    let mut app = app().await;
    let row =
        Row { code: Code::Unavailable, reason: "DRAINING", http: 503, text: "shutting down", has_retry_delay: true };
    // Both calls send their heads before the drain and their bodies during it.
    let (body, response) = h2::call_with_late_body(&app, "/watchword.auth.v1.Auth/Login", &[]).await;
    let mut form = TcpStream::connect(app.http_socket()).await.unwrap();
    let form_body = b"username=ada&password=long-enough";
    let head = format!(
        "POST /register HTTP/1.1\r\nhost: localhost\r\nexpect: 100-continue\r\ncontent-length: {}\r\n\
         content-type: application/x-www-form-urlencoded\r\n\r\n",
        form_body.len()
    );
    form.write_all(head.as_bytes()).await.unwrap();
    // The handler has the request: the server sends 100 Continue.
    form.read_exact(&mut [0; 25]).await.unwrap();
    app.stop();
    // New connections are refused once the drain has begun.
    while TcpStream::connect(app.http_socket()).await.is_ok() {
        tokio::task::yield_now().await;
    }
    let login = pb::LoginRequest { username: "ada".into(), password: "a wrong password".into(), ..Default::default() };
    body.send(h2::framed(&login)).unwrap();
    assert_grpc(&h2::status(response.await).await, &row);
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
async fn permanently_failed_store_ends_the_node() {
    let store = Faulty::with(Fault::None);
    let app = App::on(store.clone()).start().await;
    store.set_health(StoreHealth::Failed);
    assert_eq!(app.ended().await, StopReason::StoreFailed);
}
