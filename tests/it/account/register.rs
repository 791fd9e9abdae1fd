//! Registration: exactly one user for each canonical username, with retries and request ids.

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
async fn registration_returns_the_complete_user_on_every_store() {
    for store in StoreKind::ALL {
        let app = App::with(store).start().await;
        let mut client = app.client().await;
        let created = client.register(request("Soham", "insecure", "")).await.unwrap().into_inner().user.unwrap();
        assert_eq!((created.username.as_str(), created.data.as_deref()), ("soham", Some("testing")));
        assert_eq!(created.user_id.as_bytes()[14], b'7', "a UUID of version 7: {}", created.user_id);
        assert_eq!(created.create_time, created.update_time);
        assert_eq!(created.last_login_time, None);
        let login = pb::LoginRequest { username: "soham".into(), password: "insecure".into(), ..Default::default() };
        let mut logged_in = client.login(login).await.unwrap().into_inner().user.unwrap();
        logged_in.last_login_time = None;
        assert_eq!(logged_in, created, "login returns the same user as registration");
    }
}

#[tokio::test]
async fn user_data_is_returned_byte_for_byte() {
    let app = app().await;
    let special = "quotes \" \\ line\r\n\t nul\0 esc\u{1b} sep\u{2028} 日本 🦀 \",\"admin\":true";
    for (name, data) in [("special", special.to_owned()), ("empty", String::new()), ("long", "d".repeat(8_192))] {
        assert_eq!(Api::Grpc.register(&app, name, &password(name), &data).await.outcome(), "ok");
        for api in Api::ALL {
            assert_eq!(api.login(&app, name, &password(name)).await.data(), data, "{name}");
        }
    }
}

#[tokio::test]
async fn repeated_request_id_returns_the_first_success_again() {
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
async fn concurrent_identical_requests_create_one_user() {
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
async fn request_id_with_another_password_or_username_does_not_return_the_user() {
    for store in StoreKind::ALL {
        let app = App::with(store).start().await;
        let mut client = app.client().await;
        client.register(request("ada", &password("ada"), ID)).await.unwrap();
        for (password, id) in [
            ("another password", ID),
            (&password("ada"), "7d2f8f6e-9d1b-4f6e-8c3a-000000000000"),
            (&password("ada"), ""),
        ] {
            let error = client.register(request("ada", password, id)).await.unwrap_err();
            assert_eq!(reason(&error), "USER_ALREADY_EXISTS");
        }
        // A request id is valid for one username: with another username it creates another user.
        client.register(request("bob", &password("bob"), ID)).await.unwrap();
    }
}

#[tokio::test]
async fn registering_a_taken_username_costs_no_hash() {
    let app = app().await;
    app.registered("ada").await;
    let hashes = app.events.count("hashed");
    for api in Api::ALL {
        assert!(api.register(&app, "ada", "another password", "").await.is_taken());
    }
    assert_eq!(app.events.count("hashed"), hashes);
}

#[tokio::test]
async fn invalid_usernames_are_refused_without_a_hash_or_a_user() {
    let app = app().await;
    let over_long = "n".repeat(255);
    for name in ["", "a b", "a\0b", "a\u{1b}[31mb", "аdmin", "сосо", over_long.as_str()] {
        for api in Api::ALL {
            let outcome = api.register(&app, name, &password("x"), "").await.outcome();
            assert!(outcome == "INVALID_FIELD" || outcome.starts_with("400 username"), "{name:?}: {outcome}");
        }
    }
    let error = app.client().await.register(request("ada", &password("ada"), "not-a-uuid")).await.unwrap_err();
    assert_eq!(reason(&error), "INVALID_FIELD");
    assert_eq!(app.events.count("registered"), 0);
    assert_eq!(app.events.count("hashed"), 0, "a cheap check refuses before any hash");
}

/// RFC 5321 allows 64 characters before the @ and 254 in all.
#[tokio::test]
async fn longest_email_address_and_longest_name_of_wide_characters_are_names() {
    let address = format!("{}@{}.example", "a".repeat(64), "b".repeat(181));
    let wide = "\u{2070e}".repeat(254);
    for store in StoreKind::ALL {
        let app = App::with(store).start().await;
        for name in [address.as_str(), wide.as_str(), &"\u{d55c}".repeat(254)] {
            assert_eq!(name.chars().count(), 254);
            for api in Api::ALL {
                let answer = api.register(&app, name, "a long password", "theirs").await;
                assert!(matches!(answer, Answer::Ok { .. }) || answer.is_taken(), "{store:?}: {answer:?}");
                assert_eq!(
                    api.login(&app, &name.to_uppercase(), "a long password").await.data(),
                    "theirs",
                    "{store:?}"
                );
            }
        }
    }
}

#[tokio::test]
async fn password_and_data_limits_follow_the_settings() {
    let app =
        App::with(StoreKind::Memory).args(&["--password-min-length", "12", "--data-max-bytes", "3"]).start().await;
    assert_eq!(Api::Grpc.register(&app, "ada", "elevenchars", "").await.outcome(), "PASSWORD_POLICY");
    assert_eq!(Api::Grpc.register(&app, "ada", "twelve chars", "1234").await.outcome(), "INVALID_FIELD");
    let answer = Api::Legacy.register(&app, "ada", "twelve chars", "123").await;
    assert!(matches!(answer, Answer::Ok { .. }), "{}", answer.outcome());
}
