//! Reset codes: created by an operator, valid once, for one user, for 10 minutes, also under attack.

use std::{sync::Arc, time::Duration};

use serde_json::Value;
use tokio::task::JoinSet;
use tonic::{Code, Request, Status};
use watchword::api::{pb, rpc};

use crate::support::{
    Api, App, ManualClock, Setup, StoreKind, TestStore, details,
    fault::{Fault, Faulty},
    h2, http_from, password, query, reason,
};

/// How long a reset code is valid (ASVS 6.5.5).
const LIFETIME: Duration = Duration::from_secs(10 * 60);

/// How long another node may still report a revoked token as active.
const INTROSPECTION_CACHE_AGE_MAX: Duration = Duration::from_millis(800);

fn request(username: &str, code: &str, new: &str) -> pb::ResetPasswordRequest {
    pb::ResetPasswordRequest { username: username.into(), reset_code: code.into(), new_password: new.into() }
}

async fn reset(app: &App, username: &str, code: &str, new: &str) -> Result<(), Status> {
    app.client().await.reset_password(request(username, code, new)).await.map(drop)
}

/// A reset for an end user whose address the caller forwards.
async fn reset_from(app: &App, address: &str, username: &str, code: &str) -> String {
    let mut request = Request::new(request(username, code, "another long one"));
    request.metadata_mut().insert("x-forwarded-for", address.parse().unwrap());
    app.client().await.reset_password(request).await.map_or_else(|status| reason(&status), |_| "ok".into())
}

async fn create_code(app: &App, username: &str, require_reset: bool) -> String {
    let request = pb::CreatePasswordResetCodeRequest { username: username.into(), require_reset };
    app.admin().await.create_password_reset_code(request).await.unwrap().into_inner().reset_code
}

async fn login(app: &App, username: &str, password: &str) -> String {
    Api::Grpc.login(app, username, password).await.outcome()
}

async fn with_ada(setup: Setup) -> App {
    let app = setup.with_admin().start().await;
    app.registered("ada").await;
    app
}

#[tokio::test]
async fn reset_code_sets_a_new_password_once_and_ends_all_sessions() {
    for kind in StoreKind::ALL {
        let app = with_ada(App::with(kind)).await;
        let tokens = app.authenticate("ada").await;
        let code = create_code(&app, "ADA", false).await;
        assert!(code.starts_with("wwc_") && code.len() == 26, "128 bits in base64url");
        assert_eq!(
            login(&app, "ada", &password("ada")).await,
            "ok",
            "{kind:?}: the old password is valid until the reset"
        );
        reset(&app, "Ada", &code, "another long one").await.unwrap();
        assert!(!app.introspect(&tokens.access_token).await.active, "{kind:?}: at once");
        assert_eq!(login(&app, "ada", "another long one").await, "ok", "{kind:?}");
        assert_eq!(login(&app, "ada", &password("ada")).await, "INVALID_CREDENTIALS", "{kind:?}");
        assert_eq!(reason(&reset(&app, "ada", &code, "a third long one").await.unwrap_err()), "INVALID_CREDENTIALS");
        assert_eq!(app.events.count("password reset"), 1, "{kind:?}");
    }
}

/// 64 callers with the right code, distributed over the nodes. Returns how many of them set their password.
async fn race(nodes: &Arc<Vec<App>>, code: &str) -> usize {
    let mut racers = JoinSet::new();
    for racer in 0..64 {
        let (nodes, code) = (nodes.clone(), code.to_owned());
        racers.spawn(async move {
            let new = format!("password of racer {racer}");
            loop {
                match reset(&nodes[racer % nodes.len()], "ada", &code, &new).await {
                    Ok(()) => return true,
                    // The hash queue is short, so an overloaded node is expected.
                    Err(status) if reason(&status) == "OVERLOADED" => {}
                    Err(status) => {
                        assert_eq!(reason(&status), "INVALID_CREDENTIALS", "{status:?}");
                        return false;
                    }
                }
            }
        });
    }
    racers.join_all().await.into_iter().filter(|won| *won).count()
}

/// T11: one reset code sets one password.
#[tokio::test(flavor = "multi_thread")]
async fn concurrent_resets_with_one_code_have_one_winner_and_none_after_a_restart() {
    for (kind, count) in [(StoreKind::Embedded, 1), (StoreKind::Redis, 2)] {
        let place = TestStore::new(kind);
        let node = || App::with(kind).args(&["--token-issuer", "https://auth.example"]).with_admin();
        let mut nodes = Vec::new();
        for _ in 0..count {
            nodes.push(node().start_in(place.clone()).await);
        }
        nodes[0].registered("ada").await;
        let code = create_code(&nodes[0], "ada", false).await;
        let nodes = Arc::new(nodes);
        assert_eq!(race(&nodes, &code).await, 1, "{kind:?}");
        for node in Arc::into_inner(nodes).unwrap() {
            node.stopped().await;
        }
        let restarted = Arc::new(vec![node().start_in(place).await]);
        assert_eq!(race(&restarted, &code).await, 0, "{kind:?}: after a restart");
    }
}

/// The control of T11: a store that replaces without comparing accepts several resets.
#[tokio::test(flavor = "multi_thread")]
async fn control_store_without_compare_accepts_one_code_several_times() {
    let faulty = Faulty::with(Fault::None);
    let nodes = Arc::new(vec![with_ada(App::on(faulty.clone())).await]);
    // On a busy machine one racer may finish before the next begins.
    for _ in 0..20 {
        faulty.set(Fault::None);
        let code = create_code(&nodes[0], "ada", false).await;
        faulty.set(Fault::ComparesNothing);
        if race(&nodes, &code).await > 1 {
            return;
        }
    }
    panic!("the control accepted no code twice");
}

/// T3: the bytes of the refusals are equal, and no refusal costs a hash.
#[tokio::test]
async fn invalid_reset_codes_are_refused_identically_and_without_a_hash() {
    for kind in StoreKind::ALL {
        let app = with_ada(App::with(kind)).await;
        for name in ["without", "expired", "disabled"] {
            app.registered(name).await;
        }
        let expired = create_code(&app, "expired", false).await;
        app.clock.advance(LIFETIME);
        let [valid, disabled] = [create_code(&app, "ada", false).await, create_code(&app, "disabled", false).await];
        app.set_disabled("disabled", true).await;
        let hashed = app.events.count("hashed");
        let mut answers = Vec::new();
        for (name, code) in [
            ("ada", "wwc_AAAAAAAAAAAAAAAAAAAAAA"),
            ("ada", "something else"),
            ("ada", &disabled),
            ("unknown", &valid),
            ("without", &valid),
            ("expired", &expired),
            ("disabled", &disabled),
        ] {
            let error = reset(&app, name, code, "another long one").await.unwrap_err();
            assert_eq!((error.code(), reason(&error).as_str()), (Code::Unauthenticated, "INVALID_CREDENTIALS"));
            let mut metadata = error.metadata().clone().into_headers();
            metadata.remove("date");
            answers.push((error.message().to_owned(), error.details().to_vec(), metadata));
        }
        for answer in &answers {
            assert_eq!(answer, &answers[0], "{kind:?}");
        }
        assert_eq!(app.events.count("hashed"), hashed, "{kind:?}");
        reset(&app, "ada", &valid, "another long one").await.unwrap();
    }
}

#[tokio::test]
async fn reset_code_is_valid_until_its_last_second() {
    for (after, outcome) in [
        (LIFETIME - Duration::from_secs(1), "ok"),
        (LIFETIME, "INVALID_CREDENTIALS"),
        (LIFETIME + Duration::from_secs(1), "INVALID_CREDENTIALS"),
    ] {
        let app = with_ada(App::with(StoreKind::Memory).clock(ManualClock::stopped())).await;
        let code = create_code(&app, "ada", false).await;
        app.clock.advance(after);
        let result = reset(&app, "ada", &code, "another long one").await;
        assert_eq!(result.map_or_else(|status| reason(&status), |()| "ok".into()), outcome, "{after:?}");
    }
}

#[tokio::test]
async fn new_code_password_change_and_disabling_invalidate_a_reset_code() {
    let app = with_ada(App::with(StoreKind::Memory)).await;
    let older = create_code(&app, "ada", false).await;
    let newer = create_code(&app, "ada", false).await;
    assert_ne!(older, newer);
    let refusal_of = async |code: &str| reason(&reset(&app, "ada", code, "another long one").await.unwrap_err());
    assert_eq!(refusal_of(&older).await, "INVALID_CREDENTIALS", "replaced");
    let tokens = app.authenticate("ada").await;
    let change = pb::ChangePasswordRequest {
        current_password: password("ada"),
        new_password: "a changed long one".into(),
        ..Default::default()
    };
    app.client().await.change_password(crate::support::with_bearer(&tokens.access_token, change)).await.unwrap();
    assert_eq!(refusal_of(&newer).await, "INVALID_CREDENTIALS", "the password was changed");
    let third = create_code(&app, "ada", false).await;
    app.set_disabled("ada", true).await;
    app.set_disabled("ada", false).await;
    assert_eq!(refusal_of(&third).await, "INVALID_CREDENTIALS", "the user was disabled");
    assert_eq!(login(&app, "ada", "a changed long one").await, "ok");
}

#[tokio::test]
async fn policy_violation_does_not_use_up_the_code_and_all_violations_are_reported() {
    let app = with_ada(App::with(StoreKind::Memory)).await;
    let code = create_code(&app, "ada", false).await;
    for (new, expected) in [("short", "TOO_SHORT"), ("password", "TOO_COMMON"), ("ada ada", "TOO_SHORT")] {
        let error = reset(&app, "ada", &code, new).await.unwrap_err();
        assert_eq!(reason(&error), "PASSWORD_POLICY");
        let [bad_request]: [rpc::BadRequest; 1] = details(&error, "google.rpc.BadRequest").try_into().unwrap();
        assert_eq!(
            (bad_request.field_violations[0].field.as_str(), bad_request.field_violations[0].reason.as_str()),
            ("new_password", expected)
        );
    }
    let error = reset(&app, "", "", "").await.unwrap_err();
    let [bad_request]: [rpc::BadRequest; 1] = details(&error, "google.rpc.BadRequest").try_into().unwrap();
    let fields: Vec<_> = bad_request.field_violations.iter().map(|violation| violation.field.as_str()).collect();
    assert_eq!((reason(&error).as_str(), fields), ("INVALID_FIELD", vec!["username", "reset_code", "new_password"]));
    reset(&app, "ada", &code, "another long one").await.unwrap();
}

#[tokio::test]
async fn store_failure_does_not_use_up_the_reset_code() {
    let faulty = Faulty::with(Fault::None);
    let app = with_ada(App::on(faulty.clone())).await;
    let code = create_code(&app, "ada", false).await;
    for fault in [Fault::Down, Fault::WritesNothing] {
        faulty.set(fault);
        let error = reset(&app, "ada", &code, "another long one").await.unwrap_err();
        assert_eq!(reason(&error), "STORE_UNAVAILABLE", "{fault:?}");
    }
    faulty.set(Fault::ReplyLost);
    let error = reset(&app, "ada", &code, "another long one").await.unwrap_err();
    assert_eq!(reason(&error), "OUTCOME_UNKNOWN");
    faulty.set(Fault::None);
    assert_eq!(login(&app, "ada", "another long one").await, "ok", "the reset was written");
    assert_eq!(reason(&reset(&app, "ada", &code, "a third long one").await.unwrap_err()), "INVALID_CREDENTIALS");
}

/// T9: recovery stays possible during brute force against passwords and reset codes.
#[tokio::test(flavor = "multi_thread")]
async fn wrong_reset_codes_have_their_own_rate_limit_and_the_right_code_passes() {
    let app = with_ada(App::with(StoreKind::Memory).args(&[
        "--throttle",
        "on",
        "--throttle-per-address",
        "12/10m",
        "--trusted-proxy",
        "127.0.0.1",
    ]))
    .await;
    let code = create_code(&app, "ada", false).await;
    let address = "203.0.113.7";
    for name in ["ada", "unknown"] {
        let mut outcomes = Vec::new();
        for _ in 0..6 {
            outcomes.push(reset_from(&app, address, name, "wwc_wrong").await);
        }
        let wrong = "INVALID_CREDENTIALS";
        assert_eq!(
            outcomes,
            [wrong, wrong, wrong, wrong, wrong, "RATE_LIMITED"],
            "{name}: limit of the address at one account"
        );
    }
    for (name, outcome) in
        [("third", "INVALID_CREDENTIALS"), ("fourth", "INVALID_CREDENTIALS"), ("fifth", "RATE_LIMITED")]
    {
        assert_eq!(reset_from(&app, address, name, "wwc_wrong").await, outcome, "{name}: limit of the address");
    }
    assert_eq!(
        reset_from(&app, "203.0.113.8", "ada", "wwc_wrong").await,
        "INVALID_CREDENTIALS",
        "other addresses are not limited"
    );
    let mut wrong_password = Request::new(pb::LoginRequest {
        username: "ada".into(),
        password: "a wrong password".into(),
        challenge_solution: String::new(),
    });
    wrong_password.metadata_mut().insert("x-forwarded-for", address.parse().unwrap());
    let error = app.client().await.login(wrong_password).await.unwrap_err();
    assert_eq!(reason(&error), "INVALID_CREDENTIALS", "wrong codes do not count as wrong passwords");
    assert_eq!(reset_from(&app, address, "ada", &code).await, "ok", "the right code");
}

#[tokio::test(flavor = "multi_thread")]
async fn locked_out_user_resets_the_password_and_can_log_in_on_every_node() {
    for strict in [&["--failure-cap", "10"][..], &["--failure-cap", "10", "--failure-cap-strict", "true"]] {
        let (flags, is_strict) = (&strict[..2], strict.len() > 2);
        let place = TestStore::new(StoreKind::Redis);
        let node = || {
            App::with(StoreKind::Redis)
                .args(&["--throttle", "on", "--token-issuer", "https://auth.example"])
                .args(&["--throttle-per-account", "1000000/1s"])
                .args(flags)
                .change(move |config| {
                    if let Some(throttle) = &mut config.throttle {
                        throttle.lockout_is_strict = is_strict;
                    }
                })
                .with_admin()
        };
        let (one, other) = (node().start_in(place.clone()).await, node().start_in(place).await);
        one.registered("ada").await;
        for attempt in 0..10 {
            assert_eq!(login(&one, "ada", &format!("wrong password {attempt}")).await, "INVALID_CREDENTIALS");
        }
        one.rules.store_failed_attempts().await;
        let locked = if is_strict { "INVALID_CREDENTIALS" } else { "CHALLENGE_REQUIRED" };
        for node in [&one, &other] {
            assert_eq!(login(node, "ada", &password("ada")).await, locked);
        }
        let code = create_code(&other, "ada", false).await;
        reset(&one, "ada", &code, "another long one").await.unwrap();
        for node in [&one, &other] {
            assert_eq!(login(node, "ada", "another long one").await, "ok", "strict: {is_strict}");
        }
    }
}

/// T15: disabling, a required reset and a reset all revoke the password and its sessions.
#[tokio::test]
async fn revoked_password_and_its_sessions_are_rejected_on_every_node() {
    let place = TestStore::new(StoreKind::Redis);
    let node = || App::with(StoreKind::Redis).args(&["--token-issuer", "https://auth.example"]).with_admin();
    let (one, other) = (node().start_in(place.clone()).await, node().start_in(place).await);
    for action in ["disable", "require reset", "reset"] {
        let name = action.replace(' ', "-");
        one.registered(&name).await;
        let tokens = one.authenticate(&name).await;
        for node in [&one, &other] {
            assert!(node.introspect(&tokens.access_token).await.active);
        }
        let code = create_code(&one, &name, action == "require reset").await;
        match action {
            "disable" => one.set_disabled(&name, true).await,
            "reset" => reset(&one, &name, &code, "another long one").await.unwrap(),
            _ => {}
        }
        assert!(!one.introspect(&tokens.access_token).await.active, "{action}: at once on the node of the action");
        other.clock.advance(INTROSPECTION_CACHE_AGE_MAX);
        assert!(!other.introspect(&tokens.access_token).await.active, "{action}: within a second on the other node");
        for node in [&one, &other] {
            assert_eq!(login(node, &name, &password(&name)).await, "INVALID_CREDENTIALS", "{action}");
            let refresh = pb::RefreshTokenRequest { refresh_token: tokens.refresh_token.clone(), ..Default::default() };
            assert_eq!(
                reason(&node.client().await.refresh_token(refresh).await.unwrap_err()),
                "TOKEN_REVOKED",
                "{action}"
            );
        }
        if action == "require reset" {
            reset(&other, &name, &code, "another long one").await.unwrap();
            assert_eq!(login(&one, &name, "another long one").await, "ok");
        }
    }
}

#[tokio::test]
async fn reset_code_is_rejected_for_other_users_and_for_a_reused_username() {
    let place = TestStore::new(StoreKind::Redis);
    let app = App::with(StoreKind::Redis).with_admin().start_in(place.clone()).await;
    app.registered("ada").await;
    app.registered("bob").await;
    let code_of_ada = create_code(&app, "ada", false).await;
    // A code beside a disabled user, which no operator can create.
    let document = place.stored_user("ada");
    let mut disabled = serde_json::from_str::<Value>(&document).unwrap();
    disabled["disabled"] = true.into();
    place.write_user("ada", disabled.to_string().as_bytes());
    let error = reset(&app, "ada", &code_of_ada, "another long one").await.unwrap_err();
    assert_eq!(reason(&error), "INVALID_CREDENTIALS");
    place.write_user("ada", document.as_bytes());
    // An attacker with write access to the store copies the stored code to another user.
    let [ada, mut bob] = ["ada", "bob"].map(|name| serde_json::from_str::<Value>(&place.stored_user(name)).unwrap());
    bob["reset"] = ada["reset"].clone();
    place.write_user("bob", bob.to_string().as_bytes());
    let error = reset(&app, "bob", &code_of_ada, "another long one").await.unwrap_err();
    assert_eq!(reason(&error), "INVALID_CREDENTIALS");

    let mut delete = Request::new(pb::DeleteUserRequest { current_password: password("ada"), ..Default::default() });
    let bearer = format!("Bearer {}", app.authenticate("ada").await.access_token);
    delete.metadata_mut().insert("authorization", bearer.parse().unwrap());
    app.client().await.delete_user(delete).await.unwrap();
    app.registered("ada").await;
    let error = reset(&app, "ada", &code_of_ada, "another long one").await.unwrap_err();
    assert_eq!(reason(&error), "INVALID_CREDENTIALS");
    assert_eq!(login(&app, "ada", &password("ada")).await, "ok");
}

#[tokio::test]
async fn reset_code_for_a_disabled_user_is_refused_and_changes_nothing() {
    for kind in StoreKind::ALL {
        let app = with_ada(App::with(kind)).await;
        app.set_disabled("ada", true).await;
        for require_reset in [false, true] {
            let request = pb::CreatePasswordResetCodeRequest { username: "ada".into(), require_reset };
            let error = app.admin().await.create_password_reset_code(request).await.unwrap_err();
            assert_eq!(
                (error.code(), reason(&error).as_str()),
                (Code::FailedPrecondition, "USER_DISABLED"),
                "{kind:?}"
            );
            assert!(error.message().contains("enable the user first"), "{}", error.message());
        }
        app.set_disabled("ada", false).await;
        assert_eq!(login(&app, "ada", &password("ada")).await, "ok", "{kind:?}: the password is still valid");
        let code = create_code(&app, "ada", false).await;
        reset(&app, "ada", &code, "another long one").await.unwrap();
    }
}

#[tokio::test]
async fn code_copied_with_blanks_and_invisible_characters_is_accepted() {
    let app = with_ada(App::with(StoreKind::Memory)).await;
    for (number, (before, inside, after)) in
        [(" ", "", "\r\n"), ("\u{200b}\u{feff}", "", "\u{a0}\u{200d}"), ("\t\u{3000}\u{2060}", "\r\n  ", "\u{ad}")]
            .into_iter()
            .enumerate()
    {
        let code = create_code(&app, "ada", false).await;
        let (start, end) = code.split_at(12);
        let copied = format!("{before}{start}{inside}{end}{after}");
        reset(&app, "ada", &copied, &format!("long one number {number}")).await.unwrap();
    }
    let error = reset(&app, "ada", " \u{200b} ", "another long one").await.unwrap_err();
    assert_eq!(reason(&error), "INVALID_FIELD", "nothing but blanks is no code");
    let code = create_code(&app, "ada", false).await;
    let error = reset(&app, "ada", &code.to_uppercase(), "another long one").await.unwrap_err();
    assert_eq!(reason(&error), "INVALID_CREDENTIALS", "letters are not changed");
}

/// The field and the reason of a refusal by the password policy.
fn policy_violation(error: &Status) -> (String, String) {
    assert_eq!(reason(error), "PASSWORD_POLICY", "{error:?}");
    let [bad_request]: [rpc::BadRequest; 1] = details(error, "google.rpc.BadRequest").try_into().unwrap();
    (bad_request.field_violations[0].field.clone(), bad_request.field_violations[0].reason.clone())
}

#[tokio::test]
async fn new_password_that_is_the_old_one_is_refused_and_the_code_stays_valid() {
    let equals_current = ("new_password".to_owned(), "EQUALS_CURRENT".to_owned());
    for kind in StoreKind::ALL {
        for require_reset in [false, true] {
            let app = with_ada(App::with(kind)).await;
            let code = create_code(&app, "ada", require_reset).await;
            let hashed = app.events.count("hashed");
            let error = reset(&app, "ada", "wwc_AAAAAAAAAAAAAAAAAAAAAA", &password("ada")).await.unwrap_err();
            assert_eq!(reason(&error), "INVALID_CREDENTIALS", "only a right code learns it");
            assert_eq!(app.events.count("hashed"), hashed, "a wrong code costs no hash");
            let old = password("ada").replace(' ', "\u{a0}");
            for _ in 0..2 {
                let error = reset(&app, "ada", &code, &old).await.unwrap_err();
                assert_eq!(policy_violation(&error), equals_current, "{kind:?}, required: {require_reset}");
            }
            assert_eq!(app.events.count("password reset"), 0);
            reset(&app, "ada", &code, "another long one").await.unwrap();
            // An earlier password is not compared.
            let code = create_code(&app, "ada", false).await;
            reset(&app, "ada", &code, &password("ada")).await.unwrap();
        }
        let app = with_ada(App::with(kind)).await;
        let tokens = app.authenticate("ada").await;
        let hashed = app.events.count("hashed");
        let change = pb::ChangePasswordRequest {
            current_password: password("ada"),
            new_password: password("ada"),
            ..Default::default()
        };
        let change = crate::support::with_bearer(&tokens.access_token, change);
        let error = app.client().await.change_password(change).await.unwrap_err();
        assert_eq!(policy_violation(&error), equals_current, "{kind:?}");
        assert_eq!(app.events.count("hashed"), hashed, "a change compares what the caller sent");
        assert!(app.introspect(&tokens.access_token).await.active, "{kind:?}: nothing was changed");
    }
}

/// An attacker who knew the old password may have made any address familiar.
#[tokio::test(flavor = "multi_thread")]
async fn password_reset_clears_the_familiar_addresses() {
    let app = with_ada(App::with(StoreKind::Memory).args(&["--throttle", "on"])).await;
    let login_from = async |host: u8, password: &str| {
        let target = format!("/login?{}", query(&[("username", "ada"), ("password", password)]));
        http_from([127, 7, 7, host], app.http_socket(), "GET", &target).await.status
    };
    let (attacker, others) = (1, 2..5);
    let attack_from_others = async || {
        for host in others.clone() {
            for attempt in 0..5 {
                login_from(host, &format!("wrong password {attempt}")).await;
            }
        }
    };
    assert_eq!(login_from(attacker, &password("ada")).await, 200);
    attack_from_others().await;
    assert_eq!(
        login_from(attacker, "a wrong password").await,
        200,
        "the account's limit does not apply to a familiar address"
    );
    let code = create_code(&app, "ada", false).await;
    reset(&app, "ada", &code, "another long one").await.unwrap();
    app.clock.advance(Duration::from_secs(600));
    attack_from_others().await;
    assert_eq!(login_from(attacker, "a wrong password").await, 429);
}

/// A client whose deadline ends during the wait of a refusal must not try codes that no operator sees.
#[tokio::test]
async fn wrong_code_is_recorded_although_the_deadline_ends_before_the_answer() {
    let app = with_ada(App::with(StoreKind::Memory)).await;
    let path = "/watchword.auth.v1.Auth/ResetPassword";
    let wrong = request("ada", "wwc_AAAAAAAAAAAAAAAAAAAAAA", "another long one");
    // On a busy machine the wait can be over before anything notices that the deadline has passed.
    for attempt in 1..=50 {
        let call = h2::call(&app, path, &[("grpc-timeout", "8m")], h2::framed(&wrong)).await;
        let code = h2::status(call).await.code();
        assert_eq!(app.events.count("reset code refused"), attempt, "{code:?}");
        if code == Code::DeadlineExceeded {
            return;
        }
    }
    panic!("no deadline ended during the wait of a refusal");
}
