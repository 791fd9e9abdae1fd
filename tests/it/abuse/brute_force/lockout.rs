//! Lockout: after too many consecutive failed attempts the password alone is refused.

use std::{sync::Arc, time::Duration};

use tonic::Status;
use watchword::{
    api::pb::{self, UserState, auth_admin_get_user_request::User},
    store::{DocumentStore, Embedded, Memory},
};

use super::{
    RATE_LIMITS, UNLIMITED_RATES,
    account_limit::{abandon_attempts, with_slow_hashes},
    concurrent_attempts, is_limited, login, login_from, outcome, rate_limit_of,
    retention::stored_records,
    with_lowest_lockout_threshold, with_rate_limits,
};
use crate::{
    abuse::proof_of_work::{LOGIN, REGISTER, challenge_for, solution, solution_of},
    support::{
        Api, App, ManualClock, Setup, StoreKind, TestStore,
        fault::{Fault, Faulty},
        password,
    },
};

const HOUR: Duration = Duration::from_secs(3_600);

fn strict(setup: Setup) -> Setup {
    setup.change(|config| config.throttle.as_mut().unwrap().lockout_is_strict = true)
}

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
    let app = strict(with_lowest_lockout_threshold(StoreKind::Memory)).start().await;
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

/// NIST SP 800-63B-4 section 3.2.2 limits consecutive failed attempts, however much time is between them.
#[tokio::test(flavor = "multi_thread")]
async fn strict_lockout_counts_over_any_time_and_ends_only_by_an_operator_or_a_reset_code() {
    for kind in [StoreKind::Memory, StoreKind::Embedded] {
        for ends_by_code in [false, true] {
            let (folder, clock) = (tempfile::TempDir::new().unwrap(), Arc::new(ManualClock::stopped()));
            let documents: Arc<dyn DocumentStore> = match kind {
                StoreKind::Embedded => Arc::new(Embedded::open(folder.path(), clock.clone()).unwrap()),
                StoreKind::Memory | StoreKind::Redis => Arc::new(Memory::new(clock.clone())),
            };
            let app = App::on(documents.clone()).args(&RATE_LIMITS).args(&UNLIMITED_RATES).with_admin();
            let app = strict(app).clock(clock.clone()).start().await;
            for name in ["ada", "bob"] {
                app.registered(name).await;
            }
            for name in ["ada", "unknown"] {
                for _ in 0..11 {
                    assert_eq!(concurrent_attempts(&app, name, 9).await, (9, 0), "{kind:?}, {name}");
                }
            }
            app.rules.store_failed_attempts().await;
            clock.advance(200 * HOUR);
            assert_eq!(failures_shown(&app, "ada").await, (UserState::Active, 99), "{kind:?}");
            for name in ["ada", "unknown"] {
                assert_eq!(outcome(&login(&app, name, "wrong password").await), "INVALID_CREDENTIALS", "{name}");
            }
            assert_eq!(app.events.count("failure cap reached"), 1, "{kind:?}");
            for _ in 0..3 {
                app.rules.store_failed_attempts().await;
                clock.advance(1_000 * 24 * HOUR);
                // A change of another name, with which the store deletes what has expired.
                assert_eq!(outcome(&login(&app, "bob", "wrong password").await), "INVALID_CREDENTIALS");
                app.rules.store_failed_attempts().await;
                login(&app, "bob", &password("bob")).await.unwrap();
                app.rules.store_failed_attempts().await;
                assert_eq!(stored_records(&*documents).await, 1, "{kind:?}: only that of the user is left");
                assert_eq!(outcome(&login(&app, "ada", &password("ada")).await), "INVALID_CREDENTIALS", "{kind:?}");
                assert_eq!(failures_shown(&app, "ada").await.0, UserState::Locked, "{kind:?}");
            }
            let new_password = if ends_by_code { "another password" } else { &password("ada") };
            if ends_by_code {
                reset_password(&app, "ada", new_password).await;
            } else {
                app.admin().await.unlock_user(pb::UnlockUserRequest { username: "ada".into() }).await.unwrap();
            }
            assert_eq!(outcome(&login(&app, "ada", new_password).await), "ok", "{kind:?}");
            app.rules.store_failed_attempts().await;
            assert_eq!(stored_records(&*documents).await, 0, "{kind:?}");
            app.stopped().await;
        }
    }
}

/// The answers to a patient attacker, who tries a name day by day, tell nothing of whether it has a user.
#[tokio::test(flavor = "multi_thread")]
async fn strict_lockout_of_a_user_looks_like_a_name_without_one_for_days() {
    let app = strict(with_rate_limits(StoreKind::Memory).clock(ManualClock::stopped())).start().await;
    app.registered("ada").await;
    let mut answers = [Vec::new(), Vec::new()];
    for _ in 0..15 {
        for (name, answers) in ["ada", "unknown"].into_iter().zip(&mut answers) {
            for _ in 0..12 {
                answers.push(shown(&login(&app, name, "wrong password").await));
            }
            let proof = solution_of(&challenge_for(&app, name).await);
            answers.push(shown(&login_with(&app, name, proof).await));
            answers.push(serde_json::to_string(&challenge_for(&app, name).await.parameters.cost).unwrap());
        }
        app.rules.store_failed_attempts().await;
        app.clock.advance(23 * HOUR);
    }
    assert_eq!(answers[0], answers[1]);
    assert!(app.events.count("locked") > 40, "{}", app.events.count("locked"));
    for name in ["ada", "unknown"] {
        assert_eq!(concurrent_attempts(&app, name, 12).await, (10, 2), "{name}: in flight at once");
    }
    app.clock.advance(HOUR);
    assert_eq!(outcome(&login(&app, "ada", &password("ada")).await), "INVALID_CREDENTIALS");
}

/// The control of the two tests above: a store that forgets what lasts lets the user in.
#[tokio::test(flavor = "multi_thread")]
async fn control_strict_lockout_without_lasting_counts_ends_by_itself() {
    for (fault, expected) in [(Fault::None, "INVALID_CREDENTIALS"), (Fault::ForgetsLasting, "ok")] {
        let clock = Arc::new(ManualClock::stopped());
        let app = App::on(Faulty::with_clock(fault, clock.clone())).args(&RATE_LIMITS).args(&UNLIMITED_RATES);
        let app = strict(app).clock(clock.clone()).start().await;
        app.registered("ada").await;
        for _ in 0..10 {
            assert_eq!(concurrent_attempts(&app, "ada", 10).await, (10, 0));
        }
        // The second time this node forgets what it has stored.
        for _ in 0..2 {
            app.rules.store_failed_attempts().await;
        }
        clock.advance(200 * HOUR);
        assert_eq!(outcome(&login(&app, "ada", &password("ada")).await), expected, "{fault:?}");
    }
}

/// No more attempts are verified before a strict lockout than its threshold, also side by side, and none of them waits.
#[tokio::test(flavor = "multi_thread")]
async fn strict_lockout_admits_no_more_attempts_at_once_than_in_a_row() {
    let app = with_lowest_lockout_threshold(StoreKind::Memory).clock(ManualClock::stopped());
    let app = strict(app).start().await;
    app.registered("ada").await;
    for name in ["ada", "unknown"] {
        assert_eq!(concurrent_attempts(&app, name, 8).await, (8, 0));
    }
    app.rules.store_failed_attempts().await;
    app.clock.advance(200 * HOUR);
    for name in ["ada", "unknown"] {
        // Ten may be in flight before a lockout of which clients could know.
        app.events.hold_workers(true);
        let attempts = async {
            assert_eq!(concurrent_attempts(&app, name, 10).await, (10, 0), "{name}");
        };
        let release = async {
            while app.rules.hash_pool().is_idle() {
                tokio::task::yield_now().await;
            }
            app.events.hold_workers(false);
        };
        tokio::join!(attempts, release);
    }
    assert_eq!(app.events.count("wrong password"), 8 + 2);
    assert_eq!(app.events.count("locked"), 8);
}

#[tokio::test(flavor = "multi_thread")]
async fn cancelled_attempts_count_for_a_strict_lockout_without_end() {
    let app = with_lowest_lockout_threshold(StoreKind::Memory).with_admin().clock(ManualClock::stopped());
    let app = app.change(|config| {
        with_slow_hashes(config);
        config.throttle.as_mut().unwrap().lockout_is_strict = true;
    });
    let app = app.start().await;
    app.registered("ada").await;
    abandon_attempts(&app, 3).await;
    app.clock.advance(200 * HOUR);
    assert_eq!(failures_shown(&app, "ada").await, (UserState::Active, 3));
}

/// Failed attempts with any evidence count together in a strict lockout, which is reported once.
#[tokio::test(flavor = "multi_thread")]
async fn lockout_is_reported_once_when_the_total_or_the_count_of_its_evidence_reaches_the_threshold() {
    for (is_strict, expected) in [(true, [0, 1, 1, 1]), (false, [0, 0, 1, 2])] {
        let app = with_lowest_lockout_threshold(StoreKind::Memory);
        let app = if is_strict { strict(app) } else { app }.start().await;
        app.registered("ada").await;
        let familiar_address = [127, 9, 9, 9];
        assert_eq!(login_from(&app, familiar_address, "ada", &password("ada")).await.body, "data of ada");
        let mut reported = Vec::new();
        for (from_elsewhere, familiar, with_work) in [(4, 4, 1), (1, 1, 4), (5, 0, 10), (0, 5, 0)] {
            for _ in 0..from_elsewhere {
                assert_eq!(outcome(&login(&app, "ada", "wrong password").await), "INVALID_CREDENTIALS");
            }
            for _ in 0..familiar {
                assert_eq!(login_from(&app, familiar_address, "ada", "wrong").await.body, "User not found");
            }
            for _ in 0..with_work {
                let answer = login_with(&app, "ada", solution(&app, LOGIN).await).await;
                assert_eq!(outcome(&answer), "INVALID_CREDENTIALS");
            }
            app.rules.store_failed_attempts().await;
            reported.push(app.events.count("failure cap reached"));
        }
        assert_eq!(reported, expected, "strict: {is_strict}");
    }
}

/// A failed login with a solution.
async fn login_with(app: &App, username: &str, solution: String) -> Result<(), Status> {
    let request =
        pb::LoginRequest { username: username.into(), password: "wrong password".into(), challenge_solution: solution };
    app.client().await.login(request).await.map(|_| ())
}

/// Everything of an answer that a client sees, without the id of the call.
fn shown<T>(answer: &Result<T, Status>) -> String {
    match outcome(answer).as_str() {
        "RATE_LIMITED" => format!("{:?}", answer.as_ref().map(|_| ()).map_err(rate_limit_of)),
        other => other.to_owned(),
    }
}

/// The state and the failed attempts that operators see.
async fn failures_shown(app: &App, username: &str) -> (UserState, u32) {
    let request = pb::AuthAdminGetUserRequest { user: Some(User::Username(username.into())) };
    let user = app.admin().await.get_user(request).await.unwrap().into_inner().user.unwrap();
    (user.state(), user.failure_count)
}

async fn reset_password(app: &App, username: &str, new_password: &str) {
    let create = pb::CreatePasswordResetCodeRequest { username: username.into(), require_reset: false };
    let reset_code = app.admin().await.create_password_reset_code(create).await.unwrap().into_inner().reset_code;
    let (username, new_password) = (username.into(), new_password.into());
    let reset = pb::ResetPasswordRequest { username, reset_code, new_password };
    app.client().await.reset_password(reset).await.unwrap();
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
