//! Proof-of-work challenges as values: the purpose of a challenge, its solution, and why a solution is refused.

use std::{fmt, time::SystemTime};

use super::Username;
use crate::domain::violation::Violation;

/// The call that a challenge is valid for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChallengePurpose {
    /// A registration.
    Register,
    /// A login.
    Login,
}

/// What a challenge is asked for.
#[derive(Debug)]
pub enum WantedChallenge {
    /// A registration.
    Register,
    /// A login at this account, or at any.
    Login(Option<Username>),
}

/// A challenge to solve.
#[derive(Debug)]
pub struct NewChallenge {
    /// The JSON for the ALTCHA widget and libraries.
    pub text: String,
    /// When it expires.
    pub expire_time: SystemTime,
}

/// The solution of a challenge, as it came: nothing of it is checked. It is never printed.
pub struct Solution(String);

/// Why a solution is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChallengeFault {
    /// More than 4 KiB.
    TooLong,
    /// Not a solution of an issued challenge in version 2 of the ALTCHA protocol.
    Malformed,
    /// No key of the key ring signed the challenge, or it was changed.
    Forged,
    /// It has expired.
    Expired,
    /// The challenge is for another purpose.
    OtherPurpose,
    /// The challenge is for another username.
    OtherAccount,
    /// It was used before.
    Spent,
    /// The key does not belong to the counter, or does not have the prefix.
    Unsolved,
}

impl ChallengePurpose {
    /// The name in challenges and errors.
    pub fn name(self) -> &'static str {
        match self {
            ChallengePurpose::Register => "register",
            ChallengePurpose::Login => "login",
        }
    }

    /// The purpose with this name.
    pub fn parse(name: &str) -> Option<Self> {
        [ChallengePurpose::Register, ChallengePurpose::Login].into_iter().find(|purpose| purpose.name() == name)
    }
}

impl WantedChallenge {
    /// Parses the username of a challenge for a login; an empty one is none. Other purposes ignore it.
    pub fn parse(purpose: ChallengePurpose, username: &str) -> Result<Self, Violation> {
        match (purpose, username) {
            (ChallengePurpose::Register, _) => Ok(WantedChallenge::Register),
            (ChallengePurpose::Login, "") => Ok(WantedChallenge::Login(None)),
            (ChallengePurpose::Login, username) => Ok(WantedChallenge::Login(Some(Username::parse(username)?))),
        }
    }

    /// The purpose.
    pub fn purpose(&self) -> ChallengePurpose {
        match self {
            WantedChallenge::Register => ChallengePurpose::Register,
            WantedChallenge::Login(_) => ChallengePurpose::Login,
        }
    }
}

impl Solution {
    /// Reads the field of a request; an empty one is none.
    pub fn parse(text: String) -> Option<Self> {
        (!text.is_empty()).then_some(Self(text))
    }

    pub(in crate::domain) fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Solution {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Solution")
    }
}

impl ChallengeFault {
    /// The name in logs and metrics.
    pub fn name(self) -> &'static str {
        match self {
            ChallengeFault::TooLong => "too_long",
            ChallengeFault::Malformed => "malformed",
            ChallengeFault::Forged => "forged",
            ChallengeFault::Expired => "expired",
            ChallengeFault::OtherPurpose => "other_purpose",
            ChallengeFault::OtherAccount => "other_account",
            ChallengeFault::Spent => "spent",
            ChallengeFault::Unsolved => "unsolved",
        }
    }
}
