//! The users beside the attacker: honest ones, who log in every three minutes and mistype one login in ten, and the victim.
//!
//! Half of the honest users have registered from home, so it is familiar; the others log in from there for the first time.
//! Every five minutes the victim logs in from a new address and from home, and uses a session. Where the password alone is
//! refused, a client solves a challenge if it is not too much work.

use watchword::api::pb;

use super::{
    attack::Attack,
    outcome::{Outcome, Way},
    service::{Answer, Login, Service},
};
use crate::{
    abuse::proof_of_work::solution_of,
    support::{password, reason},
};

pub const HONEST_USERS: u32 = 20;
pub const VICTIM: &str = "victim";

const HONEST_INTERVAL: u32 = 180;
const VICTIM_INTERVAL: u32 = 300;

/// The most that a client solves: 500 million rounds of 8 192 000 (`src/client/connection/proof_of_work.rs`).
const CLIENT_WORKS_MAX: u64 = 500_000_000 / 8_192_000;

/// The users.
pub struct People {
    home: fn(u32) -> Option<String>,
    honest_logins: u32,
    /// The session of the victim.
    tokens: pb::Tokens,
}

/// How a user got in.
enum Entry {
    PasswordAlone,
    ProofOfWork,
    Refused,
}

pub fn honest_name(user: u32) -> String {
    format!("user{user}")
}

impl People {
    /// Registers all, and begins the session of the victim.
    pub async fn registered(service: &Service, attack: &Attack) -> Self {
        let home = attack.home;
        for user in 0..HONEST_USERS {
            let elsewhere = home(user).map(|_| format!("192.0.2.{user}"));
            let from = if user % 2 == 0 { home(user) } else { elsewhere };
            service.register(from.as_deref(), &honest_name(user)).await;
        }
        let from = home(HONEST_USERS);
        service.register(from.as_deref(), VICTIM).await;
        let right = password(VICTIM);
        let login = Login { from: from.as_deref(), username: VICTIM, password: &right, solution: "" };
        let Answer::LoggedIn(tokens) = service.login(login).await else { panic!("there is no attack yet") };
        Self { home, honest_logins: 0, tokens: *tokens }
    }

    /// What the users do in one second.
    pub async fn second(&mut self, service: &Service, second: u32, outcome: &mut Outcome) {
        for user in 0..HONEST_USERS {
            if (second + user * HONEST_INTERVAL / HONEST_USERS).is_multiple_of(HONEST_INTERVAL) {
                self.honest_login(service, user, outcome).await;
            }
        }
        if Self::is_victim_due(second) {
            self.victim(service, second / VICTIM_INTERVAL, outcome).await;
        }
    }

    /// Whether the victim logs in in this second.
    pub fn is_victim_due(second: u32) -> bool {
        (second + 1).is_multiple_of(VICTIM_INTERVAL)
    }

    async fn honest_login(&mut self, service: &Service, user: u32, outcome: &mut Outcome) {
        let (from, username) = ((self.home)(user), honest_name(user));
        let number = self.honest_logins;
        self.honest_logins += 1;
        // The round is added so that it is not always the same users who mistype.
        if (number + number / HONEST_USERS).is_multiple_of(10) {
            let login = Login { from: from.as_deref(), username: &username, password: "mistyped", solution: "" };
            assert!(!matches!(service.login(login).await, Answer::LoggedIn(_)));
        }
        let entry = log_in(service, from.as_deref(), &username).await;
        outcome.honest.count(!matches!(entry, Entry::Refused));
        outcome.honest_with_work += u32::from(matches!(entry, Entry::ProofOfWork));
    }

    async fn victim(&mut self, service: &Service, round: u32, outcome: &mut Outcome) {
        let home = (self.home)(HONEST_USERS);
        let new_address = home.as_ref().map(|_| format!("198.51.100.{}", 100 + round));
        let familiar = home.iter().map(|home| (Some(home.clone()), Way::FamiliarAddress));
        for (from, way) in [(new_address, Way::NewAddress)].into_iter().chain(familiar) {
            let entry = log_in(service, from.as_deref(), VICTIM).await;
            outcome.victim.count(way, matches!(entry, Entry::PasswordAlone));
            if !matches!(entry, Entry::PasswordAlone) {
                outcome.victim.count(Way::ProofOfWork, matches!(entry, Entry::ProofOfWork));
            }
        }
        let used = service.use_session(home.as_deref(), &self.tokens, VICTIM).await;
        outcome.victim.count(Way::Session, used.is_ok());
        if let Ok(tokens) = used {
            self.tokens = tokens;
        }
    }
}

/// Logs in, with proof of work where the password alone is refused.
async fn log_in(service: &Service, from: Option<&str>, username: &str) -> Entry {
    let password = password(username);
    let login = Login { from, username, password: &password, solution: "" };
    match service.login(login).await {
        Answer::LoggedIn(_) => return Entry::PasswordAlone,
        Answer::Wrong => panic!("the password is right"),
        Answer::Refused(status) => {
            let reason = reason(&status);
            assert!(["RATE_LIMITED", "CHALLENGE_REQUIRED"].contains(&reason.as_str()), "{reason}");
        }
    }
    let challenge = service.challenge(username).await;
    if challenge.works > CLIENT_WORKS_MAX {
        return Entry::Refused;
    }
    let solution = solution_of(&challenge.challenge);
    match service.login(Login { solution: &solution, ..login }).await {
        Answer::LoggedIn(_) => Entry::ProofOfWork,
        Answer::Wrong => panic!("the password is right"),
        Answer::Refused(_) => Entry::Refused,
    }
}
