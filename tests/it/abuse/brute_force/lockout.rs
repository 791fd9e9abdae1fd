//! Lockout: after too many consecutive failed attempts the password alone is refused.

use std::time::Duration;

use super::{
    concurrent_attempts, is_limited, login, login_from, outcome, with_lowest_lockout_threshold, with_rate_limits,
};
use crate::{
    abuse::proof_of_work::{LOGIN, REGISTER, solution},
    support::{Api, StoreKind, TestStore, password},
};

#[tokio::test(flavor = "multi_thread")]
async fn lockout_is_reported_once_when_failures_are_stored_during_attempts() {
    let app = with_lowest_lockout_threshold(StoreKind::Memory).start().await;
    for number in 0..10 {
        let attempt = login(&app, "ada", "wrong password");
        let (attempt, ()) = tokio::join!(attempt, app.rules.store_failed_attempts());
        assert_eq!(outcome(&attempt), "INVALID_CREDENTIALS", "attempt {number}");
    }
    assert_eq!(outcome(&login(&app, "ada", "wrong password").await), "CHALLENGE_REQUIRED");
    assert_eq!(app.events.count("failure cap reached"), 1);
}

/// T9. Neither the rate limit of the account nor a lockout refuses a user with a proof of work.
#[tokio::test(flavor = "multi_thread")]
async fn proof_of_work_admits_one_attempt_despite_rate_limit_and_lockout() {
    for setup in [with_rate_limits(StoreKind::Memory), with_lowest_lockout_threshold(StoreKind::Memory)] {
        let app = setup.start().await;
        app.registered("victim").await;
        concurrent_attempts(&app, "victim", 50).await;
        for api in Api::ALL {
            let answer = api.login(&app, "victim", &password("victim")).await;
            let outcome = answer.outcome();
            let is_asked =
                outcome == "CHALLENGE_REQUIRED" || outcome.starts_with("400 send the solution of a challenge");
            assert!(is_limited(&answer) || is_asked, "{outcome}");
            for _ in 0..10 {
                let proof = solution(&app, LOGIN).await;
                let answer = api.login_with(&app, "victim", &password("victim"), &proof).await;
                assert_eq!(answer.data(), "data of victim");
                // One solution admits one attempt.
                assert!(!api.login_with(&app, "victim", &password("victim"), &proof).await.outcome().starts_with("ok"));
            }
            let wrong = solution(&app, LOGIN).await;
            assert!(api.login_with(&app, "victim", "one more wrong password", &wrong).await.is_wrong_credentials());
            let wrong_purpose = solution(&app, REGISTER).await;
            assert!(
                !api.login_with(&app, "victim", &password("victim"), &wrong_purpose).await.outcome().starts_with("ok")
            );
        }
        // Without a proof of work the account is still limited or locked.
        assert_ne!(Api::Grpc.login(&app, "victim", &password("victim")).await.outcome(), "ok");
    }
}

/// T7, NIST SP 800-63B-4 section 3.2.2. Unknown usernames behave like existing ones.
#[tokio::test(flavor = "multi_thread")]
async fn lockout_refuses_the_password_alone_except_from_familiar_addresses() {
    for kind in StoreKind::ALL {
        let place = TestStore::new(kind);
        let app = with_lowest_lockout_threshold(kind).start_in(place.clone()).await;
        app.registered("ada").await;
        let familiar_address = [127, 9, 9, 9];
        assert_eq!(login_from(&app, familiar_address, "ada", &password("ada")).await.body, "data of ada");
        for name in ["ada", "unknown"] {
            let (verified, _) = concurrent_attempts(&app, name, 200).await;
            assert_eq!(verified, 10, "{kind:?}, {name}: no more than the lockout threshold");
            let result = login(&app, name, &password("ada")).await;
            assert_eq!(outcome(&result), "CHALLENGE_REQUIRED", "{kind:?}, {name}");
        }
        assert_eq!(app.events.count("failure cap reached"), 2, "{kind:?}");
        // From a familiar address the password is accepted, and other addresses stay locked out.
        assert_eq!(login_from(&app, familiar_address, "ada", &password("ada")).await.body, "data of ada");
        assert_eq!(outcome(&login(&app, "ada", &password("ada")).await), "CHALLENGE_REQUIRED", "{kind:?}");
        if kind == StoreKind::Memory {
            continue;
        }
        app.stopped().await;
        let app = with_lowest_lockout_threshold(kind).start_in(place).await;
        assert_eq!(outcome(&login(&app, "ada", &password("ada")).await), "CHALLENGE_REQUIRED", "{kind:?}");
        // The ten failures have expired by then.
        app.clock.advance(Duration::from_secs(100 * 3_600 + 1));
        assert_eq!(outcome(&login(&app, "ada", &password("ada")).await), "ok", "{kind:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn strict_lockout_refuses_every_address_and_looks_like_a_wrong_password() {
    let app = with_lowest_lockout_threshold(StoreKind::Memory).change(|config| {
        let throttle = config.throttle.as_mut().unwrap();
        throttle.lockout_is_strict = true;
    });
    let app = app.start().await;
    app.registered("ada").await;
    let familiar_address = [127, 9, 9, 9];
    assert_eq!(login_from(&app, familiar_address, "ada", &password("ada")).await.body, "data of ada");
    assert_eq!(concurrent_attempts(&app, "ada", 40).await.0, 40, "the lockout is not visible");
    let hashed = app.events.count("hashed");
    assert_eq!(outcome(&login(&app, "ada", &password("ada")).await), "INVALID_CREDENTIALS");
    assert_eq!(login_from(&app, familiar_address, "ada", &password("ada")).await.body, "User not found");
    assert_eq!(app.events.count("hashed"), hashed + 2, "a lockout costs the same as a wrong password");
    assert_eq!(app.events.count("locked"), 32);
}

#[tokio::test(flavor = "multi_thread")]
async fn correct_password_resets_the_failure_counter() {
    let app = with_lowest_lockout_threshold(StoreKind::Memory).start().await;
    app.registered("ada").await;
    for _ in 0..5 {
        assert_eq!(concurrent_attempts(&app, "ada", 9).await.0, 9);
        login(&app, "ada", &password("ada")).await.unwrap();
        app.rules.store_failed_attempts().await;
    }
    assert_eq!(app.events.count("failure cap reached"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn registration_resets_the_failure_counter_of_the_username() {
    let app = with_lowest_lockout_threshold(StoreKind::Memory).start().await;
    assert_eq!(concurrent_attempts(&app, "ada", 20).await.0, 10);
    app.rules.store_failed_attempts().await;
    app.registered("ada").await;
    assert_eq!(outcome(&login(&app, "ada", &password("ada")).await), "ok");
}
