//! `TokenSource`: concurrent callers share one refresh, and failures do not end the session.

use std::{sync::Arc, time::Duration};

use futures_util::FutureExt;
use tokio::task::JoinSet;
use watchword::client::{Client, StatusExt, TokenError, TokenSource, pb};

use super::{ManualMonotonicClock, connected, wait_until};
use crate::support::{
    App, ManualClock, StoreKind, WAIT_MAX, app,
    fault::{Fault, Faulty},
    password,
    proxy::{NetworkCondition, Proxy},
};

const REVOKED: Option<pb::ErrorReason> = Some(pb::ErrorReason::TokenRevoked);
const STORE_UNAVAILABLE: Option<pb::ErrorReason> = Some(pb::ErrorReason::StoreUnavailable);

/// Registers ada and logs in with the client.
async fn authenticate(app: &App, client: &Client) -> TokenSource {
    app.registered("ada").await;
    TokenSource::new(client, client.login("ada", password("ada")).await.unwrap().tokens)
}

async fn source(app: &App) -> TokenSource {
    authenticate(app, &connected(app).await).await
}

/// A server with a store that fails as the test requests.
async fn on_faulty() -> (App, Arc<Faulty>) {
    let store = Faulty::with(Fault::None);
    (App::on(store.clone()).start().await, store)
}

/// The results of this many concurrent callers.
async fn tokens_of_callers(callers: usize, source: &TokenSource) -> Vec<Result<String, TokenError>> {
    let mut calls = JoinSet::new();
    for _ in 0..callers {
        let source = source.clone();
        calls.spawn(async move { source.access_token().await });
    }
    calls.join_all().await
}

#[tokio::test(flavor = "multi_thread")]
async fn callers_with_an_expired_token_all_wait_for_one_refresh() {
    let app = app().await;
    let source = source(&app).await;
    for round in 1..=20 {
        let old = source.access_token().await.unwrap();
        app.clock.advance(Duration::from_secs(300));
        let tokens: Vec<_> = tokens_of_callers(64, &source).await.into_iter().map(Result::unwrap).collect();
        assert!(tokens.iter().all(|token| *token == tokens[0] && *token != old), "round {round}");
        assert_eq!(app.events.count("refreshed") + app.events.count("refreshed again"), round, "one refresh a round");
    }
    assert_eq!(app.events.count("reused"), 0);
}

/// More calls than the connection has streams: the calls must not block the refresh.
#[tokio::test]
async fn refresh_completes_while_more_calls_wait_than_the_connection_has_streams() {
    let app = app().await;
    let client = connected(&app).await;
    let source = TokenSource::resume(&client, source(&app).await.tokens());
    let mut calls = JoinSet::new();
    let auth = client.auth_as(&source);
    for _ in 0..1_500 {
        let mut auth = auth.clone();
        calls.spawn(async move { auth.get_user(pb::GetUserRequest {}).await });
    }
    let answers = tokio::time::timeout(WAIT_MAX, calls.join_all()).await.expect("all calls complete");
    assert!(answers.iter().all(Result::is_ok));
    assert_eq!(app.events.count("refreshed"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn token_near_its_expiry_is_refreshed_once_in_the_background() {
    let app = app().await;
    let source = source(&app).await;
    let old = source.access_token().await.unwrap();
    app.clock.advance(Duration::from_secs(239));
    // These calls give a wrong refresh time to run.
    for _ in 0..5 {
        assert_eq!(source.access_token().await.unwrap(), old);
        assert!(app.introspect(&old).await.active);
    }
    assert_eq!(app.events.count("refreshed"), 0, "no refresh before four fifths of the lifetime");
    app.clock.advance(Duration::from_secs(2));
    let tokens = tokens_of_callers(64, &source).await;
    assert!(tokens.iter().all(Result::is_ok));
    wait_until(|| source.tokens().access_token != old).await;
    assert_eq!(app.events.count("refreshed"), 1);
    let new = source.access_token().await.unwrap();
    assert!(app.introspect(&new).await.active);
    assert_eq!(app.events.count("refreshed"), 1, "the new token is not refreshed yet");
}

#[tokio::test]
async fn token_near_its_expiry_is_returned_at_once_when_the_server_is_silent() {
    let app = app().await;
    let proxy = Proxy::before(app.grpc_socket().port()).await;
    let client = Client::builder(format!("http://{}", proxy.address)).clock(app.clock.clone()).connect().await.unwrap();
    let source = authenticate(&app, &client).await;
    let old = source.access_token().await.unwrap();
    proxy.set(NetworkCondition::BlackHole);
    app.clock.advance(Duration::from_secs(241));
    // The first poll returns the token.
    assert_eq!(source.access_token().now_or_never().expect("at once").unwrap(), old);
}

#[tokio::test]
async fn refresh_completes_when_its_caller_is_cancelled() {
    let app = app().await;
    let source = source(&app).await;
    let old = source.tokens();
    app.clock.advance(Duration::from_secs(300));
    // Polled once, so that the refresh starts, and then dropped.
    assert!(source.access_token().now_or_never().is_none());
    wait_until(|| source.tokens().refresh_token != old.refresh_token).await;
    assert_eq!(app.events.count("refreshed"), 1);
    app.clock.advance(Duration::from_secs(300));
    source.access_token().await.expect("the new refresh token is stored");
    assert_eq!(app.events.count("reused"), 0);
}

#[tokio::test]
async fn lost_store_reply_during_a_refresh_does_not_end_the_session() {
    let (app, store) = on_faulty().await;
    let source = source(&app).await;
    let old = source.access_token().await.unwrap();
    app.clock.advance(Duration::from_secs(300));
    store.set(Fault::ReplyLost);
    let new = source.access_token().await.expect("the refresh is repeated with the same refresh token");
    assert_ne!(new, old);
    assert_eq!(app.events.count("refreshed again"), 1, "the control: the first reply was lost");
    store.set(Fault::None);
    app.clock.advance(Duration::from_secs(300));
    source.access_token().await.expect("the session continues");
    assert_eq!(app.events.count("reused"), 0);
}

#[tokio::test]
async fn refresh_response_lost_in_the_network_does_not_end_the_session() {
    let app = app().await;
    let proxy = Proxy::before(app.grpc_socket().port()).await;
    let client = Client::builder(format!("http://{}", proxy.address)).clock(app.clock.clone()).connect().await.unwrap();
    let source = authenticate(&app, &client).await;
    for _ in 0..3 {
        app.clock.advance(Duration::from_secs(300));
        // The request passes; the connection is reset before the first byte of the response.
        proxy.cut_after(0);
        source.access_token().await.expect("the refresh is repeated on a new connection");
    }
    assert_eq!(app.events.count("refreshed again"), 3, "the control: the first replies were lost");
    assert_eq!(app.events.count("reused"), 0);
}

/// Longer than calls without a request id are repeated.
#[tokio::test]
async fn refresh_lost_in_an_outage_of_five_minutes_does_not_end_the_session() {
    let clock = Arc::new(ManualClock::stopped());
    let store = Faulty::with_clock(Fault::None, clock.clone());
    let app = App::on(store.clone()).clock(clock).start().await;
    let source = source(&app).await;
    let old = source.access_token().await.unwrap();
    app.clock.advance(Duration::from_secs(300));
    store.set(Fault::ReplyLostThenDown);
    source.access_token().await.unwrap_err();
    app.clock.advance(Duration::from_secs(300));
    store.set(Fault::None);
    let new = source.access_token().await.expect("the refresh is repeated with the same request id");
    assert_ne!(new, old);
    assert_eq!(app.events.count("refreshed again"), 1, "the control: the first reply was lost");
    app.clock.advance(Duration::from_secs(300));
    source.access_token().await.expect("the session continues");
    assert_eq!(app.events.count("reused"), 0);
}

#[tokio::test]
async fn outage_returns_the_old_token_and_retries_after_the_server_delay() {
    let (app, store) = on_faulty().await;
    let clock = Arc::new(ManualMonotonicClock::default());
    let client = Client::builder(format!("http://{}", app.grpc_addr())).clock(clock.clone()).connect().await.unwrap();
    let source = authenticate(&app, &client).await;
    let old = source.access_token().await.unwrap();
    store.set(Fault::Down);
    clock.advance(Duration::from_secs(241));
    assert_eq!(source.access_token().await.unwrap(), old);
    wait_until(|| app.events.count("store failed") == 1).await;
    for _ in 0..10 {
        assert_eq!(source.access_token().await.unwrap(), old);
        tokio::task::yield_now().await;
    }
    assert_eq!(app.events.count("store failed"), 1, "no retry before the delay of one second that the server set");
    clock.advance(Duration::from_secs(60));
    let refused = source.access_token().await.unwrap_err();
    assert!(
        matches!(&refused, TokenError::Unavailable(cause) if cause.auth_reason() == STORE_UNAVAILABLE),
        "{refused}"
    );
    assert_eq!(app.events.count("store failed"), 2);
    let refused = source.access_token().await.unwrap_err();
    assert!(matches!(&refused, TokenError::Unavailable(_)), "{refused}");
    assert_eq!(app.events.count("store failed"), 2, "refused without a call");

    store.set(Fault::None);
    clock.advance(Duration::from_secs(1));
    assert_ne!(source.access_token().await.unwrap(), old);
}

/// An access token expires with its session at the latest, so the last tokens of a session have short lifetimes.
#[tokio::test]
async fn session_in_its_last_second_is_refreshed_a_limited_number_of_times() {
    let app = App::with(StoreKind::Memory).args(&["--session-lifetime", "1m"]).start().await;
    let source = source(&app).await;
    app.clock.advance(Duration::from_millis(59_100));
    for _ in 0..3 {
        source.access_token().await.expect("the session is active");
    }
    assert!(app.events.count("refreshed") <= 3);
    app.clock.advance(Duration::from_secs(2));
    let refused = source.access_token().await.unwrap_err();
    assert!(matches!(&refused, TokenError::LoginNeeded(_)), "{refused}");
}

#[tokio::test]
async fn stored_tokens_of_any_age_are_resumed() {
    let app = app().await;
    let client = connected(&app).await;
    let stored = authenticate(&app, &client).await.tokens();
    app.clock.advance(Duration::from_secs(86_400));
    let source = TokenSource::resume(&client, stored);
    assert!(app.introspect(&source.access_token().await.unwrap()).await.active);
}

#[tokio::test]
async fn ended_session_needs_a_new_login() {
    let app = app().await;
    let source = source(&app).await;
    source.sign_out().await.unwrap();
    app.clock.advance(Duration::from_secs(300));
    for _ in 0..2 {
        let refused = source.access_token().await.unwrap_err();
        assert!(matches!(&refused, TokenError::LoginNeeded(cause) if cause.auth_reason() == REVOKED), "{refused}");
    }
    assert_eq!(app.events.count("token refused"), 1, "the second call sends no request");
}

#[tokio::test]
async fn authenticated_client_sends_the_token_or_returns_the_refresh_error() {
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
async fn call_is_repeated_once_and_only_when_its_token_has_expired() {
    let app = app().await;
    let client_clock = Arc::new(ManualClock::default());
    let client = Client::builder(format!("http://{}", app.grpc_addr())).clock(client_clock).connect().await.unwrap();
    let source = authenticate(&app, &client).await;
    app.clock.advance(Duration::from_secs(300));
    let refused = client.auth_as(&source).get_user(pb::GetUserRequest {}).await.unwrap_err();
    assert_eq!(
        refused.auth_reason(),
        Some(pb::ErrorReason::TokenExpired),
        "the control: the layer does not repeat the call"
    );

    // In a spawned task, as programs use it.
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
    let wrong = pb::DeleteUserRequest { current_password: "a wrong password".into(), ..Default::default() };
    let refused = source.call(wrong, |request| {
        sent.set(sent.get() + 1);
        let mut auth = client.auth();
        async move { auth.delete_user(request).await }
    });
    assert_eq!(refused.await.unwrap_err().auth_reason(), Some(pb::ErrorReason::InvalidCredentials));
    assert_eq!((sent.get(), app.events.count("refreshed")), (1, 1), "no other refusal is repeated");
}

/// A token that is refused right after its refresh is not refreshed again.
#[tokio::test]
async fn call_is_sent_at_most_twice() {
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
