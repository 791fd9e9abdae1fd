//! Registering: once for each name, whatever races, retries and spellings there are.

use watchword::api::pb::{self, auth_client::AuthClient};

use crate::support::{Answer, Api, App, StoreKind, app, password, reason};

fn request(name: &str, password: &str, request_id: &str) -> pb::RegisterRequest {
    pb::RegisterRequest {
        username: name.into(),
        password: password.into(),
        data: Some("testing".into()),
        request_id: request_id.into(),
        ..Default::default()
    }
}

const ID: &str = "7d2f8f6e-9d1b-4f6e-8c3a-0b1d2e3f4a5b";

#[tokio::test]
async fn a_registered_user_is_answered_whole() {
    for store in StoreKind::ALL {
        let app = App::with(store).start().await;
        let mut client = app.client().await;
        let made = client.register(request("Soham", "insecure", "")).await.unwrap().into_inner().user.unwrap();
        assert_eq!((made.username.as_str(), made.data.as_deref()), ("soham", Some("testing")));
        assert_eq!(made.user_id.as_bytes()[14], b'7', "a UUID of version 7: {}", made.user_id);
        assert_eq!(made.create_time, made.update_time);
        assert_eq!(made.last_login_time, None);
        let login = pb::LoginRequest { username: "soham".into(), password: "insecure".into(), ..Default::default() };
        let mut seen = client.login(login).await.unwrap().into_inner().user.unwrap();
        seen.last_login_time = None;
        assert_eq!(seen, made, "a login answers what the registration answered");
    }
}

#[tokio::test]
async fn data_comes_back_byte_for_byte() {
    let app = app().await;
    let odd = "quotes \" \\ line\r\n\t nul\0 esc\u{1b} sep\u{2028} 日本 🦀 \",\"admin\":true";
    for (name, data) in [("odd", odd.to_owned()), ("empty", String::new()), ("long", "d".repeat(8_192))] {
        assert_eq!(Api::Grpc.register(&app, name, &password(name), &data).await.outcome(), "ok");
        for api in Api::ALL {
            assert_eq!(api.login(&app, name, &password(name)).await.data(), data, "{name}");
        }
    }
}

#[tokio::test]
async fn the_same_request_id_answers_the_first_success_again() {
    for store in StoreKind::ALL {
        let app = App::with(store).start().await;
        let mut client = app.client().await;
        let first = client.register(request("ada", &password("ada"), ID)).await.unwrap().into_inner();
        let second = client.register(request("ada", &password("ada"), ID)).await.unwrap().into_inner();
        assert_eq!(first, second);
        assert_eq!((app.events.count("registered"), app.events.count("repeated")), (1, 1));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_request_sent_many_times_at_once_makes_one_user() {
    for store in StoreKind::ALL {
        let app = App::with(store).start().await;
        let channel = app.channel().await;
        let mut calls = tokio::task::JoinSet::new();
        for _ in 0..16 {
            let mut client = AuthClient::new(channel.clone());
            calls.spawn(
                async move { client.register(request("ada", &password("ada"), ID)).await.unwrap().into_inner() },
            );
        }
        let answers = calls.join_all().await;
        assert!(answers.iter().all(|answer| *answer == answers[0]));
        assert_eq!(app.events.count("registered"), 1);
    }
}

#[tokio::test]
async fn a_request_id_is_no_key_to_somebody_elses_user() {
    for store in StoreKind::ALL {
        let app = App::with(store).start().await;
        let mut client = app.client().await;
        client.register(request("ada", &password("ada"), ID)).await.unwrap();
        for (password, id) in [
            ("another password", ID),
            (&password("ada"), "7d2f8f6e-9d1b-4f6e-8c3a-000000000000"),
            (&password("ada"), ""),
        ] {
            let refused = client.register(request("ada", password, id)).await.unwrap_err();
            assert_eq!(reason(&refused), "USER_ALREADY_EXISTS");
        }
        // The id belongs to one name: another name with it is another user.
        client.register(request("bob", &password("bob"), ID)).await.unwrap();
    }
}

#[tokio::test]
async fn a_taken_name_costs_no_hash() {
    let app = app().await;
    app.registered("ada").await;
    let hashes = app.events.count("hashed");
    for api in Api::ALL {
        assert!(api.register(&app, "ada", "another password", "").await.is_taken());
    }
    assert_eq!(app.events.count("hashed"), hashes);
}

#[tokio::test]
async fn names_that_cannot_be_registered_leave_nothing_behind() {
    let app = app().await;
    let over_long = "n".repeat(65);
    for name in ["", "a b", "a\0b", "a\u{1b}[31mb", "аdmin", "сосо", over_long.as_str()] {
        for api in Api::ALL {
            let outcome = api.register(&app, name, &password("x"), "").await.outcome();
            assert!(outcome == "INVALID_FIELD" || outcome.starts_with("400 username"), "{name:?}: {outcome}");
        }
    }
    let refused = app.client().await.register(request("ada", &password("ada"), "not-a-uuid")).await.unwrap_err();
    assert_eq!(reason(&refused), "INVALID_FIELD");
    assert_eq!(app.events.count("registered"), 0);
    assert_eq!(app.events.count("hashed"), 0, "nothing expensive before a cheap no");
}

#[tokio::test]
async fn settings_move_the_limits() {
    let app =
        App::with(StoreKind::Memory).args(&["--password-min-length", "12", "--data-max-bytes", "3"]).start().await;
    assert_eq!(Api::Grpc.register(&app, "ada", "elevenchars", "").await.outcome(), "PASSWORD_POLICY");
    assert_eq!(Api::Grpc.register(&app, "ada", "twelve chars", "1234").await.outcome(), "INVALID_FIELD");
    let answer = Api::Legacy.register(&app, "ada", "twelve chars", "123").await;
    assert!(matches!(answer, Answer::Ok { .. }), "{}", answer.outcome());
}
