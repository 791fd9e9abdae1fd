//! The limit on the calls of one session that change something.

use std::time::Duration;

use tonic::Status;
use watchword::api::{pb, rpc};

use super::{refresh, refresh_from};
use crate::support::{App, StoreKind, all_but_this, details, reason, with_bearer};

/// A node that allows three calls of a session in a minute, and the tokens of a login.
async fn limited() -> (App, pb::Tokens) {
    let args = ["--throttle", "on", "--throttle-per-session", "3/1m", "--trusted-proxy", "127.0.0.1"];
    let app = App::with(StoreKind::Memory).args(&args).start().await;
    app.registered("ada").await;
    let tokens = app.authenticate("ada").await;
    (app, tokens)
}

fn assert_limited(refused: &Status) {
    assert_eq!(reason(refused), "RATE_LIMITED", "{refused:?}");
    let infos: Vec<rpc::ErrorInfo> = details(refused, "google.rpc.ErrorInfo");
    assert_eq!(infos[0].metadata["limit"], "session");
    let retry: Vec<rpc::RetryInfo> = details(refused, "google.rpc.RetryInfo");
    assert!((1..=20).contains(&retry[0].retry_delay.unwrap().seconds), "{retry:?}");
}

#[tokio::test]
async fn changes_of_a_session_share_one_limit_with_the_exact_wait_and_refreshes_have_another() {
    let (app, tokens) = limited().await;
    let (mut client, token) = (app.client().await, tokens.access_token.as_str());
    let data = || pb::UpdateUserDataRequest { data: "new".into(), ..Default::default() };
    let unknown = || pb::RevokeSessionRequest { session_id: "01a20bc1-9a26-7fd7-8244-47753f447d05".into() };
    let others = || all_but_this("ada");
    client.update_user_data(with_bearer(token, data())).await.unwrap();
    client.revoke_session(with_bearer(token, unknown())).await.unwrap();
    client.update_user_data(with_bearer(token, data())).await.unwrap();

    assert_limited(&client.update_user_data(with_bearer(token, data())).await.unwrap_err());
    assert_limited(&client.revoke_session(with_bearer(token, unknown())).await.unwrap_err());
    assert_eq!(app.events.count("user changed"), 2, "nothing was executed");
    client.get_user(with_bearer(token, pb::GetUserRequest {})).await.expect("reads are not limited");
    // A thief of the access token stops neither the refreshes of its user nor the end of all sessions.
    refresh(&app, &tokens.refresh_token).await.expect("refreshes have a limit of their own");
    client.revoke_all_sessions(with_bearer(token, others())).await.expect("it costs a hash");
    let other = app.authenticate("ada").await;
    refresh(&app, &other.refresh_token).await.expect("another session has a limit of its own");

    app.clock.advance(Duration::from_secs(20));
    client.update_user_data(with_bearer(token, data())).await.expect("one more call after the wait");
    client.revoke_all_sessions(with_bearer(token, Default::default())).await.expect("it ends itself");
}

#[tokio::test]
async fn refreshes_in_a_row_and_repeats_of_one_are_limited() {
    let (app, mut tokens) = limited().await;
    for _ in 0..3 {
        tokens = refresh(&app, &tokens.refresh_token).await.unwrap();
    }
    assert_eq!(refresh(&app, &tokens.refresh_token).await, Err("RATE_LIMITED".into()));

    let tokens = app.authenticate("ada").await;
    for _ in 0..3 {
        refresh(&app, &tokens.refresh_token).await.unwrap();
    }
    assert_eq!(refresh(&app, &tokens.refresh_token).await, Err("RATE_LIMITED".into()));
    assert_eq!(app.events.count("refreshed again"), 2);
}

/// The thief of an old token must not use up the calls of its user.
#[tokio::test]
async fn flood_with_an_exchanged_token_leaves_the_limit_of_the_session() {
    let (app, first) = limited().await;
    let second = refresh_from(&app, "192.0.2.1", &first.refresh_token, "").await.unwrap();
    let mut refused = 0;
    for _ in 0..10 {
        let repeated = refresh_from(&app, "192.0.2.1", &first.refresh_token, "").await;
        refused += usize::from(repeated == Err("RATE_LIMITED".into()));
    }
    assert_eq!((refused, app.events.count("refreshed again")), (8, 2));
    refresh_from(&app, "192.0.2.1", &second.refresh_token, "").await.expect("the user refreshes");
}
