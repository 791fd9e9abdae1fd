//! The clock was a year ahead, and is right again: what was written meanwhile is not believed.
//!
//! Memory and the embedded store use the clock of the host, which the test moves. Redis has a clock of its own, so there the
//! test moves the stored times by a year.

use std::time::{Duration, SystemTime};

use tonic::Code;
use watchword::{
    api::pb,
    domain::{Clock, System},
};

use super::{refresh, user_of};
use crate::support::{Api, App, ManualClock, StoreKind, TestStore, hostile::part, password};

const DAY: Duration = Duration::from_secs(86_400);
const YEAR: Duration = Duration::from_secs(365 * 86_400);

/// What a node wrote while its clock was a year ahead.
struct Ahead {
    app: App,
    kind: StoreKind,
    tokens: pb::Tokens,
    code: String,
    next_key: String,
}

/// Registers and authenticates bob, creates a reset code for him and rotates the signing key, all of it a year ahead.
async fn written_a_year_ahead(kind: StoreKind) -> Ahead {
    let place = TestStore::new(kind);
    let app = App::with(kind).with_admin().start_in(place.clone()).await;
    // The ring is older than the mistake.
    app.registered("ada").await;
    app.authenticate("ada").await;
    app.clock.advance_wall(YEAR);
    app.registered("bob").await;
    let tokens = app.authenticate("bob").await;
    let request = pb::CreatePasswordResetCodeRequest { username: "bob".into(), require_reset: false };
    let code = app.admin().await.create_password_reset_code(request).await.unwrap().into_inner().reset_code;
    let rotated = app.admin().await.rotate_signing_key(pb::RotateSigningKeyRequest::default()).await.unwrap();
    let next_key = rotated.into_inner().key_id;
    app.clock.set_back(YEAR);
    if kind == StoreKind::Redis {
        move_by_a_year(&place, &["user:bob", &format!("session:{}", tokens.session_id)], 0);
        // The next key alone, which is the last in the document.
        move_by_a_year(&place, &["keys"], 2);
    }
    app.clock.advance(Duration::from_secs(1));
    Ahead { app, kind, tokens, code, next_key }
}

/// Adds a year to the times of documents in Redis, except for the first ones.
fn move_by_a_year(place: &TestStore, keys: &[&str], skipped: usize) {
    let today = humantime::format_rfc3339_seconds(System.now()).to_string();
    let year: u32 = today[..4].parse().unwrap();
    for key in keys {
        let key = format!("watchword:{key}");
        let document: String = place.redis().ask(&["GET", &key]);
        let mut parts: Vec<String> = document.split("_time\":\"").map(str::to_owned).collect();
        let signing = document.find("\"refresh\":").map(|end| document[..end].matches("_time\":\"").count());
        let last = signing.unwrap_or(parts.len() - 1);
        for part in &mut parts[1 + skipped..=last] {
            let written: u32 = part[..4].parse().unwrap();
            assert!((year..=year + 1).contains(&written), "{part}");
            part.replace_range(..4, &(written + 1).to_string());
        }
        drop(place.redis().ask::<String>(&["SET", &key, &parts.join("_time\":\""), "KEEPTTL"]));
    }
}

fn seconds(time: Option<prost_types::Timestamp>) -> i64 {
    time.unwrap().seconds
}

fn now() -> i64 {
    System.now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs().try_into().unwrap()
}

#[tokio::test]
async fn session_and_tokens_from_the_future_are_not_active_and_a_login_helps() {
    for kind in StoreKind::ALL {
        let Ahead { app, kind, tokens, .. } = written_a_year_ahead(kind).await;
        assert!(!app.introspect(&tokens.access_token).await.active, "{kind:?}");
        let used = user_of(&app, &tokens.access_token).await.unwrap_err();
        // On Redis the token itself has the right time.
        let expected = if kind == StoreKind::Redis { "TOKEN_EXPIRED" } else { "TOKEN_INVALID" };
        assert_eq!(used, expected, "{kind:?}");
        assert_eq!(refresh(&app, &tokens.refresh_token).await.unwrap_err(), "TOKEN_EXPIRED", "{kind:?}");
        let again = app.authenticate("bob").await;
        assert!(seconds(again.refresh_expire_time) < now() + 31 * 86_400, "{kind:?}");
        assert!(app.introspect(&again.access_token).await.active, "{kind:?}");
    }
}

#[tokio::test]
async fn signing_key_that_was_to_sign_from_next_year_signs_in_ten_minutes() {
    for kind in StoreKind::ALL {
        let Ahead { app, kind, next_key, .. } = written_a_year_ahead(kind).await;
        let key = |token: &str| part(token, 0)["kid"].as_str().unwrap().to_owned();
        let old = app.authenticate("ada").await;
        assert_ne!(key(&old.access_token), next_key, "{kind:?}: verifiers may not know it yet");
        assert!(app.introspect(&old.access_token).await.active, "{kind:?}");
        app.clock.advance(Duration::from_secs(601));
        let new = app.authenticate("ada").await;
        assert_eq!(key(&new.access_token), next_key, "{kind:?}");
    }
}

#[tokio::test]
async fn times_of_a_user_from_the_future_count_as_now_and_a_reset_code_is_void() {
    for kind in StoreKind::ALL {
        let Ahead { app, kind, code, .. } = written_a_year_ahead(kind).await;
        let shown = async || {
            let user = Some(pb::auth_admin_get_user_request::User::Username("bob".into()));
            app.admin().await.get_user(pb::AuthAdminGetUserRequest { user }).await.unwrap().into_inner().user.unwrap()
        };
        let account = shown().await;
        assert_eq!(account.reset_expire_time, None, "{kind:?}");
        let user = account.user.unwrap();
        assert_eq!(user.last_login_time, None, "{kind:?}");
        for time in [user.create_time, user.update_time] {
            assert!((now() - 60..=now() + 60).contains(&seconds(time)), "{kind:?}");
        }
        let request = pb::ResetPasswordRequest {
            username: "bob".into(),
            reset_code: code,
            new_password: "another password of bob".into(),
        };
        let refused = app.client().await.reset_password(request).await.unwrap_err();
        assert_eq!(refused.code(), Code::Unauthenticated, "{kind:?}: {refused}");
        app.authenticate("bob").await;
        let login = seconds(shown().await.user.unwrap().last_login_time);
        assert!((now() - 3_700..=now() + 60).contains(&login), "{kind:?}: the next login is recorded");
    }
}

#[tokio::test]
async fn refresh_in_the_future_counts_as_one_at_the_login() {
    // The session of before must survive, so the clock is ahead by less than its lifetime.
    for kind in [StoreKind::Memory, StoreKind::Embedded] {
        let app = App::with(kind).clock(ManualClock::default()).start().await;
        app.registered("ada").await;
        let tokens = app.authenticate("ada").await;
        app.clock.advance_wall(20 * DAY);
        let ahead = refresh(&app, &tokens.refresh_token).await.unwrap();
        app.clock.set_back(20 * DAY);
        assert!(!app.introspect(&ahead.access_token).await.active, "{kind:?}: its time of issue is in the future");
        let after = refresh(&app, &ahead.refresh_token).await.unwrap();
        assert!(seconds(after.refresh_expire_time) < now() + 31 * 86_400, "{kind:?}");
        assert!(app.introspect(&after.access_token).await.active, "{kind:?}");
    }
}

#[tokio::test]
async fn failed_attempt_in_the_future_keeps_its_count_and_is_shown_as_one_of_now() {
    for kind in [StoreKind::Memory, StoreKind::Embedded] {
        let app = App::with(kind).args(&["--throttle", "on"]).with_admin().start().await;
        app.clock.advance_wall(YEAR);
        app.registered("ada").await;
        assert_eq!(Api::Grpc.login(&app, "ada", "a wrong password").await.outcome(), "INVALID_CREDENTIALS");
        app.rules.store_failed_attempts().await;
        app.clock.set_back(YEAR);
        let user = Some(pb::auth_admin_get_user_request::User::Username("ada".into()));
        let request = pb::AuthAdminGetUserRequest { user };
        let account = app.admin().await.get_user(request).await.unwrap().into_inner().user.unwrap();
        assert_eq!(account.failure_count, 1, "{kind:?}");
        assert!(seconds(account.last_failure_time) <= now() + 60, "{kind:?}");
        assert_eq!(Api::Grpc.login(&app, "ada", &password("ada")).await.outcome(), "ok", "{kind:?}");
    }
}
