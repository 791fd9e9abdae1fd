//! Whether and how a user can sign in, in one place; and why, for operators.

use crate::domain::{abuse::RateLimitSettings, model::User};

/// The state of an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AccountState {
    /// The password opens it.
    Active,
    /// An operator has disabled it.
    Disabled,
    /// Too many passwords in a row were wrong.
    Locked {
        /// The password opens it nowhere, rather than nowhere new.
        strict: bool,
    },
    /// No password counts until one is set with a reset code.
    ResetRequired,
}

impl AccountState {
    /// The state of a user's account, given how many passwords in a row were wrong: the first that holds of those in which
    /// less is possible.
    pub fn of(user: &User, failures: u32, throttle: Option<&RateLimitSettings>) -> Self {
        let cap = throttle.filter(|settings| failures >= settings.lockout_threshold);
        match cap {
            _ if user.disabled => AccountState::Disabled,
            _ if user.password.is_none() => AccountState::ResetRequired,
            Some(settings) => AccountState::Locked { strict: settings.lockout_is_strict },
            None => AccountState::Active,
        }
    }

    /// Why it is so and what ends it, for people; empty while nothing has to end.
    pub fn reason(self) -> &'static str {
        match self {
            AccountState::Active => "",
            AccountState::Disabled => "disabled by an operator, until one enables it",
            AccountState::Locked { strict: false } => {
                "too many wrong passwords in a row: the password opens it only from where the user signed in before, or with \
                 proof of work, until it is reset or an operator unlocks it"
            }
            AccountState::Locked { strict: true } => {
                "too many wrong passwords in a row: the password opens it nowhere until it is reset or an operator unlocks it"
            }
            AccountState::ResetRequired => "no password counts until one is set with a reset code",
        }
    }
}
