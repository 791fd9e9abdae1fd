//! What an attempt with a password shows, parsed: at a login, and in a session.

use crate::domain::{
    error::{Check, Error},
    model::{Password, Username},
    violation::Violation,
};

/// A username and a password to verify. The password policy does not apply: the user may have an older password that it now
/// forbids.
#[derive(Debug)]
pub struct Credentials {
    pub(super) username: Username,
    pub(in crate::domain) password: Password,
    /// A proof of work; empty when none came.
    pub(super) solution: String,
}

impl Credentials {
    /// Parses a request, or names all its violations at once.
    pub fn parse(username: &str, password: String) -> Result<Self, Error> {
        let mut check = Check::default();
        let username = check.field(Username::parse(username));
        let password = check.field(Password::parse(password));
        check.done()?;
        match (username, password) {
            (Some(username), Some(password)) => Ok(Self { username, password, solution: String::new() }),
            _ => unreachable!("a part is missing only after a violation"),
        }
    }

    /// The same with a proof of work; an empty one is none.
    pub fn with_solution(self, solution: String) -> Self {
        Self { solution, ..self }
    }
}

/// The password that an authenticated user shows again.
#[derive(Debug)]
pub struct CurrentPassword {
    pub(in crate::domain) password: Password,
    /// A proof of work; empty when none came.
    pub(in crate::domain) solution: String,
}

impl CurrentPassword {
    /// Parses the field `current_password`.
    pub fn parse(password: String) -> Result<Self, Violation> {
        let password = Password::parse(password).map_err(|fault| fault.of("current_password"))?;
        Ok(Self { password, solution: String::new() })
    }

    /// The same with a proof of work; an empty one is none.
    pub fn with_solution(self, solution: String) -> Self {
        Self { solution, ..self }
    }
}
