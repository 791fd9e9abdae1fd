//! Sessions: their lifetimes, how many a user has, and what the store keeps of them.

use std::{sync::Arc, time::Duration};

use tokio::task::JoinSet;
use watchword::api::pb;

use super::{refresh, user_of, with_ada};
use crate::support::{App, StoreKind, TestStore, all_but_this, password, reason, with_bearer};

#[tokio::test]
async fn tokens_and_sessions_expire_after_their_lifetimes() {
    for kind in [StoreKind::Memory, StoreKind::Embedded] {
        let (app, tokens) = with_ada(kind).await;
        let days = |days: u64| Duration::from_secs(days * 86_400);
        app.clock.advance(Duration::from_secs(298));
        assert_eq!(user_of(&app, &tokens.access_token).await, Ok("ada".into()));
        app.clock.advance(Duration::from_secs(2));
        assert_eq!(user_of(&app, &tokens.access_token).await, Err("TOKEN_EXPIRED".into()), "after five minutes");
        assert!(!app.introspect(&tokens.access_token).await.active);
        // Three times idle for 29 days, then the session is 90 days old. It was never idle for 30 days.
        let mut tokens = tokens;
        for _ in 0..3 {
            app.clock.advance(days(29));
            tokens = refresh(&app, &tokens.refresh_token).await.unwrap();
        }
        app.clock.advance(days(3));
        assert_eq!(refresh(&app, &tokens.refresh_token).await, Err("TOKEN_EXPIRED".into()), "after 90 days");
        let tokens = app.authenticate("ada").await;
        app.clock.advance(days(30));
        assert_eq!(refresh(&app, &tokens.refresh_token).await, Err("TOKEN_EXPIRED".into()), "idle for 30 days");
    }
}

#[tokio::test]
async fn hundred_and_first_session_ends_the_oldest() {
    for kind in StoreKind::ALL {
        let (app, first) = with_ada(kind).await;
        let second = app.authenticate("ada").await;
        for _ in 0..98 {
            app.authenticate("ada").await;
        }
        assert!(app.introspect(&first.access_token).await.active, "{kind:?}: a hundred sessions are active");
        let last = app.authenticate("ada").await;
        assert!(!app.introspect(&first.access_token).await.active, "{kind:?}: the 101st session ended the first");
        assert!(app.introspect(&second.access_token).await.active, "{kind:?}");
        let mut client = app.client().await;
        let mut sessions = Vec::new();
        let mut request = pb::ListSessionsRequest { page_size: 30, page_token: String::new() };
        loop {
            let page =
                client.list_sessions(with_bearer(&last.access_token, request.clone())).await.unwrap().into_inner();
            assert!(page.sessions.len() <= 30);
            sessions.extend(page.sessions);
            if page.next_page_token.is_empty() {
                break;
            }
            request.page_token = page.next_page_token;
        }
        assert_eq!(sessions.len(), 100, "{kind:?}");
        assert!(sessions[0].current && sessions[0].session_id == last.session_id, "the newest session is first");
        assert_eq!(sessions.iter().filter(|session| session.current).count(), 1);
        assert_eq!(
            (sessions[0].client_address.as_str(), sessions[0].user_agent.contains("tonic")),
            ("127.0.0.1", true)
        );
    }
}

/// As for a service account that all machines of a cluster use at the same time.
#[tokio::test(flavor = "multi_thread")]
async fn ninety_concurrent_logins_of_one_user_each_create_a_session() {
    for (kind, nodes) in [(StoreKind::Memory, 1), (StoreKind::Embedded, 1), (StoreKind::Redis, 2)] {
        let store = TestStore::new(kind);
        let mut started = Vec::new();
        for _ in 0..nodes {
            started
                .push(App::with(kind).args(&["--token-issuer", "https://here.example"]).start_in(store.clone()).await);
        }
        started[0].registered("robot").await;
        let nodes = Arc::new(started);
        let mut logins = JoinSet::new();
        for number in 0..90 {
            let nodes = nodes.clone();
            logins.spawn(async move {
                let mut client = nodes[number % nodes.len()].client().await;
                loop {
                    let request = pb::LoginRequest {
                        username: "robot".into(),
                        password: password("robot"),
                        ..Default::default()
                    };
                    match client.login(request).await {
                        Ok(answer) => return Ok(answer.into_inner().tokens.unwrap()),
                        // The hash queue of a busy machine is full. Nothing was executed, so the call is repeated.
                        Err(refused) if reason(&refused) == "OVERLOADED" => tokio::task::yield_now().await,
                        Err(refused) => return Err(reason(&refused)),
                    }
                }
            });
        }
        let tokens: Vec<_> =
            logins.join_all().await.into_iter().map(|login| login.expect("the login creates a session")).collect();
        for tokens in &tokens {
            assert!(nodes[0].introspect(&tokens.access_token).await.active, "{kind:?}");
        }
        let all = pb::ListSessionsRequest { page_size: 100, page_token: String::new() };
        let list = nodes[0].client().await.list_sessions(with_bearer(&tokens[0].access_token, all)).await.unwrap();
        assert_eq!(list.into_inner().sessions.len(), 90, "{kind:?}: all are listed");
    }
}

/// A job that logs in and out every day must not end the session of the user's phone.
#[tokio::test]
async fn ended_sessions_do_not_count_toward_the_limit() {
    for kind in StoreKind::ALL {
        let (app, phone) = with_ada(kind).await;
        let mut client = app.client().await;
        for _ in 0..101 {
            let token = app.authenticate("ada").await.refresh_token;
            client.revoke_token(pb::RevokeTokenRequest { token }).await.unwrap();
        }
        assert_eq!(user_of(&app, &phone.access_token).await, Ok("ada".into()), "{kind:?}");
        // Sessions that RevokeAllSessions ended do not count either.
        for _ in 0..99 {
            app.authenticate("ada").await;
        }
        client.revoke_all_sessions(with_bearer(&phone.access_token, all_but_this("ada"))).await.unwrap();
        app.authenticate("ada").await;
        assert_eq!(user_of(&app, &phone.access_token).await, Ok("ada".into()), "{kind:?}");
        let list =
            client.list_sessions(with_bearer(&phone.access_token, pb::ListSessionsRequest::default())).await.unwrap();
        assert_eq!(list.into_inner().sessions.len(), 2, "{kind:?}");
    }
}

/// ASVS 5.0 7.5.2: a stolen access token must not end all sessions but its own.
#[tokio::test]
async fn ending_all_other_sessions_needs_the_password_and_ending_all_needs_none() {
    for kind in StoreKind::ALL {
        let (app, victim) = with_ada(kind).await;
        let stolen = app.authenticate("ada").await;
        let mut client = app.client().await;
        for (current_password, refused) in
            [("", "INVALID_FIELD"), ("not her password", "INVALID_CREDENTIALS"), (&*"x".repeat(1_025), "INVALID_FIELD")]
        {
            let request = pb::RevokeAllSessionsRequest {
                keep_current: true,
                current_password: current_password.into(),
                ..Default::default()
            };
            let answer = client.revoke_all_sessions(with_bearer(&stolen.access_token, request)).await;
            assert_eq!(reason(&answer.unwrap_err()), refused, "{kind:?}");
            assert_eq!(user_of(&app, &victim.access_token).await, Ok("ada".into()), "{kind:?}");
        }
        let answer = client.revoke_all_sessions(with_bearer(&victim.access_token, all_but_this("ada"))).await;
        assert_eq!(answer.unwrap().into_inner().revoked_count, 1, "{kind:?}");
        assert_eq!(user_of(&app, &stolen.access_token).await, Err("TOKEN_REVOKED".into()), "{kind:?}");
        let everything = pb::RevokeAllSessionsRequest::default();
        client.revoke_all_sessions(with_bearer(&victim.access_token, everything)).await.unwrap();
        assert_eq!(user_of(&app, &victim.access_token).await, Err("TOKEN_REVOKED".into()), "{kind:?}");
    }
}

#[tokio::test]
async fn corrupt_session_or_session_list_does_not_block_login_and_revoke_all() {
    let store = TestStore::new(StoreKind::Redis);
    let app = App::with(StoreKind::Redis).start_in(store.clone()).await;
    app.registered("ada").await;
    let (corrupt, good) = (app.authenticate("ada").await, app.authenticate("ada").await);
    store.redis().ask::<()>(&["SET", &format!("watchword:session:{}", corrupt.session_id), "{\"v\":2}"]);
    let list = pb::ListSessionsRequest::default();
    let found = app.client().await.list_sessions(with_bearer(&good.access_token, list)).await.unwrap().into_inner();
    assert_eq!(found.sessions.len(), 1, "the readable session is listed");
    let [key]: [String; 1] = store.redis().ask(&["KEYS", "watchword:sessions:*"]);
    store.redis().ask::<()>(&["SET", &key, "{\"v\":2}"]);
    let new = app.authenticate("ada").await;
    let request = pb::RevokeAllSessionsRequest::default();
    app.client().await.revoke_all_sessions(with_bearer(&new.access_token, request)).await.unwrap();
    assert_eq!(user_of(&app, &good.access_token).await, Err("TOKEN_REVOKED".into()));
}

/// Neither ended sessions nor their expiry entries stay in the file.
#[tokio::test]
async fn ended_sessions_leave_no_rows_in_the_embedded_store() {
    let store = TestStore::new(StoreKind::Embedded);
    let app = App::with(StoreKind::Embedded).start_in(store.clone()).await;
    app.registered("ada").await;
    for _ in 0..5 {
        let token = app.authenticate("ada").await.access_token;
        app.client().await.revoke_token(pb::RevokeTokenRequest { token }).await.unwrap();
    }
    app.authenticate("ada").await;
    app.stopped().await;
    let rows = store.rows();
    for table in ["expiring", "id", "keys", "session", "sessions", "user"] {
        assert!(rows.contains(&(table.to_owned(), 1)), "{table}: {rows:?}");
    }
}
