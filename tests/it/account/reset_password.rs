//! A lost password: the code that an operator makes is good once, for its user, for a quarter of an hour, whatever others try.

use std::{sync::Arc, time::Duration};

use serde_json::Value;
use tokio::task::JoinSet;
use tonic::{Code, Request, Status};
use watchword::api::{pb, rpc};

use crate::support::{
    Api, App, ManualClock, Place, Setup, StoreKind, details,
    fault::{Fault, Faulty},
    http_from, password, query, reason,
};

/// How long a code is good.
const LIFETIME: Duration = Duration::from_secs(15 * 60);

/// How long another node may say that a token counts.
const CHECK_REUSE: Duration = Duration::from_millis(800);

fn request(username: &str, code: &str, new: &str) -> pb::ResetPasswordRequest {
    pb::ResetPasswordRequest { username: username.into(), reset_code: code.into(), new_password: new.into() }
}

async fn reset(app: &App, username: &str, code: &str, new: &str) -> Result<(), Status> {
    app.client().await.reset_password(request(username, code, new)).await.map(drop)
}

/// The same for an end user whose address the caller says.
async fn reset_from(app: &App, address: &str, username: &str, code: &str) -> String {
    let mut request = Request::new(request(username, code, "another long one"));
    request.metadata_mut().insert("x-forwarded-for", address.parse().unwrap());
    app.client().await.reset_password(request).await.map_or_else(|status| reason(&status), |_| "ok".into())
}

async fn code(app: &App, username: &str, require_reset: bool) -> String {
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
async fn the_code_sets_a_new_password_once_and_ends_all_sessions() {
    for kind in StoreKind::ALL {
        let app = with_ada(App::with(kind)).await;
        let tokens = app.authenticate("ada").await;
        let code = code(&app, "ADA", false).await;
        assert!(code.starts_with("wwc_") && code.len() == 26, "128 bits in base64url");
        assert_eq!(login(&app, "ada", &password("ada")).await, "ok", "{kind:?}: the old one counts until then");
        reset(&app, "Ada", &code, "another long one").await.unwrap();
        assert!(!app.introspect(&tokens.access_token).await.active, "{kind:?}: at once");
        assert_eq!(login(&app, "ada", "another long one").await, "ok", "{kind:?}");
        assert_eq!(login(&app, "ada", &password("ada")).await, "INVALID_CREDENTIALS", "{kind:?}");
        assert_eq!(reason(&reset(&app, "ada", &code, "a third long one").await.unwrap_err()), "INVALID_CREDENTIALS");
        assert_eq!(app.events.count("password reset"), 1, "{kind:?}");
    }
}

/// So many who have the right code, by turns over the nodes; how many of them set their password.
async fn race(nodes: &Arc<Vec<App>>, code: &str) -> usize {
    let mut racers = JoinSet::new();
    for racer in 0..64 {
        let (nodes, code) = (nodes.clone(), code.to_owned());
        racers.spawn(async move {
            let new = format!("password of racer {racer}");
            loop {
                match reset(&nodes[racer % nodes.len()], "ada", &code, &new).await {
                    Ok(()) => return true,
                    // The hash queue is short.
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

/// T11.
#[tokio::test(flavor = "multi_thread")]
async fn of_64_racers_with_one_code_exactly_one_sets_his_password_and_none_after_a_restart() {
    for (kind, count) in [(StoreKind::Embedded, 1), (StoreKind::Redis, 2)] {
        let place = Place::new(kind);
        let node = || App::with(kind).args(&["--token-issuer", "https://auth.example"]).with_admin();
        let mut nodes = Vec::new();
        for _ in 0..count {
            nodes.push(node().start_in(place.clone()).await);
        }
        nodes[0].registered("ada").await;
        let code = code(&nodes[0], "ada", false).await;
        let nodes = Arc::new(nodes);
        assert_eq!(race(&nodes, &code).await, 1, "{kind:?}");
        for node in Arc::into_inner(nodes).unwrap() {
            node.stopped().await;
        }
        let again = Arc::new(vec![node().start_in(place).await]);
        assert_eq!(race(&again, &code).await, 0, "{kind:?}: after a restart");
    }
}

/// The control of T11: a store that replaces without looking lets several through.
#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_compares_nothing_lets_several_racers_through() {
    let faulty = Faulty::with(Fault::None);
    let nodes = Arc::new(vec![with_ada(App::on(faulty.clone())).await]);
    // On a busy machine one racer may be done before the next begins.
    for _ in 0..20 {
        faulty.set(Fault::None);
        let code = code(&nodes[0], "ada", false).await;
        faulty.set(Fault::ComparesNothing);
        if race(&nodes, &code).await > 1 {
            return;
        }
    }
    panic!("the control shows nothing");
}

/// T3: the bytes. Each refusal costs no hash.
#[tokio::test]
async fn whatever_is_wrong_with_a_code_is_refused_identically_and_without_a_hash() {
    for kind in StoreKind::ALL {
        let app = with_ada(App::with(kind)).await;
        for name in ["without", "expired", "disabled"] {
            app.registered(name).await;
        }
        let expired = code(&app, "expired", false).await;
        app.clock.advance(LIFETIME);
        let [good, disabled] = [code(&app, "ada", false).await, code(&app, "disabled", false).await];
        app.disabled("disabled", true).await;
        let made_later = code(&app, "disabled", false).await;
        let hashed = app.events.count("hashed");
        let mut answers = Vec::new();
        for (name, code) in [
            ("ada", "wwc_AAAAAAAAAAAAAAAAAAAAAA"),
            ("ada", "something else"),
            ("ada", &disabled),
            ("nobody", &good),
            ("without", &good),
            ("expired", &expired),
            ("disabled", &disabled),
            ("disabled", &made_later),
        ] {
            let refused = reset(&app, name, code, "another long one").await.unwrap_err();
            assert_eq!((refused.code(), reason(&refused).as_str()), (Code::Unauthenticated, "INVALID_CREDENTIALS"));
            let mut metadata = refused.metadata().clone().into_headers();
            metadata.remove("date");
            answers.push((refused.message().to_owned(), refused.details().to_vec(), metadata));
        }
        for answer in &answers {
            assert_eq!(answer, &answers[0], "{kind:?}");
        }
        assert_eq!(app.events.count("hashed"), hashed, "{kind:?}");
        reset(&app, "ada", &good, "another long one").await.unwrap();
    }
}

#[tokio::test]
async fn a_code_is_good_until_its_last_second_and_not_after_it() {
    for (after, outcome) in [
        (LIFETIME - Duration::from_secs(1), "ok"),
        (LIFETIME, "INVALID_CREDENTIALS"),
        (LIFETIME + Duration::from_secs(1), "INVALID_CREDENTIALS"),
    ] {
        let app = with_ada(App::with(StoreKind::Memory).clock(ManualClock::stopped())).await;
        let code = code(&app, "ada", false).await;
        app.clock.advance(after);
        let said = reset(&app, "ada", &code, "another long one").await;
        assert_eq!(said.map_or_else(|status| reason(&status), |()| "ok".into()), outcome, "{after:?}");
    }
}

#[tokio::test]
async fn a_newer_code_another_password_and_disabling_make_a_code_void() {
    let app = with_ada(App::with(StoreKind::Memory)).await;
    let older = code(&app, "ada", false).await;
    let newer = code(&app, "ada", false).await;
    assert_ne!(older, newer);
    let refused = async |code: &str| reason(&reset(&app, "ada", code, "another long one").await.unwrap_err());
    assert_eq!(refused(&older).await, "INVALID_CREDENTIALS", "replaced");
    let tokens = app.authenticate("ada").await;
    let change =
        pb::ChangePasswordRequest { current_password: password("ada"), new_password: "a changed long one".into() };
    app.client().await.change_password(crate::session::sessions::with(&tokens.access_token, change)).await.unwrap();
    assert_eq!(refused(&newer).await, "INVALID_CREDENTIALS", "the password was changed");
    let third = code(&app, "ada", false).await;
    app.disabled("ada", true).await;
    app.disabled("ada", false).await;
    assert_eq!(refused(&third).await, "INVALID_CREDENTIALS", "the user was disabled");
    assert_eq!(login(&app, "ada", "a changed long one").await, "ok");
}

#[tokio::test]
async fn what_the_policy_refuses_spends_no_code_and_all_violations_are_said_at_once() {
    let app = with_ada(App::with(StoreKind::Memory)).await;
    let code = code(&app, "ada", false).await;
    for (new, why) in [("short", "TOO_SHORT"), ("password", "TOO_COMMON"), ("ada ada", "TOO_SHORT")] {
        let refused = reset(&app, "ada", &code, new).await.unwrap_err();
        assert_eq!(reason(&refused), "PASSWORD_POLICY");
        let [bad]: [rpc::BadRequest; 1] = details(&refused, "google.rpc.BadRequest").try_into().unwrap();
        assert_eq!(
            (bad.field_violations[0].field.as_str(), bad.field_violations[0].reason.as_str()),
            ("new_password", why)
        );
    }
    let refused = reset(&app, "", "", "").await.unwrap_err();
    let [bad]: [rpc::BadRequest; 1] = details(&refused, "google.rpc.BadRequest").try_into().unwrap();
    let fields: Vec<_> = bad.field_violations.iter().map(|violation| violation.field.as_str()).collect();
    assert_eq!((reason(&refused).as_str(), fields), ("INVALID_FIELD", vec!["username", "reset_code", "new_password"]));
    reset(&app, "ada", &code, "another long one").await.unwrap();
}

#[tokio::test]
async fn a_store_that_fails_spends_no_code() {
    let faulty = Faulty::with(Fault::None);
    let app = with_ada(App::on(faulty.clone())).await;
    let code = code(&app, "ada", false).await;
    for fault in [Fault::Down, Fault::WritesNothing] {
        faulty.set(fault);
        let refused = reset(&app, "ada", &code, "another long one").await.unwrap_err();
        assert_eq!(reason(&refused), "STORE_UNAVAILABLE", "{fault:?}");
    }
    faulty.set(Fault::ReplyLost);
    let refused = reset(&app, "ada", &code, "another long one").await.unwrap_err();
    assert_eq!(reason(&refused), "OUTCOME_UNKNOWN");
    faulty.set(Fault::None);
    assert_eq!(login(&app, "ada", "another long one").await, "ok", "it was written");
    assert_eq!(reason(&reset(&app, "ada", &code, "a third long one").await.unwrap_err()), "INVALID_CREDENTIALS");
}

/// T9: recovery stays open while somebody guesses, at passwords and at codes.
#[tokio::test(flavor = "multi_thread")]
async fn wrong_codes_are_limited_apart_from_passwords_and_the_right_one_passes_all_the_same() {
    let app = with_ada(App::with(StoreKind::Memory).args(&[
        "--throttle",
        "on",
        "--throttle-per-address",
        "12/10m",
        "--trusted-proxy",
        "127.0.0.1",
    ]))
    .await;
    let code = code(&app, "ada", false).await;
    let here = "203.0.113.7";
    for name in ["ada", "nobody"] {
        let mut outcomes = Vec::new();
        for _ in 0..6 {
            outcomes.push(reset_from(&app, here, name, "wwc_wrong").await);
        }
        let wrong = "INVALID_CREDENTIALS";
        assert_eq!(outcomes, [wrong, wrong, wrong, wrong, wrong, "RATE_LIMITED"], "{name}: at one account");
    }
    for (name, outcome) in
        [("third", "INVALID_CREDENTIALS"), ("fourth", "INVALID_CREDENTIALS"), ("fifth", "RATE_LIMITED")]
    {
        assert_eq!(reset_from(&app, here, name, "wwc_wrong").await, outcome, "{name}: of one address");
    }
    assert_eq!(reset_from(&app, "203.0.113.8", "ada", "wwc_wrong").await, "INVALID_CREDENTIALS", "of nobody else's");
    let mut passwords = Request::new(pb::LoginRequest {
        username: "ada".into(),
        password: "a wrong guess".into(),
        challenge_solution: String::new(),
    });
    passwords.metadata_mut().insert("x-forwarded-for", here.parse().unwrap());
    let refused = app.client().await.login(passwords).await.unwrap_err();
    assert_eq!(reason(&refused), "INVALID_CREDENTIALS", "wrong codes are no wrong passwords");
    assert_eq!(reset_from(&app, here, "ada", &code).await, "ok", "the right one");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_victim_who_is_locked_out_resets_his_password_and_is_in_on_every_node() {
    for strict in [&["--failure-cap", "10"][..], &["--failure-cap", "10", "--failure-cap-strict", "true"]] {
        let (flags, is_strict) = (&strict[..2], strict.len() > 2);
        let place = Place::new(StoreKind::Redis);
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
        for guess in 0..10 {
            assert_eq!(login(&one, "ada", &format!("wrong guess {guess}")).await, "INVALID_CREDENTIALS");
        }
        one.rules.store_failed_attempts().await;
        let locked = if is_strict { "INVALID_CREDENTIALS" } else { "CHALLENGE_REQUIRED" };
        for node in [&one, &other] {
            assert_eq!(login(node, "ada", &password("ada")).await, locked);
        }
        let code = code(&other, "ada", false).await;
        reset(&one, "ada", &code, "another long one").await.unwrap();
        for node in [&one, &other] {
            assert_eq!(login(node, "ada", "another long one").await, "ok", "strict: {is_strict}");
        }
    }
}

/// T15.
#[tokio::test]
async fn a_password_that_is_no_longer_trusted_opens_nothing_and_its_sessions_are_over_on_every_node() {
    let place = Place::new(StoreKind::Redis);
    let node = || App::with(StoreKind::Redis).args(&["--token-issuer", "https://auth.example"]).with_admin();
    let (one, other) = (node().start_in(place.clone()).await, node().start_in(place).await);
    for how in ["disable", "require reset", "reset"] {
        let name = how.replace(' ', "-");
        one.registered(&name).await;
        let tokens = one.authenticate(&name).await;
        for node in [&one, &other] {
            assert!(node.introspect(&tokens.access_token).await.active);
        }
        let code = code(&one, &name, how == "require reset").await;
        match how {
            "disable" => one.disabled(&name, true).await,
            "reset" => reset(&one, &name, &code, "another long one").await.unwrap(),
            _ => {}
        }
        assert!(!one.introspect(&tokens.access_token).await.active, "{how}: at once where it was done");
        other.clock.advance(CHECK_REUSE);
        assert!(!other.introspect(&tokens.access_token).await.active, "{how}: within a second elsewhere");
        for node in [&one, &other] {
            assert_eq!(login(node, &name, &password(&name)).await, "INVALID_CREDENTIALS", "{how}");
            let refresh = pb::RefreshTokenRequest { refresh_token: tokens.refresh_token.clone() };
            assert_eq!(
                reason(&node.client().await.refresh_token(refresh).await.unwrap_err()),
                "TOKEN_REVOKED",
                "{how}"
            );
        }
        if how == "require reset" {
            reset(&other, &name, &code, "another long one").await.unwrap();
            assert_eq!(login(&one, &name, "another long one").await, "ok");
        }
    }
}

#[tokio::test]
async fn a_code_opens_no_other_account_not_even_that_of_who_has_the_name_next() {
    let place = Place::new(StoreKind::Redis);
    let app = App::with(StoreKind::Redis).with_admin().start_in(place.clone()).await;
    app.registered("ada").await;
    app.registered("bob").await;
    let of_ada = code(&app, "ada", false).await;
    // Somebody who can write to the store moves what is kept of it.
    let [ada, mut bob] = ["ada", "bob"].map(|name| serde_json::from_str::<Value>(&place.kept(name)).unwrap());
    bob["reset"] = ada["reset"].clone();
    place.plant("bob", bob.to_string().as_bytes());
    let refused = reset(&app, "bob", &of_ada, "another long one").await.unwrap_err();
    assert_eq!(reason(&refused), "INVALID_CREDENTIALS");

    let mut delete = Request::new(pb::DeleteUserRequest { current_password: password("ada") });
    let bearer = format!("Bearer {}", app.authenticate("ada").await.access_token);
    delete.metadata_mut().insert("authorization", bearer.parse().unwrap());
    app.client().await.delete_user(delete).await.unwrap();
    app.registered("ada").await;
    let refused = reset(&app, "ada", &of_ada, "another long one").await.unwrap_err();
    assert_eq!(reason(&refused), "INVALID_CREDENTIALS");
    assert_eq!(login(&app, "ada", &password("ada")).await, "ok");
}

#[tokio::test]
async fn a_code_made_while_a_user_is_disabled_is_void_when_that_ends() {
    for kind in StoreKind::ALL {
        for disabled_again in [false, true] {
            let app = with_ada(App::with(kind)).await;
            app.disabled("ada", true).await;
            let code = code(&app, "ada", false).await;
            if disabled_again {
                app.disabled("ada", true).await;
            }
            app.disabled("ada", false).await;
            let refused = reset(&app, "ada", &code, "another long one").await.unwrap_err();
            assert_eq!(reason(&refused), "INVALID_CREDENTIALS", "{kind:?}");
        }
    }
}

/// Whoever knew the password before may have signed in from anywhere.
#[tokio::test(flavor = "multi_thread")]
async fn after_a_reset_no_address_is_known_any_more() {
    let app = with_ada(App::with(StoreKind::Memory).args(&["--throttle", "on"])).await;
    let login_from = async |host: u8, password: &str| {
        let target = format!("/login?{}", query(&[("username", "ada"), ("password", password)]));
        http_from([127, 7, 7, host], app.http_socket(), "GET", &target).await.status
    };
    let (thief, others) = (1, 2..5);
    let wrong_from_others = async || {
        for host in others.clone() {
            for guess in 0..5 {
                login_from(host, &format!("wrong guess {guess}")).await;
            }
        }
    };
    assert_eq!(login_from(thief, &password("ada")).await, 200);
    wrong_from_others().await;
    assert_eq!(login_from(thief, "a guess").await, 200, "from there the account's limit does not hold");
    let code = code(&app, "ada", false).await;
    reset(&app, "ada", &code, "another long one").await.unwrap();
    app.clock.advance(Duration::from_secs(600));
    wrong_from_others().await;
    assert_eq!(login_from(thief, "a guess").await, 429);
}
