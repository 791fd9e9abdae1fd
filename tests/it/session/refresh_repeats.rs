//! Repeats of a refresh: which get the same successor, which are refused, and which end the session as reuse.

use std::{sync::Arc, time::Duration};

use tempfile::TempDir;
use tonic::transport::Endpoint;
use watchword::{
    api::pb::{self, auth_client::AuthClient},
    store::Kind,
};

use super::{refresh, refresh_again, refresh_from, refreshed, user_of, with_ada};
use crate::support::{
    App, ManualClock, StoreKind, TestStore,
    fault::{Fault, Faulty},
    run,
};

const REQUEST: &str = "7d2f8f6e-9d1b-4f6e-8c3a-0b1d2e3f4a5b";
const OTHER_REQUEST: &str = "0e1f2a3b-4c5d-4e6f-8a9b-1c2d3e4f5a6b";

/// Generations that a thief would have to follow.
const GENERATIONS: usize = 12;

/// A node behind a proxy, and the tokens of a login.
async fn behind_a_proxy(kind: StoreKind) -> (App, pb::Tokens) {
    let app = App::with(kind).args(&["--trusted-proxy", "127.0.0.1"]).start().await;
    app.registered("ada").await;
    let tokens = app.authenticate("ada").await;
    (app, tokens)
}

/// A thief with a copy of one token follows its user: asks introspection until the token was exchanged, and sends it again
/// some seconds later. Answers in how many generations the thief got the tokens of the user.
async fn follow(app: &App, first: &pb::Tokens) -> usize {
    let (mut users, mut copy) = (first.clone(), first.refresh_token.clone());
    for generation in 0..GENERATIONS {
        assert!(app.introspect_refresh(&copy).await.active, "not exchanged yet");
        app.clock.advance(Duration::from_secs(240));
        let Ok(next) = refresh_again(app, &users.refresh_token, &request_id(generation)).await else {
            return generation;
        };
        users = next;
        assert!(!app.introspect_refresh(&copy).await.active, "the thief sees that it was exchanged");
        app.clock.advance(Duration::from_secs(5));
        match refresh(app, &copy).await {
            Ok(followed) if followed.refresh_token == users.refresh_token => copy = followed.refresh_token,
            _ => return generation,
        }
    }
    GENERATIONS
}

fn request_id(generation: usize) -> String {
    format!("7d2f8f6e-9d1b-4f6e-8c3a-{generation:012x}")
}

#[tokio::test]
async fn thief_who_follows_every_refresh_ends_the_session_by_the_fourth() {
    for kind in StoreKind::ALL {
        let folder = TempDir::new().unwrap();
        let file = folder.path().join("audit.jsonl");
        let app = App::with(kind).args(&["--audit-log", file.to_str().unwrap()]).clock(ManualClock::stopped());
        let app = app.start().await;
        app.registered("ada").await;
        let first = app.authenticate("ada").await;
        assert_eq!(follow(&app, &first).await, 3, "{kind:?}");
        assert_eq!(app.events.count("reused"), 1, "{kind:?}");
        let token = app.authenticate("ada").await.access_token;
        let list = app.client().await.list_sessions(crate::support::with_bearer(&token, Default::default())).await;
        let ids: Vec<_> =
            list.unwrap().into_inner().sessions.into_iter().map(|session: pb::Session| session.session_id).collect();
        assert!(!ids.contains(&first.session_id), "{kind:?}: the session has ended");
        app.stopped().await;
        let audit = std::fs::read_to_string(&file).unwrap();
        let reuse = audit.lines().find(|line| line.contains("authn_token_reuse")).expect("an audit line");
        assert!(reuse.contains("repeated_in_four_generations") && reuse.contains(&first.session_id), "{reuse}");
    }
}

/// The control: a store that forgets the repeats lets the thief follow.
#[tokio::test]
async fn thief_follows_for_ever_on_a_store_that_forgets_repeats() {
    let clock = Arc::new(ManualClock::stopped());
    let faulty = Faulty::with_clock(Fault::ForgetsRepeats, clock.clone());
    let app = App::on(faulty).clock(clock).start().await;
    app.registered("ada").await;
    let first = app.authenticate("ada").await;
    assert_eq!(follow(&app, &first).await, GENERATIONS, "the control finds no fault");
    assert_eq!(app.events.count("reused"), 0);
}

#[tokio::test]
async fn thief_elsewhere_is_refused_and_ends_the_session_once_the_successor_was_used() {
    for kind in StoreKind::ALL {
        let (app, first) = behind_a_proxy(kind).await;
        let second = refresh_from(&app, "192.0.2.1", &first.refresh_token, REQUEST).await.unwrap();
        let no_id = refresh_from(&app, "203.0.113.9", &first.refresh_token, "").await;
        assert_eq!(no_id, Err("TOKEN_INVALID".into()), "{kind:?}");
        let other_id = refresh_from(&app, "203.0.113.9", &first.refresh_token, OTHER_REQUEST).await;
        assert_eq!(other_id, Err("TOKEN_INVALID".into()), "{kind:?}");
        assert_eq!((app.events.count("repeated elsewhere"), app.events.count("reused")), (2, 0), "{kind:?}");
        assert_eq!(user_of(&app, &second.access_token).await, Ok("ada".into()), "{kind:?}");

        let used = refresh_from(&app, "192.0.2.1", &second.refresh_token, OTHER_REQUEST).await;
        assert_eq!(used, Err("TOKEN_REVOKED".into()), "{kind:?}: the successor was used");
        assert_eq!(user_of(&app, &second.access_token).await, Err("TOKEN_REVOKED".into()), "{kind:?}");
        assert_eq!(app.events.count("reused"), 1, "{kind:?}");
    }
}

/// The thief exchanges the token before its user does. The refusal of the user must not leave the session to the thief.
#[tokio::test]
async fn thief_who_was_first_loses_the_session_at_the_next_refresh() {
    for kind in StoreKind::ALL {
        let (app, first) = behind_a_proxy(kind).await;
        let stolen = refresh_from(&app, "203.0.113.9", &first.refresh_token, OTHER_REQUEST).await.unwrap();
        let user = refresh_from(&app, "192.0.2.1", &first.refresh_token, REQUEST).await;
        assert_eq!(user, Err("TOKEN_INVALID".into()), "{kind:?}");
        let next = refresh_from(&app, "203.0.113.9", &stolen.refresh_token, "").await;
        assert_eq!(next, Err("TOKEN_REVOKED".into()), "{kind:?}");
        assert_eq!(user_of(&app, &stolen.access_token).await, Err("TOKEN_REVOKED".into()), "{kind:?}");
        assert_eq!((app.events.count("repeated elsewhere"), app.events.count("reused")), (1, 1), "{kind:?}");
    }
}

#[tokio::test]
async fn phone_returns_after_five_minutes_from_another_network_and_keeps_its_session() {
    for kind in StoreKind::ALL {
        let (app, first) = behind_a_proxy(kind).await;
        // The answer is lost.
        let second = refresh_from(&app, "192.0.2.1", &first.refresh_token, REQUEST).await.unwrap();
        app.clock.advance(Duration::from_secs(300));
        let again = refresh_from(&app, "2001:db8::1", &first.refresh_token, REQUEST).await.unwrap();
        assert_eq!(again.refresh_token, second.refresh_token, "{kind:?}: the same successor");
        let third = refresh_from(&app, "2001:db8::1", &again.refresh_token, OTHER_REQUEST).await.unwrap();
        assert_eq!(user_of(&app, &third.access_token).await, Ok("ada".into()), "{kind:?}");
        let used = refresh_from(&app, "2001:db8::1", &first.refresh_token, REQUEST).await;
        assert_eq!(used, Err("TOKEN_REVOKED".into()), "{kind:?}: the successor was used");
    }
}

#[tokio::test]
async fn request_id_repeats_a_refresh_until_the_set_time_and_no_longer() {
    for (flag, seconds) in [("10m", 600), ("30s", 30), ("1h", 3_600)] {
        let app = App::with(StoreKind::Memory).args(&["--refresh-repeat", flag]).start().await;
        app.registered("ada").await;
        let first = app.authenticate("ada").await;
        let second = refresh_again(&app, &first.refresh_token, REQUEST).await.unwrap();
        app.clock.advance(Duration::from_secs(seconds - 2));
        let again = refresh_again(&app, &first.refresh_token, REQUEST).await.unwrap();
        assert_eq!(again.refresh_token, second.refresh_token, "{flag}");
        app.clock.advance(Duration::from_secs(2));
        assert_eq!(refresh_again(&app, &first.refresh_token, REQUEST).await, Err("TOKEN_REVOKED".into()), "{flag}");
    }
    for outside in ["9s", "61m"] {
        let (code, _, error) = run(&["--store", "memory:", "--refresh-repeat", outside]);
        assert!(code == 2 && error.contains("--refresh-repeat") && error.contains("expected 10s to 1h"), "{error}");
    }
}

#[tokio::test]
async fn repeat_without_a_request_id_needs_the_same_address_prefix_and_user_agent() {
    for (address, expected) in [
        ("2001:db8:1:2::9", Ok(())),
        ("2001:db8:1:3::1", Err("TOKEN_INVALID".to_owned())),
        ("192.0.2.1", Err("TOKEN_INVALID".to_owned())),
    ] {
        let (app, first) = behind_a_proxy(StoreKind::Memory).await;
        refresh_from(&app, "2001:db8:1:2::1", &first.refresh_token, REQUEST).await.unwrap();
        app.clock.advance(Duration::from_secs(9));
        let again = refresh_from(&app, address, &first.refresh_token, "").await;
        assert_eq!(again.map(drop), expected, "{address}");
    }
    let (app, first) = with_ada(StoreKind::Memory).await;
    refresh(&app, &first.refresh_token).await.unwrap();
    let other = Endpoint::from_shared(format!("http://{}", app.grpc_addr())).unwrap().user_agent("another").unwrap();
    let mut other = AuthClient::new(other.connect().await.unwrap());
    let request = pb::RefreshTokenRequest { refresh_token: first.refresh_token, ..Default::default() };
    assert_eq!(refreshed(other.refresh_token(request).await), Err("TOKEN_INVALID".into()));
}

/// Two tabs, each with a request id of its own, race at every refresh.
#[tokio::test]
async fn two_tabs_that_race_at_every_refresh_keep_their_session() {
    for kind in StoreKind::ALL {
        let (app, mut tokens) = with_ada(kind).await;
        for generation in 0..2 * GENERATIONS {
            app.clock.advance(Duration::from_secs(240));
            let one = refresh_again(&app, &tokens.refresh_token, &request_id(generation)).await.unwrap();
            app.clock.advance(Duration::from_millis(1_500));
            let other = refresh_again(&app, &tokens.refresh_token, OTHER_REQUEST).await.unwrap();
            assert_eq!(one.refresh_token, other.refresh_token, "{kind:?}");
            tokens = one;
        }
        assert_eq!(app.events.count("reused"), 0, "{kind:?}");
    }
}

#[tokio::test]
async fn three_lost_answers_in_a_row_and_one_that_arrives_keep_the_session() {
    let (app, mut tokens) = with_ada(StoreKind::Memory).await;
    for generation in 0..2 * GENERATIONS {
        let next = refresh_again(&app, &tokens.refresh_token, &request_id(generation)).await.unwrap();
        if generation % 4 != 3 {
            app.clock.advance(Duration::from_secs(60));
            refresh_again(&app, &tokens.refresh_token, &request_id(generation)).await.unwrap();
        }
        tokens = next;
    }
    assert_eq!(app.events.count("reused"), 0);
}

/// A repeat late in one generation, and in time in three others: whichever of the four it is.
#[tokio::test]
async fn four_repeated_generations_with_one_late_repeat_are_reuse() {
    for late in 0..4 {
        let (app, mut tokens) = with_ada(StoreKind::Memory).await;
        for generation in 0..4 {
            let next = refresh_again(&app, &tokens.refresh_token, REQUEST).await.unwrap();
            app.clock.advance(Duration::from_secs(if generation == late { 3 } else { 1 }));
            let again = refresh_again(&app, &tokens.refresh_token, REQUEST).await;
            assert_eq!(again.is_ok(), generation < 3, "late in {late}, generation {generation}");
            tokens = next;
        }
        assert_eq!(app.events.count("reused"), 1, "late in {late}");
    }
}

#[tokio::test]
async fn store_has_neither_the_request_id_nor_the_user_agent_of_a_refresh() {
    for kind in StoreKind::ALL {
        let place = TestStore::new(kind);
        let documents = place.open_documents().await;
        let app = App::on(documents.clone()).start().await;
        app.registered("ada").await;
        let first = app.authenticate("ada").await;
        refresh_again(&app, &first.refresh_token, REQUEST).await.unwrap();
        let sessions = documents.scan(Some(Kind::Session), None).await.unwrap().documents;
        let text = String::from_utf8(sessions[0].bytes.clone()).unwrap();
        assert!(text.contains("refresh_request") && text.contains("refresh_caller"), "{kind:?}: {text}");
        assert!(!text.contains(REQUEST) && !text.contains(&REQUEST.replace('-', "")), "{kind:?}: {text}");
        app.stopped().await;
    }
}

#[tokio::test]
async fn request_id_that_is_no_uuid_is_an_invalid_field() {
    let (app, first) = with_ada(StoreKind::Memory).await;
    for wrong in ["x", "00000000-0000-0000-0000-000000000000", &format!("{REQUEST}0")] {
        assert_eq!(refresh_again(&app, &first.refresh_token, wrong).await, Err("INVALID_FIELD".into()), "{wrong}");
    }
    refresh_again(&app, &first.refresh_token, REQUEST).await.expect("nothing was exchanged");
}
