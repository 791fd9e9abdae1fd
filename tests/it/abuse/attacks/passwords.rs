//! An attacker who sends passwords without proof of work: a burst, and then the others evenly over the time.

use super::{
    outcome::Attempts,
    service::{Answer, Login, Service},
};

/// Attempts in the first second.
const BURST: u32 = 100;

/// What the attacker sends in the hour.
#[derive(Clone, Copy)]
pub struct Passwords {
    attempts: u32,
    /// The address from which each attempt comes.
    source: fn(u32) -> Option<String>,
    /// The username of each attempt.
    target: fn(u32) -> String,
    sent: u32,
}

impl Passwords {
    /// So many attempts.
    pub fn of(attempts: u32, source: fn(u32) -> Option<String>, target: fn(u32) -> String) -> Option<Self> {
        Some(Self { attempts, source, target, sent: 0 })
    }

    /// Sends the attempts of one second.
    pub async fn second(&mut self, service: &Service, second: u32, scale: u32, attempts: &mut Attempts) {
        let later = u64::from(self.attempts / scale - BURST) * u64::from(second + 1) / 3_600;
        let due = BURST + u32::try_from(later).unwrap();
        while self.sent < due {
            let number = self.sent;
            self.sent += 1;
            let (from, username) = ((self.source)(number), (self.target)(number));
            let password = format!("wrong password {number}");
            let login = Login { from: from.as_deref(), username: &username, password: &password, solution: "" };
            let answer = service.login(login).await;
            attempts.count(&username, matches!(answer, Answer::Wrong));
        }
    }
}
