//! Sessions and their tokens: what a login begins, what prolongs it, and all that ends it, on every node.

use std::{sync::Arc, time::Duration};

use serde_json::json;
use tempfile::TempDir;
use tokio::task::JoinSet;
use tonic::{Code, Request, Status, metadata::MetadataValue};
use watchword::api::pb::{self, auth_client::AuthClient};

use crate::support::{
    App, Node, StoreKind, TestStore, app, channel,
    fault::{Fault, Faulty},
    hostile::{hostile, part},
    is_full, password, reason, with_bearer,
};

async fn refresh(app: &App, token: &str) -> Result<pb::Tokens, String> {
    let request = pb::RefreshTokenRequest { refresh_token: token.into() };
    let answer = app.client().await.refresh_token(request).await;
    answer.map(|answer| answer.into_inner().tokens.unwrap()).map_err(|status| reason(&status))
}

async fn user_of(app: &App, token: &str) -> Result<String, String> {
    let answer = app.client().await.get_user(with_bearer(token, pb::GetUserRequest {})).await;
    answer.map(|answer| answer.into_inner().user.unwrap().username).map_err(|status| reason(&status))
}

async fn change_password(app: &App, token: &str, current: &str, new: &str) -> Result<pb::Tokens, Status> {
    let request = pb::ChangePasswordRequest { current_password: current.into(), new_password: new.into() };
    let answer = app.client().await.change_password(with_bearer(token, request)).await;
    answer.map(|answer| answer.into_inner().tokens.unwrap())
}

async fn with_ada(kind: StoreKind) -> (App, pb::Tokens) {
    let app = App::with(kind).with_admin().start().await;
    app.registered("ada").await;
    let tokens = app.authenticate("ada").await;
    (app, tokens)
}

#[tokio::test]
async fn a_login_answers_tokens_that_count_and_say_no_more_than_they_must() {
    for kind in StoreKind::ALL {
        let (app, tokens) = with_ada(kind).await;
        assert_eq!(tokens.token_type, "Bearer");
        let (head, claims) = (part(&tokens.access_token, 0), part(&tokens.access_token, 1));
        assert_eq!((head["typ"].as_str(), head["alg"].as_str()), (Some("at+jwt"), Some("ES256")));
        assert_eq!(head["kid"].as_str().unwrap().len(), 43, "an RFC 7638 thumbprint");
        let names: Vec<_> = claims.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(names, ["aud", "exp", "iat", "iss", "jti", "sid", "sub"], "and nothing of the user");
        assert_eq!(claims["exp"].as_u64().unwrap() - claims["iat"].as_u64().unwrap(), 300);
        assert_eq!(claims["aud"], "watchword");
        assert_eq!(claims["iss"], format!("http://{}", app.http_socket()));
        assert_eq!(claims["sid"], tokens.session_id);

        let found = app.introspect(&tokens.access_token).await;
        assert!(found.active && found.token_use() == pb::TokenUse::Access, "{found:?}");
        assert_eq!((found.username.as_str(), &found.session_id), ("ada", &tokens.session_id));
        assert_eq!(json!(found.user_id), claims["sub"]);
        let found = app.introspect(&tokens.refresh_token).await;
        assert!(found.active && found.token_use() == pb::TokenUse::Refresh, "{found:?}");
        assert_eq!(user_of(&app, &tokens.access_token).await, Ok("ada".into()));
    }
}

#[tokio::test]
async fn a_refresh_replaces_both_tokens_and_an_old_one_used_again_ends_the_session() {
    for kind in StoreKind::ALL {
        let (app, first) = with_ada(kind).await;
        let second = refresh(&app, &first.refresh_token).await.unwrap();
        assert_ne!(first.refresh_token, second.refresh_token);
        assert_eq!(first.session_id, second.session_id);
        let third = refresh(&app, &second.refresh_token).await.unwrap();
        assert_eq!(user_of(&app, &third.access_token).await, Ok("ada".into()));

        assert_eq!(refresh(&app, &first.refresh_token).await, Err("TOKEN_REVOKED".into()), "{kind:?}");
        assert_eq!(app.events.count("reused"), 1);
        assert_eq!(refresh(&app, &third.refresh_token).await, Err("TOKEN_REVOKED".into()), "the thief's too");
        for token in [&first.access_token, &third.access_token] {
            assert_eq!(user_of(&app, token).await, Err("TOKEN_REVOKED".into()));
            assert_eq!(
                app.introspect(token).await,
                pb::IntrospectTokenResponse::default(),
                "inactive, and nothing else"
            );
        }
    }
}

#[tokio::test]
async fn a_lost_answer_can_be_asked_for_again_for_ten_seconds_while_nobody_used_it() {
    let (app, first) = with_ada(StoreKind::Memory).await;
    let second = refresh(&app, &first.refresh_token).await.unwrap();
    app.clock.advance(Duration::from_millis(9_500));
    let again = refresh(&app, &first.refresh_token).await.unwrap();
    assert_eq!(again.refresh_token, second.refresh_token, "the very same successor");
    assert_eq!(user_of(&app, &again.access_token).await, Ok("ada".into()));
    app.clock.advance(Duration::from_secs(1));
    assert_eq!(refresh(&app, &first.refresh_token).await, Err("TOKEN_REVOKED".into()), "too late");
    assert_eq!(refresh(&app, &second.refresh_token).await, Err("TOKEN_REVOKED".into()));
}

/// T12: 64 at once with one token, over two nodes where there can be two; `WATCHWORD_TEST_FULL=1` takes 500 sessions.
#[tokio::test(flavor = "multi_thread")]
async fn of_many_refreshes_at_once_all_get_the_same_successor() {
    for (kind, nodes) in [(StoreKind::Memory, 1), (StoreKind::Embedded, 1), (StoreKind::Redis, 2)] {
        let place = TestStore::new(kind);
        let mut started = Vec::new();
        for _ in 0..nodes {
            started.push(App::with(kind).start_in(place.clone()).await);
        }
        started[0].registered("ada").await;
        let nodes = Arc::new(started);
        for round in 0..if is_full() { 500 } else { 10 } {
            let tokens = nodes[0].authenticate("ada").await;
            let mut racers = JoinSet::new();
            for racer in 0..64 {
                let (nodes, token) = (nodes.clone(), tokens.refresh_token.clone());
                racers.spawn(async move { refresh(&nodes[racer % nodes.len()], &token).await });
            }
            let answers: Vec<_> = racers.join_all().await;
            let successors: Vec<_> =
                answers.iter().map(|answer| answer.as_ref().map(|tokens| &tokens.refresh_token)).collect();
            assert!(
                successors.iter().all(|other| other.is_ok() && *other == successors[0]),
                "{kind:?}, round {round}: {successors:?}"
            );
            let refreshed: usize = nodes.iter().map(|node| node.events.count("refreshed")).sum();
            assert_eq!(refreshed, round + 1, "{kind:?}: one rotation");
        }
    }
}

/// The control of T12: a store that replaces without looking rotates one token many times.
#[tokio::test]
async fn a_store_that_compares_nothing_is_found_out() {
    let faulty = Faulty::with(Fault::None);
    let app = Arc::new(App::on(faulty.clone()).start().await);
    app.registered("ada").await;
    let tokens = app.authenticate("ada").await;
    faulty.set(Fault::ComparesNothing);
    let mut racers = JoinSet::new();
    for _ in 0..64 {
        let (app, token) = (app.clone(), tokens.refresh_token.clone());
        racers.spawn(async move { refresh(&app, &token).await });
    }
    drop(racers.join_all().await);
    assert!(app.events.count("refreshed") > 1, "the control shows nothing");
}

/// T13: what was rotated before a crash is old after it.
#[tokio::test]
async fn a_rotated_token_is_not_accepted_again_after_kill_9() {
    for kind in StoreKind::DURABLE {
        let place = TestStore::new(kind);
        let flags = place.flags();
        let start = || {
            let flags: Vec<_> = flags.iter().map(String::as_str).collect();
            let free = ["--grpc-addr", "127.0.0.1:0", "--http-addr", "off", "--ops-addr", "off"];
            Node::spawn(crate::support::command(&[&free[..], &flags].concat())).unwrap_or_else(|log| panic!("{log}"))
        };
        let node = start();
        let mut client = AuthClient::new(channel(&node.grpc).await);
        let request = pb::RegisterRequest { username: "ada".into(), password: password("ada"), ..Default::default() };
        client.register(request).await.unwrap();
        let login = pb::LoginRequest { username: "ada".into(), password: password("ada"), ..Default::default() };
        let first = client.login(login).await.unwrap().into_inner().tokens.unwrap();
        let mut tokens = first.clone();
        for _ in 0..3 {
            let request = pb::RefreshTokenRequest { refresh_token: tokens.refresh_token };
            tokens = client.refresh_token(request).await.unwrap().into_inner().tokens.unwrap();
        }
        node.kill();
        let node = start();
        let mut client = AuthClient::new(channel(&node.grpc).await);
        let still = client.get_user(with_bearer(&tokens.access_token, pb::GetUserRequest {})).await;
        assert_eq!(still.unwrap().into_inner().user.unwrap().username, "ada", "{kind:?}: the session outlives a crash");
        for old in [first.refresh_token, tokens.refresh_token] {
            let refused = client.refresh_token(pb::RefreshTokenRequest { refresh_token: old }).await.unwrap_err();
            assert_eq!(reason(&refused), "TOKEN_REVOKED", "{kind:?}");
        }
    }
}

/// The control of T13: a store that forgets what it replaced, as one that restarts from an old copy does.
#[tokio::test]
async fn a_store_that_goes_back_in_time_is_found_out() {
    let place = TestStore::new(StoreKind::Redis);
    let app = App::with(StoreKind::Redis).start_in(place.clone()).await;
    app.registered("ada").await;
    let first = app.authenticate("ada").await;
    let key = format!("watchword:session:{}", first.session_id);
    let before: String = place.redis().ask(&["GET", &key]);
    let second = refresh(&app, &first.refresh_token).await.unwrap();
    refresh(&app, &second.refresh_token).await.unwrap();
    place.redis().ask::<()>(&["SET", &key, &before]);
    assert!(refresh(&app, &first.refresh_token).await.is_ok(), "the control shows nothing");
}

/// How long a positive check may be answered again; DESIGN wants every end seen everywhere within a second.
const CHECK_REUSE: Duration = Duration::from_millis(800);

/// No answer on doubt, but for what the store said a moment ago; and with `0s` not even that.
#[tokio::test]
async fn a_token_counts_for_less_than_a_second_longer_than_the_store_can_be_asked() {
    for (reuse, expected) in [("800ms", "ok"), ("0s", "STORE_UNAVAILABLE")] {
        let faulty = Faulty::with(Fault::None);
        let app = App::on(faulty.clone()).args(&["--token-check-reuse", reuse]).start().await;
        app.registered("ada").await;
        let tokens = app.authenticate("ada").await;
        let check = async |token: &str| {
            let request = pb::IntrospectTokenRequest { token: token.into() };
            let answer = app.client().await.introspect_token(request).await;
            answer.map(|_| "ok".to_owned()).unwrap_or_else(|status| reason(&status))
        };
        assert_eq!(check(&tokens.access_token).await, "ok");
        faulty.set(Fault::Down);
        assert_eq!(check(&tokens.access_token).await, expected, "{reuse}");
        assert_eq!(check(&tokens.refresh_token).await, "STORE_UNAVAILABLE", "a refresh token is always asked about");
        app.clock.advance(CHECK_REUSE);
        assert_eq!(check(&tokens.access_token).await, "STORE_UNAVAILABLE", "{reuse}");
    }
}

/// Whoever is told that a session has ended is told so by every check of that node from then on.
#[tokio::test]
async fn an_end_that_is_acknowledged_counts_on_that_node_whoever_made_it() {
    let place = TestStore::new(StoreKind::Redis);
    let node = || App::with(StoreKind::Redis).args(&["--token-issuer", "https://auth.example"]);
    let (one, other) = (node().start_in(place.clone()).await, node().start_in(place).await);
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

/// T15: on the node where it was not done.
#[tokio::test]
async fn whatever_ends_a_session_ends_it_on_every_node() {
    for kind in [StoreKind::Embedded, StoreKind::Redis] {
        let place = TestStore::new(kind);
        // Nodes that share users share their name.
        let node = || App::with(kind).args(&["--token-issuer", "https://auth.example"]);
        let app = node().start_in(place.clone()).await;
        let other = if kind == StoreKind::Redis { Some(node().start_in(place).await) } else { None };
        let elsewhere = other.as_ref().unwrap_or(&app);
        for (number, how) in
            ["logout", "by refresh token", "one session", "all sessions", "password", "deletion"].iter().enumerate()
        {
            let name = format!("user{number}");
            app.registered(&name).await;
            let (tokens, context) = (app.authenticate(&name).await, app.authenticate(&name).await);
            assert!(elsewhere.introspect(&tokens.access_token).await.active);
            assert!(app.introspect(&tokens.access_token).await.active);
            let mut client = app.client().await;
            let (token, mine) = (&context.access_token, password(&name));
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
                    let answer = client
                        .revoke_all_sessions(with_bearer(token, pb::RevokeAllSessionsRequest { keep_current: true }));
                    assert_eq!(answer.await.unwrap().into_inner().revoked_count, 1);
                    assert_eq!(user_of(elsewhere, token).await, Ok(name.clone()), "the one of the call goes on");
                    assert!(refresh(elsewhere, &context.refresh_token).await.is_ok());
                }
                "password" => drop(change_password(&app, token, &mine, "another long one").await.unwrap()),
                _ => drop(
                    client
                        .delete_user(with_bearer(token, pb::DeleteUserRequest { current_password: mine }))
                        .await
                        .unwrap(),
                ),
            }
            let here = app.introspect(&tokens.access_token).await;
            assert_eq!(here, pb::IntrospectTokenResponse::default(), "{kind:?}: {how}: where it was done, at once");
            if other.is_some() {
                elsewhere.clock.advance(CHECK_REUSE);
            }
            assert_eq!(
                elsewhere.introspect(&tokens.access_token).await,
                pb::IntrospectTokenResponse::default(),
                "{kind:?}: {how}"
            );
            assert_eq!(user_of(elsewhere, &tokens.access_token).await, Err("TOKEN_REVOKED".into()), "{kind:?}: {how}");
            assert_eq!(refresh(elsewhere, &tokens.refresh_token).await, Err("TOKEN_REVOKED".into()), "{kind:?}: {how}");
        }
    }
}

#[tokio::test]
async fn a_token_does_not_outlive_its_user_even_when_the_name_is_taken_again() {
    for kind in StoreKind::ALL {
        let (app, tokens) = with_ada(kind).await;
        let request = pb::DeleteUserRequest { current_password: "not hers at all".into() };
        let refused = app.client().await.delete_user(with_bearer(&tokens.access_token, request)).await.unwrap_err();
        assert_eq!(reason(&refused), "INVALID_CREDENTIALS");
        let request = pb::DeleteUserRequest { current_password: password("ada") };
        app.client().await.delete_user(with_bearer(&tokens.access_token, request)).await.unwrap();
        app.registered("ada").await;
        assert_eq!(user_of(&app, &tokens.access_token).await, Err("TOKEN_REVOKED".into()), "{kind:?}");
        assert_eq!(refresh(&app, &tokens.refresh_token).await, Err("TOKEN_REVOKED".into()), "{kind:?}");
    }
}

/// The password is changed then: an answer that nothing was would be a lie.
#[tokio::test]
async fn a_new_password_whose_session_cannot_be_stored_is_not_said_to_have_failed() {
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

/// T10: logins with the old password that race its change leave no session alive; `WATCHWORD_TEST_FULL=1` takes 2 000.
#[tokio::test(flavor = "multi_thread")]
async fn a_login_that_races_a_new_password_leaves_no_living_session() {
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
async fn time_ends_tokens_and_sessions() {
    for kind in [StoreKind::Memory, StoreKind::Embedded] {
        let (app, tokens) = with_ada(kind).await;
        let days = |days: u64| Duration::from_secs(days * 86_400);
        app.clock.advance(Duration::from_secs(298));
        assert_eq!(user_of(&app, &tokens.access_token).await, Ok("ada".into()));
        app.clock.advance(Duration::from_secs(2));
        assert_eq!(user_of(&app, &tokens.access_token).await, Err("TOKEN_EXPIRED".into()), "after five minutes");
        assert!(!app.introspect(&tokens.access_token).await.active);
        // Idle for 29 days three times over; then 90 days are over, although it was never idle for long.
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
async fn a_user_has_a_hundred_sessions_and_the_oldest_ends() {
    for kind in StoreKind::ALL {
        let (app, first) = with_ada(kind).await;
        let second = app.authenticate("ada").await;
        for _ in 0..98 {
            app.authenticate("ada").await;
        }
        assert!(app.introspect(&first.access_token).await.active, "{kind:?}: a hundred live");
        let last = app.authenticate("ada").await;
        assert!(!app.introspect(&first.access_token).await.active, "{kind:?}: the 101st ended the first");
        assert!(app.introspect(&second.access_token).await.active, "{kind:?}");
        let mut client = app.client().await;
        let mut seen = Vec::new();
        let mut request = pb::ListSessionsRequest { page_size: 30, page_token: String::new() };
        loop {
            let page =
                client.list_sessions(with_bearer(&last.access_token, request.clone())).await.unwrap().into_inner();
            assert!(page.sessions.len() <= 30);
            seen.extend(page.sessions);
            if page.next_page_token.is_empty() {
                break;
            }
            request.page_token = page.next_page_token;
        }
        assert_eq!(seen.len(), 100, "{kind:?}");
        assert!(seen[0].current && seen[0].session_id == last.session_id, "the newest first");
        assert_eq!(seen.iter().filter(|session| session.current).count(), 1);
        assert_eq!((seen[0].client_address.as_str(), seen[0].user_agent.contains("tonic")), ("127.0.0.1", true));
    }
}

/// A robot's account that a whole cluster starts with: nobody is in anybody's way.
#[tokio::test(flavor = "multi_thread")]
async fn so_many_logins_of_one_user_at_once_all_begin_a_session() {
    for (kind, nodes) in [(StoreKind::Memory, 1), (StoreKind::Embedded, 1), (StoreKind::Redis, 2)] {
        let place = TestStore::new(kind);
        let mut started = Vec::new();
        for _ in 0..nodes {
            started.push(App::with(kind).args(&["--token-issuer", "here"]).start_in(place.clone()).await);
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
                        // A busy machine has no room for so many hashes at once; nothing was executed.
                        Err(refused) if reason(&refused) == "OVERLOADED" => tokio::task::yield_now().await,
                        Err(refused) => return Err(reason(&refused)),
                    }
                }
            });
        }
        let tokens: Vec<_> = logins.join_all().await.into_iter().map(|login| login.expect("a session")).collect();
        for tokens in &tokens {
            assert!(nodes[0].introspect(&tokens.access_token).await.active, "{kind:?}");
        }
        let all = pb::ListSessionsRequest { page_size: 100, page_token: String::new() };
        let list_entry =
            nodes[0].client().await.list_sessions(with_bearer(&tokens[0].access_token, all)).await.unwrap();
        assert_eq!(list_entry.into_inner().sessions.len(), 90, "{kind:?}: and all are listed");
    }
}

/// A job that signs in and out every day must not sign its user's phone out.
#[tokio::test]
async fn sessions_that_were_ended_take_nobodys_place() {
    for kind in StoreKind::ALL {
        let (app, phone) = with_ada(kind).await;
        let mut client = app.client().await;
        for _ in 0..101 {
            let token = app.authenticate("ada").await.refresh_token;
            client.revoke_token(pb::RevokeTokenRequest { token }).await.unwrap();
        }
        assert_eq!(user_of(&app, &phone.access_token).await, Ok("ada".into()), "{kind:?}");
        // Nor do those that ended with all others.
        for _ in 0..99 {
            app.authenticate("ada").await;
        }
        let all_but_this = pb::RevokeAllSessionsRequest { keep_current: true };
        client.revoke_all_sessions(with_bearer(&phone.access_token, all_but_this)).await.unwrap();
        app.authenticate("ada").await;
        assert_eq!(user_of(&app, &phone.access_token).await, Ok("ada".into()), "{kind:?}");
        let list =
            client.list_sessions(with_bearer(&phone.access_token, pb::ListSessionsRequest::default())).await.unwrap();
        assert_eq!(list.into_inner().sessions.len(), 2, "{kind:?}");
    }
}

/// There is no moment at which the session that shall stay does not count.
#[tokio::test(flavor = "multi_thread")]
async fn the_session_that_is_kept_counts_all_the_time_and_its_refresh_too() {
    for kind in StoreKind::ALL {
        let app = Arc::new(App::with(kind).start().await);
        app.registered("ada").await;
        for round in 0..10 {
            let (mine, other) = (app.authenticate("ada").await, app.authenticate("ada").await);
            let refreshing = {
                let (app, token) = (app.clone(), mine.refresh_token.clone());
                tokio::spawn(async move {
                    let mut tokens = refresh(&app, &token).await.expect("a kept session is refreshed");
                    for _ in 0..5 {
                        assert_eq!(user_of(&app, &tokens.access_token).await, Ok("ada".into()));
                        tokens = refresh(&app, &tokens.refresh_token).await.expect("again and again");
                    }
                    tokens
                })
            };
            let request = pb::RevokeAllSessionsRequest { keep_current: true };
            app.client().await.revoke_all_sessions(with_bearer(&mine.access_token, request)).await.unwrap();
            let tokens = refreshing.await.unwrap();
            assert_eq!(user_of(&app, &tokens.access_token).await, Ok("ada".into()), "{kind:?}, round {round}");
            assert_eq!(user_of(&app, &other.access_token).await, Err("TOKEN_REVOKED".into()));
            // The next one keeps nothing.
            let request = pb::RevokeAllSessionsRequest { keep_current: false };
            app.client().await.revoke_all_sessions(with_bearer(&tokens.access_token, request)).await.unwrap();
            assert_eq!(user_of(&app, &tokens.access_token).await, Err("TOKEN_REVOKED".into()), "{kind:?}");
        }
    }
}

#[tokio::test]
async fn a_list_or_a_session_that_cannot_be_read_keeps_nobody_from_signing_in_or_ending_all() {
    let place = TestStore::new(StoreKind::Redis);
    let app = App::with(StoreKind::Redis).start_in(place.clone()).await;
    app.registered("ada").await;
    let (torn, good) = (app.authenticate("ada").await, app.authenticate("ada").await);
    place.redis().ask::<()>(&["SET", &format!("watchword:session:{}", torn.session_id), "{\"v\":2}"]);
    let list = pb::ListSessionsRequest::default();
    let seen = app.client().await.list_sessions(with_bearer(&good.access_token, list)).await.unwrap().into_inner();
    assert_eq!(seen.sessions.len(), 1, "what can be read is shown");
    let [key]: [String; 1] = place.redis().ask(&["KEYS", "watchword:sessions:*"]);
    place.redis().ask::<()>(&["SET", &key, "{\"v\":2}"]);
    let new = app.authenticate("ada").await;
    let request = pb::RevokeAllSessionsRequest { keep_current: false };
    app.client().await.revoke_all_sessions(with_bearer(&new.access_token, request)).await.unwrap();
    assert_eq!(user_of(&app, &good.access_token).await, Err("TOKEN_REVOKED".into()));
}

/// Neither sessions nor what says when to forget them pile up in the file.
#[tokio::test]
async fn ended_sessions_leave_nothing_behind() {
    let place = TestStore::new(StoreKind::Embedded);
    let app = App::with(StoreKind::Embedded).start_in(place.clone()).await;
    app.registered("ada").await;
    for _ in 0..5 {
        let token = app.authenticate("ada").await.access_token;
        app.client().await.revoke_token(pb::RevokeTokenRequest { token }).await.unwrap();
    }
    app.authenticate("ada").await;
    app.stopped().await;
    let rows = place.rows();
    for table in ["expiring", "id", "keys", "session", "sessions", "user"] {
        assert!(rows.contains(&(table.to_owned(), 1)), "{table}: {rows:?}");
    }
}

#[tokio::test]
async fn somebody_elses_session_cannot_be_ended() {
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

#[tokio::test]
async fn data_are_replaced_as_they_were_seen_or_not_at_all() {
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
        let late = client.update_user_data(request("lost", &user.etag)).await.unwrap_err();
        assert_eq!((late.code(), reason(&late).as_str()), (Code::Aborted, "CONFLICT"), "{kind:?}");
        client.update_user_data(request("", "")).await.unwrap();
        assert_eq!(crate::support::Api::Legacy.login(&app, "ada", &password("ada")).await.data(), "");
        let long = client.update_user_data(request(&"d".repeat(8_193), "")).await.unwrap_err();
        assert_eq!(reason(&long), "INVALID_FIELD");
    }
}

#[tokio::test]
async fn a_new_password_keeps_to_the_policy_and_needs_the_current_one() {
    let (app, tokens) = with_ada(StoreKind::Memory).await;
    let token = &tokens.access_token;
    for (current, new, why) in [
        ("", "", "INVALID_FIELD"),
        ("not hers at all", "another long one", "INVALID_CREDENTIALS"),
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
    assert_eq!(user_of(&app, token).await, Ok("ada".into()), "nothing was changed");
    let new = change_password(&app, token, &password("ada"), "another long one").await.unwrap();
    assert_eq!(user_of(&app, token).await, Err("TOKEN_REVOKED".into()));
    assert_eq!(user_of(&app, &new.access_token).await, Ok("ada".into()));
}

#[tokio::test]
async fn disabling_ends_sessions_and_refuses_logins_like_wrong_passwords() {
    let (app, tokens) = with_ada(StoreKind::Memory).await;
    app.set_disabled("ada", true).await;
    assert_eq!(user_of(&app, &tokens.access_token).await, Err("TOKEN_REVOKED".into()));
    assert_eq!(refresh(&app, &tokens.refresh_token).await, Err("TOKEN_REVOKED".into()));
    let login = || pb::LoginRequest { username: "ada".into(), password: password("ada"), ..Default::default() };
    let refused = app.client().await.login(login()).await.unwrap_err();
    assert_eq!(reason(&refused), "INVALID_CREDENTIALS");
    app.set_disabled("ada", false).await;
    assert!(app.client().await.login(login()).await.is_ok());
    assert_eq!(user_of(&app, &tokens.access_token).await, Err("TOKEN_REVOKED".into()), "what was ended stays so");
}

#[tokio::test]
async fn a_bearer_token_is_exactly_one() {
    let (app, tokens) = with_ada(StoreKind::Memory).await;
    let good = format!("Bearer {}", tokens.access_token);
    for (values, outcome) in [
        (vec![], Err("TOKEN_MISSING")),
        (vec![good.clone()], Ok("ada")),
        (vec![good.replace("Bearer", "bEARER")], Ok("ada")),
        (vec![good.clone(), good.clone()], Err("TOKEN_INVALID")),
        (vec![good.replace("Bearer ", "Bearer  ")], Err("TOKEN_INVALID")),
        (vec![tokens.access_token.clone()], Err("TOKEN_INVALID")),
        (vec![good.replace("Bearer", "Basic")], Err("TOKEN_INVALID")),
        (vec!["Bearer".into()], Err("TOKEN_INVALID")),
        (vec!["Bearer ".into()], Err("TOKEN_INVALID")),
        (vec![format!("{good} ")], Err("TOKEN_INVALID")),
        (vec![format!("{good}, {good}")], Err("TOKEN_INVALID")),
        (vec![format!("Bearer {}", tokens.refresh_token)], Err("TOKEN_INVALID")),
        (vec![String::new()], Err("TOKEN_INVALID")),
    ] {
        let mut request = Request::new(pb::GetUserRequest {});
        for value in &values {
            request.metadata_mut().append("authorization", MetadataValue::try_from(value.as_str()).unwrap());
        }
        let answer = app.client().await.get_user(request).await;
        let answer = answer.map(|answer| answer.into_inner().user.unwrap().username).map_err(|status| reason(&status));
        assert_eq!(answer.as_deref().map_err(String::as_str), outcome, "{values:?}");
    }
}

#[tokio::test]
async fn an_empty_token_is_a_bad_field_and_a_huge_one_too_large() {
    let app = app().await;
    let mut client = app.client().await;
    let empty = client.introspect_token(pb::IntrospectTokenRequest::default()).await.unwrap_err();
    assert_eq!(reason(&empty), "INVALID_FIELD");
    let huge = pb::IntrospectTokenRequest { token: "a".repeat(1 << 20) };
    assert_eq!(reason(&client.introspect_token(huge).await.unwrap_err()), "REQUEST_TOO_LARGE");
    assert_eq!(reason(&client.refresh_token(pb::RefreshTokenRequest::default()).await.unwrap_err()), "INVALID_FIELD");
    client.revoke_token(pb::RevokeTokenRequest { token: "garbage".into() }).await.unwrap();
}

/// T14: tokens that somebody might take for ours.
#[tokio::test]
async fn no_hostile_token_counts() {
    let (app, tokens) = with_ada(StoreKind::Memory).await;
    let mut corpus = hostile(&tokens.access_token);
    assert!(corpus.len() >= 200, "only {} tokens", corpus.len());
    let elsewhere =
        App::with(StoreKind::Memory).args(&["--token-issuer", &app.rules.token_settings().names.issuer]).start().await;
    elsewhere.registered("ada").await;
    let theirs = elsewhere.authenticate("ada").await;
    corpus.push(("signed with another key".into(), theirs.access_token));
    corpus.push(("a refresh token of another server".into(), theirs.refresh_token));
    let mut client = app.client().await;
    for (what, token) in corpus {
        let found = client.introspect_token(pb::IntrospectTokenRequest { token }).await.unwrap().into_inner();
        assert_eq!(found, pb::IntrospectTokenResponse::default(), "{what}");
    }
    assert!(app.introspect(&tokens.access_token).await.active, "the honest one still counts");
}

/// Whoever presents one may have stolen it: it must not be stolen again from the log, however much is logged.
#[tokio::test(flavor = "multi_thread")]
async fn no_token_reaches_the_log_whether_it_counts_or_not() {
    let folder = TempDir::new().unwrap();
    let mut node = Node::start(folder.path(), &["--log-level", "trace"]);
    let channel = channel(&node.grpc).await;
    let mut client = AuthClient::new(channel);
    let request = pb::RegisterRequest { username: "ada".into(), password: password("ada"), ..Default::default() };
    client.register(request).await.unwrap();
    let login = pb::LoginRequest { username: "ada".into(), password: password("ada"), ..Default::default() };
    let tokens = client.login(login).await.unwrap().into_inner().tokens.unwrap();
    let mut presented: Vec<_> = hostile(&tokens.access_token).into_iter().map(|(_, token)| token).collect();
    presented.extend([tokens.access_token, tokens.refresh_token]);
    for token in &presented {
        let request = || token.clone();
        drop(client.introspect_token(pb::IntrospectTokenRequest { token: request() }).await);
        drop(client.refresh_token(pb::RefreshTokenRequest { refresh_token: request() }).await);
        if let Ok(value) = MetadataValue::try_from(format!("Bearer {token}")) {
            let mut call = Request::new(pb::GetUserRequest {});
            call.metadata_mut().insert("authorization", value);
            drop(client.get_user(call).await);
        }
        drop(client.revoke_token(pb::RevokeTokenRequest { token: request() }).await);
    }
    // The node waits for whoever is still connected.
    drop(client);
    node.signal("TERM");
    assert!(node.wait_for_line("ended").is_some());
    let (_, log) = node.wait();
    assert!(log.contains("authn_token_refused"), "refusals are logged");
    for token in presented.iter().flat_map(|token| token.split('.')).filter(|part| part.len() >= 16) {
        assert!(!log.contains(&token[..16]), "{token} is in the log");
    }
}
