//! Login: all refusals look and cost the same, and passwords are compared in full.

use std::time::Duration;

use tonic::Status;
use watchword::api::pb;

use crate::support::{Api, App, StoreKind, app, password};

async fn refusal(app: &App, username: &str, password: &str) -> Status {
    let request = pb::LoginRequest { username: username.into(), password: password.into(), ..Default::default() };
    app.client().await.login(request).await.unwrap_err()
}

/// All that a caller can observe of a refusal, except its time.
fn visible(status: &Status) -> (i32, String, Vec<u8>, Vec<(String, String)>) {
    let headers = status.metadata().clone().into_headers();
    let mut headers: Vec<_> = headers
        .iter()
        .filter(|(name, _)| *name != "date")
        .map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()))
        .collect();
    headers.sort();
    (status.code().into(), status.message().to_owned(), status.details().to_vec(), headers)
}

#[tokio::test]
async fn correct_password_logs_in_on_every_api_and_store() {
    for store in StoreKind::ALL {
        let app = App::with(store).start().await;
        app.registered("ada").await;
        for api in Api::ALL {
            assert_eq!(api.login(&app, "ada", &password("ada")).await.data(), "data of ada");
            assert_eq!(api.login(&app, "ＡＤＡ", &password("ada")).await.data(), "data of ada", "another spelling");
        }
    }
}

#[tokio::test]
async fn unknown_user_and_wrong_password_are_refused_identically_with_one_hash_each() {
    for store in StoreKind::ALL {
        let app = App::with(store).start().await;
        app.registered("ada").await;
        let hashes = app.events.count("hashed");
        let wrong = refusal(&app, "ada", "not her password").await;
        assert_eq!(app.events.count("hashed"), hashes + 1);
        let unknown = refusal(&app, "bob", "not her password").await;
        assert_eq!(app.events.count("hashed"), hashes + 2);
        assert_eq!(visible(&wrong), visible(&unknown));
        assert_eq!((app.events.count("wrong password"), app.events.count("unknown user")), (1, 1));

        let targets = ["ada", "bob"].map(|name| format!("/login?username={name}&password=not-the-password"));
        let mut replies = Vec::new();
        for target in &targets {
            let reply = crate::support::http(app.http_socket(), "GET", target, &[], "").await;
            let head: Vec<_> =
                reply.head.lines().filter(|line| !line.starts_with("date:")).map(str::to_owned).collect();
            replies.push((reply.status, head, reply.body));
        }
        assert_eq!(replies[0], replies[1]);
        assert_eq!(app.events.count("hashed"), hashes + 4);
    }
}

#[tokio::test]
async fn passwords_are_compared_in_full_and_in_nfc() {
    let app = app().await;
    // Equal up to the limits of bcrypt (72), of other hashes (128), and of a truncating buffer (T20).
    for equal in [72, 128, 1_000, 1_023] {
        let (name, prefix) = (format!("equal-in-{equal}"), "x".repeat(equal));
        assert_eq!(Api::Grpc.register(&app, &name, &format!("{prefix}a"), "").await.outcome(), "ok");
        for api in Api::ALL {
            assert_eq!(api.login(&app, &name, &format!("{prefix}a")).await.outcome(), "ok");
            for other in [prefix.clone(), format!("{prefix}b"), format!("{prefix}A"), format!("{}a", &prefix[1..])] {
                assert!(api.login(&app, &name, &other).await.is_wrong_credentials(), "{equal}");
            }
        }
    }
    // One more byte is refused. If it were truncated, this login would succeed.
    for api in Api::ALL {
        let outcome = api.login(&app, "equal-in-1023", &format!("{}aa", "x".repeat(1_023))).await.outcome();
        assert!(outcome == "INVALID_FIELD" || outcome.starts_with("400 password has more"), "{outcome}");
    }
    assert_eq!(Api::Grpc.register(&app, "composed", "p\u{e4}ssw\u{f6}rd", "").await.outcome(), "ok");
    for api in Api::ALL {
        assert_eq!(api.login(&app, "composed", "pa\u{308}sswo\u{308}rd").await.outcome(), "ok");
        assert!(api.login(&app, "composed", "P\u{e4}ssw\u{f6}rd").await.is_wrong_credentials());
    }
    // Spaces of every kind are one (RFC 8265 section 4.2.2).
    assert_eq!(Api::Grpc.register(&app, "spaced", "a long\u{3000}pass word", "").await.outcome(), "ok");
    for api in Api::ALL {
        for space in ['\u{a0}', '\u{1680}', '\u{2000}', '\u{2001}', '\u{200a}', '\u{202f}', '\u{205f}', '\u{3000}', ' ']
        {
            let spelled = "a long pass word".replace(' ', &space.to_string());
            assert_eq!(api.login(&app, "spaced", &spelled).await.outcome(), "ok", "U+{:04X}", u32::from(space));
        }
        for other in ["a long pass  word", " a long pass word", "a\tlong pass word", "a\u{200b}long pass word"] {
            assert!(api.login(&app, "spaced", other).await.is_wrong_credentials(), "{other:?}");
        }
    }
    // Sixty-four code points of four bytes, as ASVS 6.2.9 asks for.
    let emoji = "🦀".repeat(64);
    assert_eq!(Api::Grpc.register(&app, "crab", &emoji, "").await.outcome(), "ok");
    assert_eq!(Api::Grpc.login(&app, "crab", &emoji).await.outcome(), "ok");
}

#[tokio::test]
async fn last_login_time_has_hour_precision() {
    for store in StoreKind::ALL {
        let app = App::with(store).start().await;
        app.registered("ada").await;
        let login = || async {
            let request = pb::LoginRequest { username: "ada".into(), password: password("ada"), ..Default::default() };
            app.client().await.login(request).await.unwrap().into_inner().user.unwrap()
        };
        let first = login().await.last_login_time.unwrap();
        assert_eq!((first.seconds % 3_600, first.nanos), (0, 0));
        app.clock.advance(Duration::from_secs(3_600));
        let user = login().await;
        assert_eq!(user.last_login_time.unwrap().seconds, first.seconds + 3_600);
        assert_eq!(user.create_time, user.update_time, "a login does not change update_time");
    }
}

#[tokio::test]
async fn concurrent_logins_each_return_the_data_of_their_own_user() {
    let app = app().await;
    for number in 0..8 {
        app.registered(&format!("user{number}")).await;
    }
    let calls = (0..200).map(|call| {
        let name = format!("user{}", call % 8);
        let channel = app.channel();
        async move {
            let request = pb::LoginRequest { username: name.clone(), password: password(&name), ..Default::default() };
            let user = pb::auth_client::AuthClient::new(channel.await).login(request).await;
            (name, user.map(|answer| answer.into_inner().user.unwrap().data.unwrap()))
        }
    });
    for (name, data) in futures_util::future::join_all(calls).await {
        match data {
            Ok(data) => assert_eq!(data, format!("data of {name}")),
            Err(status) => assert_eq!(crate::support::reason(&status), "OVERLOADED"),
        }
    }
}
