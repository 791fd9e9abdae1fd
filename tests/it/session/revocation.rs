//! The end of sessions: every way to end one, seen on every node.

use std::{sync::Arc, time::Duration};

use watchword::api::pb;

use super::{change_password, refresh, user_of, with_ada};
use crate::support::{
    App, StoreKind, TestStore, all_but_this,
    fault::{Fault, Faulty},
    password, reason, with_bearer,
};

/// How long a positive token check is valid (`--token-check-reuse`). Every node sees an end within a second.
const CHECK_REUSE: Duration = Duration::from_millis(800);

/// Without a store a token check is answered from the introspection cache only, and with `0s` not at all.
#[tokio::test]
async fn cached_token_check_is_valid_for_less_than_a_second_without_a_store() {
    for (reuse, expected) in [("800ms", "ok"), ("0s", "STORE_UNAVAILABLE")] {
        let faulty = Faulty::with(Fault::None);
        let app = App::on(faulty.clone()).args(&["--token-check-reuse", reuse]).start().await;
        app.registered("ada").await;
        let tokens = app.authenticate("ada").await;
        let check = async |token: &str| {
            let request = pb::IntrospectTokenRequest { token: token.into(), token_type_hint: "refresh_token".into() };
            let answer = app.client().await.introspect_token(request).await;
            answer.map(|_| "ok".to_owned()).unwrap_or_else(|status| reason(&status))
        };
        assert_eq!(check(&tokens.access_token).await, "ok");
        faulty.set(Fault::Down);
        assert_eq!(check(&tokens.access_token).await, expected, "{reuse}");
        assert_eq!(
            check(&tokens.refresh_token).await,
            "STORE_UNAVAILABLE",
            "checks of refresh tokens are never cached"
        );
        app.clock.advance(CHECK_REUSE);
        assert_eq!(check(&tokens.access_token).await, "STORE_UNAVAILABLE", "{reuse}");
    }
}

/// Once a node has reported that a session has ended, every later check on that node reports it too.
#[tokio::test]
async fn acknowledged_end_is_seen_at_once_on_the_node_that_acknowledged_it() {
    let store = TestStore::new(StoreKind::Redis);
    let node = || App::with(StoreKind::Redis).args(&["--token-issuer", "https://auth.example"]);
    let (one, other) = (node().start_in(store.clone()).await, node().start_in(store).await);
    one.registered("ada").await;
    for how in ["revoke the token", "revoke the session", "be refused"] {
        let (tokens, context) = (one.authenticate("ada").await, one.authenticate("ada").await);
        assert!(one.introspect(&tokens.access_token).await.active);
        let token = pb::RevokeTokenRequest { token: tokens.access_token.clone() };
        other.client().await.revoke_token(token.clone()).await.unwrap();
        let mut client = one.client().await;
        match how {
            "revoke the token" => drop(client.revoke_token(token).await.unwrap()),
            "revoke the session" => {
                let session_id = tokens.session_id.clone();
                client
                    .revoke_session(with_bearer(&context.access_token, pb::RevokeSessionRequest { session_id }))
                    .await
                    .unwrap();
            }
            _ => assert_eq!(user_of(&one, &tokens.access_token).await, Err("TOKEN_REVOKED".into())),
        }
        assert!(!one.introspect(&tokens.access_token).await.active, "{how}");
    }
}

/// T15: the end is seen on the node that did not receive the call.
#[tokio::test]
async fn session_that_was_ended_on_one_node_is_ended_on_every_node() {
    for kind in [StoreKind::Embedded, StoreKind::Redis] {
        let store = TestStore::new(kind);
        // Nodes that share a store share the issuer.
        let node = || App::with(kind).args(&["--token-issuer", "https://auth.example"]);
        let app = node().start_in(store.clone()).await;
        let other = if kind == StoreKind::Redis { Some(node().start_in(store).await) } else { None };
        let other_node = other.as_ref().unwrap_or(&app);
        for (number, how) in
            ["logout", "by refresh token", "one session", "all sessions", "password", "deletion"].iter().enumerate()
        {
            let name = format!("user{number}");
            app.registered(&name).await;
            let (tokens, context) = (app.authenticate(&name).await, app.authenticate(&name).await);
            assert!(other_node.introspect(&tokens.access_token).await.active);
            assert!(app.introspect(&tokens.access_token).await.active);
            let mut client = app.client().await;
            let (token, current_password) = (&context.access_token, password(&name));
            match *how {
                "logout" => drop(
                    client.revoke_token(pb::RevokeTokenRequest { token: tokens.access_token.clone() }).await.unwrap(),
                ),
                "by refresh token" => drop(
                    client.revoke_token(pb::RevokeTokenRequest { token: tokens.refresh_token.clone() }).await.unwrap(),
                ),
                "one session" => {
                    let session_id = tokens.session_id.clone();
                    client.revoke_session(with_bearer(token, pb::RevokeSessionRequest { session_id })).await.unwrap();
                }
                "all sessions" => {
                    let answer = client.revoke_all_sessions(with_bearer(token, all_but_this(&name)));
                    assert_eq!(answer.await.unwrap().into_inner().revoked_count, 1);
                    assert_eq!(user_of(other_node, token).await, Ok(name.clone()), "the current session continues");
                    assert!(refresh(other_node, &context.refresh_token).await.is_ok());
                }
                "password" => drop(change_password(&app, token, &current_password, "another long one").await.unwrap()),
                _ => drop(
                    client
                        .delete_user(with_bearer(
                            token,
                            pb::DeleteUserRequest { current_password, ..Default::default() },
                        ))
                        .await
                        .unwrap(),
                ),
            }
            let here = app.introspect(&tokens.access_token).await;
            assert_eq!(
                here,
                pb::IntrospectTokenResponse::default(),
                "{kind:?}: {how}: at once on the node that ended it"
            );
            if other.is_some() {
                other_node.clock.advance(CHECK_REUSE);
            }
            assert_eq!(
                other_node.introspect(&tokens.access_token).await,
                pb::IntrospectTokenResponse::default(),
                "{kind:?}: {how}"
            );
            assert_eq!(user_of(other_node, &tokens.access_token).await, Err("TOKEN_REVOKED".into()), "{kind:?}: {how}");
            assert_eq!(
                refresh(other_node, &tokens.refresh_token).await,
                Err("TOKEN_REVOKED".into()),
                "{kind:?}: {how}"
            );
        }
    }
}

#[tokio::test]
async fn token_of_a_deleted_user_is_revoked_after_the_name_is_registered_again() {
    for kind in StoreKind::ALL {
        let (app, tokens) = with_ada(kind).await;
        let request = pb::DeleteUserRequest { current_password: "a wrong password".into(), ..Default::default() };
        let refused = app.client().await.delete_user(with_bearer(&tokens.access_token, request)).await.unwrap_err();
        assert_eq!(reason(&refused), "INVALID_CREDENTIALS");
        let request = pb::DeleteUserRequest { current_password: password("ada"), ..Default::default() };
        app.client().await.delete_user(with_bearer(&tokens.access_token, request)).await.unwrap();
        app.registered("ada").await;
        assert_eq!(user_of(&app, &tokens.access_token).await, Err("TOKEN_REVOKED".into()), "{kind:?}");
        assert_eq!(refresh(&app, &tokens.refresh_token).await, Err("TOKEN_REVOKED".into()), "{kind:?}");
    }
}

/// One call after a leak of tokens, whatever the number of users: here at once, on every other node within a second.
#[tokio::test]
async fn sessions_of_all_users_end_on_every_node_and_new_ones_begin() {
    for kind in StoreKind::ALL {
        let store = TestStore::new(kind);
        let node = || App::with(kind).args(&["--token-issuer", "https://auth.example"]).with_admin();
        let app = node().start_in(store.clone()).await;
        let other = if kind == StoreKind::Redis { Some(node().start_in(store).await) } else { None };
        let other_node = other.as_ref().unwrap_or(&app);
        app.registered("ada").await;
        app.registered("bob").await;
        let before = [app.authenticate("ada").await, other_node.authenticate("bob").await];
        for tokens in &before {
            assert!(app.introspect(&tokens.access_token).await.active, "{kind:?}");
            assert!(other_node.introspect(&tokens.access_token).await.active, "{kind:?}");
        }
        app.admin().await.revoke_all_users_sessions(pb::RevokeAllUsersSessionsRequest {}).await.unwrap();
        let after = app.authenticate("ada").await;
        for (node, name) in [(&app, "the node"), (other_node, "the other node")] {
            for tokens in &before {
                assert!(!node.introspect(&tokens.access_token).await.active, "{kind:?}: {name}");
                assert_eq!(user_of(node, &tokens.access_token).await, Err("TOKEN_REVOKED".into()), "{kind:?}: {name}");
                assert_eq!(refresh(node, &tokens.refresh_token).await, Err("TOKEN_REVOKED".into()), "{kind:?}: {name}");
            }
            assert_eq!(user_of(node, &after.access_token).await, Ok("ada".into()), "{kind:?}: {name}");
            // The other node reads the key ring within a second.
            if let Some(other) = &other {
                other.clock.advance(Duration::from_secs(1));
            }
        }
        let listed = app.client().await.list_sessions(with_bearer(&after.access_token, Default::default())).await;
        assert_eq!(listed.unwrap().into_inner().sessions.len(), 1, "{kind:?}");
    }
}

/// The session that `keep_current` keeps is valid at every moment of the call.
#[tokio::test(flavor = "multi_thread")]
async fn kept_session_stays_valid_and_refreshable_while_all_others_end() {
    for kind in StoreKind::ALL {
        let app = Arc::new(App::with(kind).start().await);
        app.registered("ada").await;
        for round in 0..10 {
            let (kept, other) = (app.authenticate("ada").await, app.authenticate("ada").await);
            let refreshing = {
                let (app, token) = (app.clone(), kept.refresh_token.clone());
                tokio::spawn(async move {
                    let mut tokens = refresh(&app, &token).await.expect("the kept session is refreshed");
                    for _ in 0..5 {
                        assert_eq!(user_of(&app, &tokens.access_token).await, Ok("ada".into()));
                        tokens =
                            refresh(&app, &tokens.refresh_token).await.expect("the kept session is refreshed again");
                    }
                    tokens
                })
            };
            let request = all_but_this("ada");
            app.client().await.revoke_all_sessions(with_bearer(&kept.access_token, request)).await.unwrap();
            let tokens = refreshing.await.unwrap();
            assert_eq!(user_of(&app, &tokens.access_token).await, Ok("ada".into()), "{kind:?}, round {round}");
            assert_eq!(user_of(&app, &other.access_token).await, Err("TOKEN_REVOKED".into()));
            // The next call ends this session too.
            let request = pb::RevokeAllSessionsRequest::default();
            app.client().await.revoke_all_sessions(with_bearer(&tokens.access_token, request)).await.unwrap();
            assert_eq!(user_of(&app, &tokens.access_token).await, Err("TOKEN_REVOKED".into()), "{kind:?}");
        }
    }
}

#[tokio::test]
async fn session_of_another_user_cannot_be_revoked() {
    let (app, ada) = with_ada(StoreKind::Memory).await;
    app.registered("bob").await;
    let bob = app.authenticate("bob").await;
    let mut client = app.client().await;
    let request = pb::RevokeSessionRequest { session_id: ada.session_id.clone() };
    client.revoke_session(with_bearer(&bob.access_token, request)).await.unwrap();
    assert!(app.introspect(&ada.access_token).await.active);
    for (id, code) in [("", "INVALID_FIELD"), ("x", "INVALID_FIELD")] {
        let request = pb::RevokeSessionRequest { session_id: id.into() };
        let refused = client.revoke_session(with_bearer(&bob.access_token, request)).await.unwrap_err();
        assert_eq!(reason(&refused), code);
    }
}
