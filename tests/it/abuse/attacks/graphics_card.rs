//! An attacker with a graphics card, who sends passwords with proof of work at the victim's account.
//!
//! The card is simulated: each solution takes from its budget what the challenge asks for, and is then found at once, because
//! the basic work of the simulation is tiny. The attacker uses the rules as well as possible: challenges are requested in
//! advance, while they are cheap, and no solution is sent while a limit would refuse it.

use std::{collections::VecDeque, time::Duration};

use watchword::api::rpc;

use super::{
    attack::botnet,
    outcome::Attempts,
    people::VICTIM,
    service::{Answer, Login, Service, UnsolvedChallenge},
};
use crate::{
    abuse::proof_of_work::solution_of,
    support::{details, reason},
};

/// Basic works of an RTX 4090 in a second (`docs/security/brute-force.md`).
const WORKS_A_SECOND: u64 = 1_360;

/// What the limit of attempts with proof of work admits in an hour: a thousand at once, then a thousand a day.
pub const CARD_ATTEMPTS_MAX: u32 = 1_000 + 1_000 / 24;

/// Of all attempts at an account, right or wrong, 300 a minute are admitted.
const ATTEMPTS_A_SECOND: u32 = 5;

/// Seconds from one attempt to the next where the limit of attempts with proof of work is used up: a thousandth of a day.
const LIMIT_INTERVAL: u32 = 87;

/// Challenges in advance. The price doubles with each hundred failed attempts, and may be one doubling behind.
const IN_ADVANCE: usize = 100;

/// How long the attacker waits when the price of the account is too high for challenges of any account.
const PRICE_WAIT: u32 = 60;

/// Which challenges the attacker requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Challenges {
    OfTheAccount,
    OfAnyAccount,
}

/// The card and the challenges in advance.
#[derive(Clone)]
pub struct GraphicsCard {
    challenges: Challenges,
    in_advance: VecDeque<UnsolvedChallenge>,
    waits_until: u32,
    /// Whether the limit of attempts with proof of work was met.
    is_at_the_limit: bool,
}

impl GraphicsCard {
    pub fn new(challenges: Challenges) -> Self {
        Self { challenges, in_advance: VecDeque::new(), waits_until: 0, is_at_the_limit: false }
    }

    /// Sends all attempts of one second that the card can prove and that no limit refuses.
    pub async fn second(&mut self, service: &Service, second: u32, attempts: &mut Attempts) {
        let budget = WORKS_A_SECOND * u64::from(second + 1);
        for _ in 0..ATTEMPTS_A_SECOND {
            if second < self.waits_until {
                return;
            }
            self.request_in_advance(service).await;
            let next = self.in_advance.front().expect("challenges were requested");
            if attempts.works + next.works > budget {
                return;
            }
            let next = self.in_advance.pop_front().expect("it has a first one");
            attempts.works += next.works;
            self.send(service, second, &next, attempts).await;
        }
    }

    /// Requests challenges until there are enough. The older ones are cheaper, unless the price has fallen.
    async fn request_in_advance(&mut self, service: &Service) {
        self.in_advance.retain(|challenge| service.is_valid(challenge));
        while self.in_advance.len() < IN_ADVANCE {
            let username = match self.challenges {
                Challenges::OfTheAccount => VICTIM,
                Challenges::OfAnyAccount => "",
            };
            let new = service.challenge(username).await;
            self.in_advance.retain(|older| older.works <= new.works);
            self.in_advance.push_back(new);
        }
    }

    async fn send(&mut self, service: &Service, second: u32, challenge: &UnsolvedChallenge, attempts: &mut Attempts) {
        let (from, solution) = (botnet(attempts.sent), solution_of(&challenge.challenge));
        let password = format!("wrong password {}", attempts.sent);
        let login = Login { from: from.as_deref(), username: VICTIM, password: &password, solution: &solution };
        let answer = service.login(login).await;
        attempts.count(VICTIM, matches!(answer, Answer::Wrong));
        let Answer::Refused(status) = answer else {
            if self.is_at_the_limit {
                self.waits_until = second + LIMIT_INTERVAL;
            }
            return;
        };
        match (reason(&status).as_str(), self.challenges) {
            ("RATE_LIMITED", _) => {
                self.is_at_the_limit = true;
                let retry: Vec<rpc::RetryInfo> = details(&status, "google.rpc.RetryInfo");
                let wait: Duration = retry[0].retry_delay.unwrap().try_into().unwrap();
                self.waits_until = second + u32::try_from(wait.as_millis().div_ceil(1_000)).unwrap();
            }
            // The price has risen by more than one doubling since the challenges were requested.
            ("CHALLENGE_REQUIRED", Challenges::OfTheAccount) => self.in_advance.clear(),
            ("CHALLENGE_REQUIRED", Challenges::OfAnyAccount) => self.waits_until = second + PRICE_WAIT,
            (other, _) => panic!("{other}"),
        }
    }
}
