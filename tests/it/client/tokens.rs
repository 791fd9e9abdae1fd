//! `TokenSource`: many callers, one refresh; and what becomes of it when something fails.

use std::{sync::Arc, time::Duration};

use futures_util::FutureExt;
use tokio::task::JoinSet;
use watchword::client::{Client, StatusExt, TokenError, TokenSource, pb};

use super::{StillClock, connected, until};
use crate::support::{
    App, ManualClock, StoreKind, WAIT_MAX, app,
    fault::{Fault, Faulty},
    password,
    proxy::{NetworkCondition, Proxy},
};

const REVOKED: Option<pb::ErrorReason> = Some(pb::ErrorReason::TokenRevoked);
const STORE_UNAVAILABLE: Option<pb::ErrorReason> = Some(pb::ErrorReason::StoreUnavailable);

/// Ada, signed in by the client.
async fn authenticate(app: &App, client: &Client) -> TokenSource {
    app.registered("ada").await;
    TokenSource::new(client, client.login("ada", password("ada")).await.unwrap().tokens)
}

async fn source(app: &App) -> TokenSource {
    authenticate(app, &connected(app).await).await
}

/// A server whose store fails as the test wants.
async fn on_faulty() -> (App, Arc<Faulty>) {
    let store = Faulty::with(Fault::None);
    (App::on(store.clone()).start().await, store)
}

/// What `callers` at once get.
async fn asked_by(callers: usize, source: &TokenSource) -> Vec<Result<String, TokenError>> {
    let mut asking = JoinSet::new();
    for _ in 0..callers {
        let source = source.clone();
        asking.spawn(async move { source.access_token().await });
    }
    asking.join_all().await
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_callers_behind_the_end_all_wait_for_one_refresh() {
    let app = app().await;
    let source = source(&app).await;
    for round in 1..=20 {
        let old = source.access_token().await.unwrap();
        app.clock.advance(Duration::from_secs(300));
        let tokens: Vec<_> = asked_by(64, &source).await.into_iter().map(Result::unwrap).collect();
        assert!(tokens.iter().all(|token| *token == tokens[0] && *token != old), "round {round}");
        assert_eq!(app.events.count("refreshed") + app.events.count("refreshed again"), round, "one refresh a round");
    }
    assert_eq!(app.events.count("reused"), 0);
}

/// More than the connection has places for calls: they must not keep the refresh from its own.
#[tokio::test]
async fn however_many_calls_wait_for_a_token_the_refresh_comes_through() {
    let app = app().await;
    let client = connected(&app).await;
    let source = TokenSource::resume(&client, source(&app).await.tokens());
    let mut calls = JoinSet::new();
    let auth = client.auth_as(&source);
    for _ in 0..1_500 {
        let mut auth = auth.clone();
        calls.spawn(async move { auth.get_user(pb::GetUserRequest {}).await });
    }
    let answers = tokio::time::timeout(WAIT_MAX, calls.join_all()).await.expect("all are answered");
    assert!(answers.iter().all(Result::is_ok));
    assert_eq!(app.events.count("refreshed"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn near_the_end_one_refresh_runs_and_nobody_waits_for_it() {
    let app = app().await;
    let source = source(&app).await;
    let old = source.access_token().await.unwrap();
    app.clock.advance(Duration::from_secs(239));
    // Time enough for a refresh, were there one.
    for _ in 0..5 {
        assert_eq!(source.access_token().await.unwrap(), old);
        assert!(app.introspect(&old).await.active);
    }
    assert_eq!(app.events.count("refreshed"), 0, "not before four fifths of its life");
    app.clock.advance(Duration::from_secs(2));
    let tokens = asked_by(64, &source).await;
    assert!(tokens.iter().all(Result::is_ok));
    until(|| source.tokens().access_token != old).await;
    assert_eq!(app.events.count("refreshed"), 1);
    let new = source.access_token().await.unwrap();
    assert!(app.introspect(&new).await.active);
    assert_eq!(app.events.count("refreshed"), 1, "the new one has its own time");
}

#[tokio::test]
async fn near_the_end_the_old_token_is_given_even_when_the_server_is_silent() {
    let app = app().await;
    let proxy = Proxy::before(app.grpc_socket().port()).await;
    let client = Client::builder(format!("http://{}", proxy.address)).clock(app.clock.clone()).connect().await.unwrap();
    let source = authenticate(&app, &client).await;
    let old = source.access_token().await.unwrap();
    proxy.set(NetworkCondition::BlackHole);
    app.clock.advance(Duration::from_secs(241));
    // Without a wait: the first poll is the last.
    assert_eq!(source.access_token().now_or_never().expect("at once").unwrap(), old);
}

#[tokio::test]
async fn a_caller_who_goes_away_takes_neither_the_refresh_nor_its_token_with_him() {
    let app = app().await;
    let source = source(&app).await;
    let old = source.tokens();
    app.clock.advance(Duration::from_secs(300));
    // Polled once, so that the refresh has begun, and dropped.
    assert!(source.access_token().now_or_never().is_none());
    until(|| source.tokens().refresh_token != old.refresh_token).await;
    assert_eq!(app.events.count("refreshed"), 1);
    app.clock.advance(Duration::from_secs(300));
    source.access_token().await.expect("the rotated token was kept");
    assert_eq!(app.events.count("reused"), 0);
}

#[tokio::test]
async fn a_lost_reply_ends_no_session() {
    let (app, store) = on_faulty().await;
    let source = source(&app).await;
    let old = source.access_token().await.unwrap();
    app.clock.advance(Duration::from_secs(300));
    store.set(Fault::ReplyLost);
    let new = source.access_token().await.expect("asked again by itself, with the same refresh token");
    assert_ne!(new, old);
    assert_eq!(app.events.count("refreshed again"), 1, "the control: the first reply was lost");
    store.set(Fault::None);
    app.clock.advance(Duration::from_secs(300));
    source.access_token().await.expect("the session goes on");
    assert_eq!(app.events.count("reused"), 0);
}

#[tokio::test]
async fn a_reply_that_is_lost_on_the_way_ends_no_session() {
    let app = app().await;
    let proxy = Proxy::before(app.grpc_socket().port()).await;
    let client = Client::builder(format!("http://{}", proxy.address)).clock(app.clock.clone()).connect().await.unwrap();
    let source = authenticate(&app, &client).await;
    for _ in 0..3 {
        app.clock.advance(Duration::from_secs(300));
        // The request passes; the connection breaks with the first bytes of the answer.
        proxy.cut_after(0);
        source.access_token().await.expect("asked again on a new connection");
    }
    assert_eq!(app.events.count("refreshed again"), 3, "the control: the first replies were lost");
    assert_eq!(app.events.count("reused"), 0);
}

#[tokio::test]
async fn in_an_outage_the_old_token_goes_on_and_the_server_is_asked_when_it_said() {
    let (app, store) = on_faulty().await;
    let clock = Arc::new(StillClock::default());
    let client = Client::builder(format!("http://{}", app.grpc_addr())).clock(clock.clone()).connect().await.unwrap();
    let source = authenticate(&app, &client).await;
    let old = source.access_token().await.unwrap();
    store.set(Fault::Down);
    clock.advance(Duration::from_secs(241));
    assert_eq!(source.access_token().await.unwrap(), old);
    until(|| app.events.count("store failed") == 1).await;
    for _ in 0..10 {
        assert_eq!(source.access_token().await.unwrap(), old);
        tokio::task::yield_now().await;
    }
    assert_eq!(app.events.count("store failed"), 1, "not before the second is over that the server asked for");
    clock.advance(Duration::from_secs(60));
    let refused = source.access_token().await.unwrap_err();
    assert!(
        matches!(&refused, TokenError::Unavailable(cause) if cause.auth_reason() == STORE_UNAVAILABLE),
        "{refused}"
    );
    assert_eq!(app.events.count("store failed"), 2);
    let refused = source.access_token().await.unwrap_err();
    assert!(matches!(&refused, TokenError::Unavailable(_)), "{refused}");
    assert_eq!(app.events.count("store failed"), 2, "at once, without a call");

    store.set(Fault::None);
    clock.advance(Duration::from_secs(1));
    assert_ne!(source.access_token().await.unwrap(), old);
}

/// An access token does not outlive its session, so the last ones live for a moment.
#[tokio::test]
async fn a_session_in_its_last_second_is_not_refreshed_for_ever() {
    let app = App::with(StoreKind::Memory).args(&["--session-lifetime", "1m"]).start().await;
    let source = source(&app).await;
    app.clock.advance(Duration::from_millis(59_100));
    for _ in 0..3 {
        source.access_token().await.expect("the session lives");
    }
    assert!(app.events.count("refreshed") <= 3);
    app.clock.advance(Duration::from_secs(2));
    let refused = source.access_token().await.unwrap_err();
    assert!(matches!(&refused, TokenError::LoginNeeded(_)), "{refused}");
}

#[tokio::test]
async fn tokens_that_a_program_kept_go_on_whatever_their_age() {
    let app = app().await;
    let client = connected(&app).await;
    let kept = authenticate(&app, &client).await.tokens();
    app.clock.advance(Duration::from_secs(86_400));
    let source = TokenSource::resume(&client, kept);
    assert!(app.introspect(&source.access_token().await.unwrap()).await.active);
}

#[tokio::test]
async fn when_the_session_was_ended_a_new_login_is_needed() {
    let app = app().await;
    let source = source(&app).await;
    source.sign_out().await.unwrap();
    app.clock.advance(Duration::from_secs(300));
    for _ in 0..2 {
        let refused = source.access_token().await.unwrap_err();
        assert!(matches!(&refused, TokenError::LoginNeeded(cause) if cause.auth_reason() == REVOKED), "{refused}");
    }
    assert_eq!(app.events.count("token refused"), 1, "nobody asks again");
}

#[tokio::test]
async fn calls_carry_the_token_and_say_why_they_cannot() {
    let app = app().await;
    let client = connected(&app).await;
    let source = authenticate(&app, &client).await;
    let mut ada = client.auth_as(&source);
    assert_eq!(ada.get_user(pb::GetUserRequest {}).await.unwrap().into_inner().user.unwrap().username, "ada");
    source.sign_out().await.unwrap();
    app.clock.advance(Duration::from_secs(300));
    assert_eq!(ada.get_user(pb::GetUserRequest {}).await.unwrap_err().auth_reason(), REVOKED);
}

/// The server's clock is five minutes ahead of the client's.
#[tokio::test]
async fn a_call_is_sent_again_once_and_only_when_its_token_has_expired() {
    let app = app().await;
    let slow = Arc::new(ManualClock::default());
    let client = Client::builder(format!("http://{}", app.grpc_addr())).clock(slow).connect().await.unwrap();
    let source = authenticate(&app, &client).await;
    app.clock.advance(Duration::from_secs(300));
    let refused = client.auth_as(&source).get_user(pb::GetUserRequest {}).await.unwrap_err();
    assert_eq!(refused.auth_reason(), Some(pb::ErrorReason::TokenExpired), "the control: the layer sends it once");

    // In a task, as programs do it.
    let task = tokio::spawn({
        let (client, source) = (client.clone(), source.clone());
        async move {
            source
                .call(pb::GetUserRequest {}, |request| {
                    let mut auth = client.auth();
                    async move { auth.get_user(request).await }
                })
                .await
        }
    });
    assert_eq!(task.await.unwrap().unwrap().into_inner().user.unwrap().username, "ada");
    assert_eq!(app.events.count("refreshed"), 1);

    let sent = std::cell::Cell::new(0);
    let wrong = pb::DeleteUserRequest { current_password: "not hers at all".into() };
    let refused = source.call(wrong, |request| {
        sent.set(sent.get() + 1);
        let mut auth = client.auth();
        async move { auth.delete_user(request).await }
    });
    assert_eq!(refused.await.unwrap_err().auth_reason(), Some(pb::ErrorReason::InvalidCredentials));
    assert_eq!((sent.get(), app.events.count("refreshed")), (1, 1), "no other refusal is tried again");
}

/// A token that was just refreshed and is still refused is not refreshed for ever.
#[tokio::test]
async fn a_call_is_sent_twice_at_most() {
    let app = app().await;
    let client = connected(&app).await;
    let source = authenticate(&app, &client).await;
    let sent = std::cell::Cell::new(0);
    let refused = source.call(pb::GetUserRequest {}, |request| {
        sent.set(sent.get() + 1);
        let (app, mut auth) = (&app, client.auth());
        async move {
            app.clock.advance(Duration::from_secs(300));
            auth.get_user(request).await
        }
    });
    assert_eq!(refused.await.unwrap_err().auth_reason(), Some(pb::ErrorReason::TokenExpired));
    assert_eq!(sent.get(), 2);
}
