//! Changes of a user that need or end sessions: password, data, disabling.

use std::sync::Arc;

use tokio::task::JoinSet;
use tonic::Code;
use watchword::api::pb;

use super::{change_password, refresh, user_of, with_ada};
use crate::support::{
    Api, App, StoreKind,
    fault::{Fault, Faulty},
    is_full, password, reason, with_bearer,
};

/// The password is already changed then, so the call must not report that nothing happened.
#[tokio::test]
async fn password_change_without_a_stored_session_is_outcome_unknown() {
    let faulty = Faulty::with(Fault::None);
    let app = App::on(faulty.clone()).start().await;
    app.registered("ada").await;
    let tokens = app.authenticate("ada").await;
    faulty.set(Fault::NoSessions);
    let refused = change_password(&app, &tokens.access_token, &password("ada"), "another long one").await.unwrap_err();
    assert_eq!(reason(&refused), "OUTCOME_UNKNOWN");
    faulty.set(Fault::None);
    assert_eq!(user_of(&app, &tokens.access_token).await, Err("TOKEN_REVOKED".into()));
    let request =
        pb::LoginRequest { username: "ada".into(), password: "another long one".into(), ..Default::default() };
    assert!(app.client().await.login(request).await.is_ok());
}

/// T10: logins with the old password during its change leave no active session. `tests/run --all`: 2 000 users.
#[tokio::test(flavor = "multi_thread")]
async fn login_that_races_a_password_change_leaves_no_active_session() {
    for kind in [StoreKind::Memory, StoreKind::Redis] {
        let app = Arc::new(App::with(kind).start().await);
        for round in 0..if is_full() { 2_000 } else { 40 } {
            let name = format!("user{round}");
            app.registered(&name).await;
            let tokens = app.authenticate(&name).await;
            let mut logins = JoinSet::new();
            for _ in 0..8 {
                let (app, name) = (app.clone(), name.clone());
                logins.spawn(async move {
                    let request = pb::LoginRequest { password: password(&name), username: name, ..Default::default() };
                    app.client().await.login(request).await.ok().and_then(|answer| answer.into_inner().tokens)
                });
            }
            let new = change_password(&app, &tokens.access_token, &password(&name), "another long one").await.unwrap();
            for old in logins.join_all().await.into_iter().flatten() {
                assert!(!app.introspect(&old.access_token).await.active, "{kind:?}, round {round}");
                assert!(refresh(&app, &old.refresh_token).await.is_err(), "{kind:?}, round {round}");
            }
            assert!(app.introspect(&new.access_token).await.active);
            let request = pb::LoginRequest { username: name.clone(), password: password(&name), ..Default::default() };
            let refused = app.client().await.login(request).await.unwrap_err();
            assert_eq!(reason(&refused), "INVALID_CREDENTIALS", "{kind:?}: the old password, round {round}");
        }
    }
}

#[tokio::test]
async fn password_change_needs_the_current_password_and_a_valid_new_one() {
    let (app, tokens) = with_ada(StoreKind::Memory).await;
    let token = &tokens.access_token;
    for (current, new, why) in [
        ("", "", "INVALID_FIELD"),
        ("a wrong password", "another long one", "INVALID_CREDENTIALS"),
        (&*password("ada"), "short", "PASSWORD_POLICY"),
        (&*password("ada"), "passw0rd", "PASSWORD_POLICY"),
    ] {
        let refused = change_password(&app, token, current, new).await.unwrap_err();
        assert_eq!(reason(&refused), why, "{current} {new}");
        if why == "INVALID_FIELD" {
            for field in ["current_password is required", "new_password is required"] {
                assert!(refused.message().contains(field), "{refused:?}");
            }
        }
    }
    assert_eq!(user_of(&app, token).await, Ok("ada".into()), "the refused calls changed nothing");
    let new = change_password(&app, token, &password("ada"), "another long one").await.unwrap();
    assert_eq!(user_of(&app, token).await, Err("TOKEN_REVOKED".into()));
    assert_eq!(user_of(&app, &new.access_token).await, Ok("ada".into()));
}

#[tokio::test]
async fn disabled_user_loses_all_sessions_and_logins_are_refused() {
    let (app, tokens) = with_ada(StoreKind::Memory).await;
    app.set_disabled("ada", true).await;
    assert_eq!(user_of(&app, &tokens.access_token).await, Err("TOKEN_REVOKED".into()));
    assert_eq!(refresh(&app, &tokens.refresh_token).await, Err("TOKEN_REVOKED".into()));
    let login = || pb::LoginRequest { username: "ada".into(), password: password("ada"), ..Default::default() };
    let refused = app.client().await.login(login()).await.unwrap_err();
    assert_eq!(reason(&refused), "INVALID_CREDENTIALS");
    app.set_disabled("ada", false).await;
    assert!(app.client().await.login(login()).await.is_ok());
    assert_eq!(user_of(&app, &tokens.access_token).await, Err("TOKEN_REVOKED".into()), "an ended session stays ended");
}

#[tokio::test]
async fn user_data_with_a_stale_etag_is_a_conflict() {
    for kind in StoreKind::ALL {
        let (app, tokens) = with_ada(kind).await;
        let mut client = app.client().await;
        let user = client
            .get_user(with_bearer(&tokens.access_token, pb::GetUserRequest {}))
            .await
            .unwrap()
            .into_inner()
            .user
            .unwrap();
        let request = |data: &str, etag: &str| {
            with_bearer(&tokens.access_token, pb::UpdateUserDataRequest { data: data.into(), etag: etag.into() })
        };
        let changed = client.update_user_data(request("new", &user.etag)).await.unwrap().into_inner().user.unwrap();
        assert_eq!(changed.data.as_deref(), Some("new"));
        assert_ne!(changed.etag, user.etag);
        let stale = client.update_user_data(request("lost", &user.etag)).await.unwrap_err();
        assert_eq!((stale.code(), reason(&stale).as_str()), (Code::Aborted, "CONFLICT"), "{kind:?}");
        client.update_user_data(request("", "")).await.unwrap();
        assert_eq!(Api::Legacy.login(&app, "ada", &password("ada")).await.data(), "");
        let too_long = client.update_user_data(request(&"d".repeat(8_193), "")).await.unwrap_err();
        assert_eq!(reason(&too_long), "INVALID_FIELD");
    }
}
