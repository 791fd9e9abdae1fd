//! The state of an account: whether and how the user can log in, and the reason for operators.

use crate::domain::{
    abuse::RateLimitSettings,
    model::{ConsecutiveFailures, Evidence, User},
};

/// The state of an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AccountState {
    /// The user can log in with the password.
    Active,
    /// An operator has disabled it.
    Disabled,
    /// Too many consecutive failed attempts.
    Locked {
        /// Whether the lockout also applies to familiar addresses.
        strict: bool,
    },
    /// No password is valid until one is set with a reset code.
    ResetRequired,
}

impl AccountState {
    /// The state of an account with these consecutive failed attempts. If several apply, the most restrictive one.
    pub fn of(user: &User, failures: &ConsecutiveFailures, limits: Option<&RateLimitSettings>) -> Self {
        let lockout = limits.filter(|settings| settings.is_locked(failures, Evidence::None));
        match lockout {
            _ if user.disabled => AccountState::Disabled,
            _ if user.password.is_none() => AccountState::ResetRequired,
            Some(settings) => AccountState::Locked { strict: settings.lockout_is_strict },
            None => AccountState::Active,
        }
    }

    /// The reason and what ends the state, for people. Empty for an active account.
    pub fn reason(self) -> &'static str {
        match self {
            AccountState::Active => "",
            AccountState::Disabled => "disabled by an operator, until one enables it",
            AccountState::Locked { strict: false } => {
                "too many consecutive failed attempts: the password is accepted only from familiar addresses or with proof of \
                 work, until it is reset or an operator unlocks the account"
            }
            AccountState::Locked { strict: true } => {
                "too many consecutive failed attempts: no password is accepted until it is reset or an operator unlocks the account"
            }
            AccountState::ResetRequired => "no password is valid until one is set with a reset code",
        }
    }
}
