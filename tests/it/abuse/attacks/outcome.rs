//! What a simulation counts.

use std::{collections::HashMap, fmt};

/// How the victim gets in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// The password alone, from an address that the user has not logged in from.
    NewAddress,
    /// A proof of work, where the password alone was refused.
    ProofOfWork,
    /// The password alone from home.
    FamiliarAddress,
    /// A refresh, and the password shown in the session.
    Session,
}

/// Successes of so many.
#[derive(Debug, Clone, Copy, Default)]
pub struct Successes {
    pub right: u32,
    pub tried: u32,
}

/// The successes of the victim.
#[derive(Default)]
pub struct ByWay([Successes; 4]);

/// The attempts of the attacker.
#[derive(Default)]
pub struct Attempts {
    pub sent: u32,
    /// Basic works of the solutions that were computed for them.
    pub works: u64,
    verified: HashMap<String, u32>,
}

/// The figures of a simulation.
#[derive(Default)]
pub struct Outcome {
    pub attempts: Attempts,
    pub victim: ByWay,
    /// Logins of honest users with the right password.
    pub honest: Successes,
    /// How many of them needed proof of work.
    pub honest_with_work: u32,
    /// The records of failed attempts, when there are most of them, and their bytes.
    pub records: (usize, usize),
}

impl Successes {
    pub fn count(&mut self, is_right: bool) {
        self.tried += 1;
        self.right += u32::from(is_right);
    }

    /// Whether there were any, and each succeeded.
    pub fn is_all(self) -> bool {
        self.tried > 0 && self.right == self.tried
    }
}

impl fmt::Display for Successes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { right, tried } = self;
        if *tried == 0 { f.write_str("–") } else { write!(f, "{right} of {tried}") }
    }
}

impl ByWay {
    pub fn of(&self, way: Way) -> Successes {
        self.0[way as usize]
    }

    pub fn count(&mut self, way: Way, is_right: bool) {
        self.0[way as usize].count(is_right);
    }
}

impl Attempts {
    /// Counts an attempt, and whether its password was verified.
    pub fn count(&mut self, username: &str, is_verified: bool) {
        self.sent += 1;
        if is_verified {
            *self.verified.entry(username.into()).or_default() += 1;
        }
    }

    /// Attempts whose password was verified.
    pub fn verified(&self) -> u32 {
        self.verified.values().sum()
    }

    /// The most at one account.
    pub fn at_one_account(&self) -> u32 {
        self.verified.values().copied().max().unwrap_or_default()
    }
}
