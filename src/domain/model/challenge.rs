//! Challenges of proof of work, as values: what one is for, and why a solution does not count.

use std::time::SystemTime;

/// What a challenge is good for; for nothing else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChallengePurpose {
    /// A registration.
    Register,
    /// A login.
    Login,
}

/// A challenge to solve.
#[derive(Debug)]
pub struct NewChallenge {
    /// The JSON that ALTCHA's widget and libraries take.
    pub text: String,
    /// From then on it is no longer good.
    pub expire_time: SystemTime,
}

/// Why a solution does not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChallengeFault {
    /// More than 4 KiB.
    TooLong,
    /// Not what ALTCHA's widget, version 2 of the protocol, sends for a challenge of ours.
    Malformed,
    /// We did not sign the challenge, or somebody changed it.
    Forged,
    /// Its time is over.
    Expired,
    /// The challenge was made for something else.
    OtherPurpose,
    /// It was presented before.
    Spent,
    /// The key is not the one of the counter, or does not begin as it must.
    Unsolved,
}

impl ChallengePurpose {
    /// The purpose's name in a challenge, and in errors.
    pub fn name(self) -> &'static str {
        match self {
            ChallengePurpose::Register => "register",
            ChallengePurpose::Login => "login",
        }
    }

    /// The purpose of that name.
    pub fn parse(name: &str) -> Option<Self> {
        [ChallengePurpose::Register, ChallengePurpose::Login].into_iter().find(|purpose| purpose.name() == name)
    }
}

impl ChallengeFault {
    /// The fault's name in logs and counters.
    pub fn name(self) -> &'static str {
        match self {
            ChallengeFault::TooLong => "too_long",
            ChallengeFault::Malformed => "malformed",
            ChallengeFault::Forged => "forged",
            ChallengeFault::Expired => "expired",
            ChallengeFault::OtherPurpose => "other_purpose",
            ChallengeFault::Spent => "spent",
            ChallengeFault::Unsolved => "unsolved",
        }
    }
}
