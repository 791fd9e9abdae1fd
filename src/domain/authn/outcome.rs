//! How an attempt settled, and why it failed: for the audit log and never for an answer.

use crate::domain::{abuse::Lock, event::Refusal, model::User, ports::Stored};

/// How an attempt settled. `R` is why the factor refuses.
#[must_use]
pub(in crate::domain) enum Outcome<R> {
    /// The factor proved the identity of this user.
    Succeeded(Box<Stored<User>>),
    /// It did not.
    Failed(R),
}

/// Why a password does not authenticate, if it does not. `matches` is whether it is the user's password.
pub(super) fn refusal(user: Option<&User>, lock: Lock, matches: bool) -> Option<Refusal> {
    let Some(user) = user else { return Some(Refusal::UnknownUser) };
    if user.disabled {
        return Some(Refusal::Disabled(user.id));
    }
    if lock == Lock::Locked {
        return Some(Refusal::Locked(user.id));
    }
    if user.password.is_none() {
        return Some(Refusal::NoPassword(user.id));
    }
    (!matches).then_some(Refusal::WrongPassword(user.id))
}
