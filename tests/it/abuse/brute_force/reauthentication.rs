//! Calls in a session that verify the password again: their limits, and the proof of work that opens them.

use tonic::Status;
use watchword::api::pb;

use super::{RATE_LIMITS, outcome, rate_limit_of, with_lowest_lockout_threshold, with_rate_limits};
use crate::{
    abuse::proof_of_work::{LOGIN, REGISTER, challenge_for, solution, solution_of},
    support::{App, StoreKind, password, with_bearer},
};

/// A call in a session that verifies the password.
#[derive(Debug, Clone, Copy)]
enum PasswordCall {
    ChangePassword,
    DeleteUser,
    RevokeAllSessions,
}

impl PasswordCall {
    const ALL: [Self; 3] = [Self::ChangePassword, Self::DeleteUser, Self::RevokeAllSessions];

    async fn send(self, app: &App, token: &str, current: &str, challenge_solution: String) -> Result<(), Status> {
        let (mut client, current_password) = (app.client().await, current.to_owned());
        match self {
            Self::ChangePassword => {
                let new_password = "a changed long one".into();
                let request = pb::ChangePasswordRequest { current_password, new_password, challenge_solution };
                client.change_password(with_bearer(token, request)).await.map(drop)
            }
            Self::DeleteUser => {
                let request = pb::DeleteUserRequest { current_password, challenge_solution };
                client.delete_user(with_bearer(token, request)).await.map(drop)
            }
            Self::RevokeAllSessions => {
                let keep_current = true;
                let request = pb::RevokeAllSessionsRequest { keep_current, current_password, challenge_solution };
                client.revoke_all_sessions(with_bearer(token, request)).await.map(drop)
            }
        }
    }
}

/// Sends so many wrong passwords in a session, all of which are verified.
pub async fn wrong_passwords_in_session(app: &App, token: &str, count: usize) {
    for number in 0..count {
        let call = PasswordCall::ALL[number % PasswordCall::ALL.len()];
        let wrong = call.send(app, token, "wrong", String::new()).await;
        assert_eq!(outcome(&wrong), "INVALID_CREDENTIALS", "{number}");
    }
}

/// A session of a new user in which so many wrong passwords were sent.
async fn session_after_wrong_passwords(app: &App, name: &str, count: usize) -> String {
    app.registered(name).await;
    let token = app.authenticate(name).await.access_token;
    wrong_passwords_in_session(app, &token, count).await;
    token
}

/// Ten failed attempts lock the account for familiar addresses and sessions, and ten more for all others.
#[tokio::test(flavor = "multi_thread")]
async fn locked_session_asks_for_proof_of_work_and_a_solution_opens_every_call() {
    for kind in StoreKind::ALL {
        let app = with_lowest_lockout_threshold(kind).start().await;
        for call in PasswordCall::ALL {
            for is_named in [true, false] {
                let name = format!("{call:?}-{is_named}").to_lowercase();
                let token = session_after_wrong_passwords(&app, &name, 20).await;
                let right = password(&name);
                let without = call.send(&app, &token, &right, String::new()).await;
                assert_eq!(outcome(&without), "CHALLENGE_REQUIRED", "{kind:?}, {name}");
                let proof = async || match is_named {
                    true => solution_of(&challenge_for(&app, &name).await),
                    false => solution(&app, LOGIN).await,
                };
                let wrong = call.send(&app, &token, "wrong", proof().await).await;
                assert_eq!(outcome(&wrong), "INVALID_CREDENTIALS", "{kind:?}, {name}");
                let opened = call.send(&app, &token, &right, proof().await).await;
                assert_eq!(outcome(&opened), "ok", "{kind:?}, {name}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn session_at_its_limit_is_opened_by_proof_of_work_which_has_a_limit_of_its_own() {
    let limit = ["--throttle-proof-of-work-per-account", "4/24h"];
    for call in PasswordCall::ALL {
        let app = with_rate_limits(StoreKind::Memory).args(&limit).start().await;
        let token = session_after_wrong_passwords(&app, "ada", 5).await;
        let refused = call.send(&app, &token, &password("ada"), String::new()).await.unwrap_err();
        assert_eq!(rate_limit_of(&refused).0, "address_and_account", "{call:?}");
        for number in 0..4 {
            let proof = solution_of(&challenge_for(&app, "ada").await);
            let wrong = call.send(&app, &token, "wrong", proof).await;
            assert_eq!(outcome(&wrong), "INVALID_CREDENTIALS", "{call:?}, {number}");
        }
        let proof = solution_of(&challenge_for(&app, "ada").await);
        let error = call.send(&app, &token, &password("ada"), proof).await.unwrap_err();
        assert_eq!(rate_limit_of(&error).0, "proof_of_work", "{call:?}");
        app.clock.advance(std::time::Duration::from_secs(6 * 3_600));
        let token = app.authenticate("ada").await.access_token;
        let proof = solution_of(&challenge_for(&app, "ada").await);
        call.send(&app, &token, &password("ada"), proof).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn solution_for_something_else_opens_no_session_and_costs_no_hash() {
    let app = App::with(StoreKind::Memory).args(&RATE_LIMITS).start().await;
    app.registered("ada").await;
    let token = app.authenticate("ada").await.access_token;
    let spent = solution(&app, LOGIN).await;
    PasswordCall::RevokeAllSessions.send(&app, &token, &password("ada"), spent.clone()).await.unwrap();
    let hashed = app.events.count("hashed");
    for call in PasswordCall::ALL {
        let (of_bob, of_register) = (challenge_for(&app, "bob").await, solution(&app, REGISTER).await);
        for proof in [spent.clone(), solution_of(&of_bob), of_register, "no solution".into()] {
            let refused = call.send(&app, &token, &password("ada"), proof).await;
            assert_eq!(outcome(&refused), "CHALLENGE_INVALID", "{call:?}");
        }
    }
    assert_eq!(app.events.count("hashed"), hashed);
}

/// The session began with a login, of which the proof of work was asked.
#[tokio::test(flavor = "multi_thread")]
async fn session_needs_no_solution_where_every_login_does() {
    for call in PasswordCall::ALL {
        let app = App::with(StoreKind::Memory).args(&["--challenge", "login"]).start().await;
        app.registered("ada").await;
        let proof = solution(&app, LOGIN).await;
        let (username, password) = ("ada".to_owned(), password("ada"));
        let request = pb::LoginRequest { username, password: password.clone(), challenge_solution: proof };
        let tokens = app.client().await.login(request).await.unwrap().into_inner().tokens.unwrap();
        call.send(&app, &tokens.access_token, &password, String::new()).await.unwrap();
    }
}
