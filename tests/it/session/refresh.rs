//! Refresh: a refresh token is exchanged once, under concurrency, after a lost response and after a crash.

use std::{sync::Arc, time::Duration};

use tokio::task::JoinSet;
use watchword::api::pb::{self, auth_client::AuthClient};

use super::{refresh, user_of, with_ada};
use crate::support::{
    App, Node, StoreKind, TestStore, channel, command,
    fault::{Fault, Faulty},
    is_full, password, reason, with_bearer,
};

#[tokio::test]
async fn reused_refresh_token_ends_the_session() {
    for kind in StoreKind::ALL {
        let (app, first) = with_ada(kind).await;
        let second = refresh(&app, &first.refresh_token).await.unwrap();
        assert_ne!(first.refresh_token, second.refresh_token);
        assert_eq!(first.session_id, second.session_id);
        let third = refresh(&app, &second.refresh_token).await.unwrap();
        assert_eq!(user_of(&app, &third.access_token).await, Ok("ada".into()));

        assert_eq!(refresh(&app, &first.refresh_token).await, Err("TOKEN_REVOKED".into()), "{kind:?}");
        assert_eq!(app.events.count("reused"), 1);
        assert_eq!(
            refresh(&app, &third.refresh_token).await,
            Err("TOKEN_REVOKED".into()),
            "the newest refresh token is revoked too"
        );
        for token in [&first.access_token, &third.access_token] {
            assert_eq!(user_of(&app, token).await, Err("TOKEN_REVOKED".into()));
            assert_eq!(
                app.introspect(token).await,
                pb::IntrospectTokenResponse::default(),
                "inactive, without other fields"
            );
        }
    }
}

#[tokio::test]
async fn repeated_refresh_within_ten_seconds_returns_the_same_successor() {
    let (app, first) = with_ada(StoreKind::Memory).await;
    let second = refresh(&app, &first.refresh_token).await.unwrap();
    app.clock.advance(Duration::from_millis(9_500));
    let again = refresh(&app, &first.refresh_token).await.unwrap();
    assert_eq!(again.refresh_token, second.refresh_token, "the same successor");
    assert_eq!(user_of(&app, &again.access_token).await, Ok("ada".into()));
    app.clock.advance(Duration::from_secs(1));
    assert_eq!(refresh(&app, &first.refresh_token).await, Err("TOKEN_REVOKED".into()), "after the ten seconds");
    assert_eq!(refresh(&app, &second.refresh_token).await, Err("TOKEN_REVOKED".into()));
}

/// T12: 64 concurrent refreshes with one token, on Redis over two nodes. `tests/run --all` tests 500 sessions.
#[tokio::test(flavor = "multi_thread")]
async fn concurrent_refreshes_all_return_the_same_successor() {
    for (kind, nodes) in [(StoreKind::Memory, 1), (StoreKind::Embedded, 1), (StoreKind::Redis, 2)] {
        let store = TestStore::new(kind);
        let mut started = Vec::new();
        for _ in 0..nodes {
            started.push(App::with(kind).start_in(store.clone()).await);
        }
        started[0].registered("ada").await;
        let nodes = Arc::new(started);
        for round in 0..if is_full() { 500 } else { 10 } {
            let tokens = nodes[0].authenticate("ada").await;
            let mut calls = JoinSet::new();
            for call in 0..64 {
                let (nodes, token) = (nodes.clone(), tokens.refresh_token.clone());
                calls.spawn(async move { refresh(&nodes[call % nodes.len()], &token).await });
            }
            let answers: Vec<_> = calls.join_all().await;
            let successors: Vec<_> =
                answers.iter().map(|answer| answer.as_ref().map(|tokens| &tokens.refresh_token)).collect();
            assert!(
                successors.iter().all(|other| other.is_ok() && *other == successors[0]),
                "{kind:?}, round {round}: {successors:?}"
            );
            let refreshed: usize = nodes.iter().map(|node| node.events.count("refreshed")).sum();
            assert_eq!(refreshed, round + 1, "{kind:?}: one rotation a session");
        }
    }
}

/// The control of T12: a store that writes without comparing rotates one token several times.
#[tokio::test]
async fn store_without_compare_and_set_rotates_a_token_several_times() {
    let faulty = Faulty::with(Fault::None);
    let app = Arc::new(App::on(faulty.clone()).start().await);
    app.registered("ada").await;
    let tokens = app.authenticate("ada").await;
    faulty.set(Fault::ComparesNothing);
    let mut calls = JoinSet::new();
    for _ in 0..64 {
        let (app, token) = (app.clone(), tokens.refresh_token.clone());
        calls.spawn(async move { refresh(&app, &token).await });
    }
    drop(calls.join_all().await);
    assert!(app.events.count("refreshed") > 1, "the control finds no fault");
}

/// T13: a refresh token that was exchanged before a crash is refused after it.
#[tokio::test]
async fn exchanged_refresh_token_is_refused_after_kill_9() {
    for kind in StoreKind::DURABLE {
        let store = TestStore::new(kind);
        let flags = store.flags();
        let start = || {
            let flags: Vec<_> = flags.iter().map(String::as_str).collect();
            let free = ["--grpc-addr", "127.0.0.1:0", "--http-addr", "off", "--ops-addr", "off"];
            Node::spawn(command(&[&free[..], &flags].concat())).unwrap_or_else(|log| panic!("{log}"))
        };
        let node = start();
        let mut client = AuthClient::new(channel(&node.grpc).await);
        let request = pb::RegisterRequest { username: "ada".into(), password: password("ada"), ..Default::default() };
        client.register(request).await.unwrap();
        let login = pb::LoginRequest { username: "ada".into(), password: password("ada"), ..Default::default() };
        let first = client.login(login).await.unwrap().into_inner().tokens.unwrap();
        let mut tokens = first.clone();
        for _ in 0..3 {
            let request = pb::RefreshTokenRequest { refresh_token: tokens.refresh_token, ..Default::default() };
            tokens = client.refresh_token(request).await.unwrap().into_inner().tokens.unwrap();
        }
        node.kill();
        let node = start();
        let mut client = AuthClient::new(channel(&node.grpc).await);
        let response = client.get_user(with_bearer(&tokens.access_token, pb::GetUserRequest {})).await;
        assert_eq!(
            response.unwrap().into_inner().user.unwrap().username,
            "ada",
            "{kind:?}: the session survives a crash"
        );
        for old in [first.refresh_token, tokens.refresh_token] {
            let refused = client
                .refresh_token(pb::RefreshTokenRequest { refresh_token: old, ..Default::default() })
                .await
                .unwrap_err();
            assert_eq!(reason(&refused), "TOKEN_REVOKED", "{kind:?}");
        }
    }
}

/// The control of T13: a store that returns to an older document, as after a restore from a copy.
#[tokio::test]
async fn store_that_restores_an_old_session_accepts_an_exchanged_token() {
    let store = TestStore::new(StoreKind::Redis);
    let app = App::with(StoreKind::Redis).start_in(store.clone()).await;
    app.registered("ada").await;
    let first = app.authenticate("ada").await;
    let key = format!("watchword:session:{}", first.session_id);
    let before: String = store.redis().ask(&["GET", &key]);
    let second = refresh(&app, &first.refresh_token).await.unwrap();
    refresh(&app, &second.refresh_token).await.unwrap();
    store.redis().ask::<()>(&["SET", &key, &before]);
    assert!(refresh(&app, &first.refresh_token).await.is_ok(), "the control finds no fault");
}
