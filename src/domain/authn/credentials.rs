//! What an attempt with a password shows, parsed: at a login, and in a session.

use crate::domain::{
    error::{Check, Error},
    model::{Password, Solution, Username},
    violation::Violation,
};

/// A username and a password to verify. The password policy does not apply: the user may have an older password that it now
/// forbids.
#[derive(Debug)]
pub struct Credentials {
    pub(super) username: Username,
    pub(in crate::domain) password: Password,
    /// A proof of work, if one came.
    pub(super) solution: Option<Solution>,
}

impl Credentials {
    /// Parses a request, or names all its violations at once.
    pub fn parse(username: &str, password: String, solution: Option<Solution>) -> Result<Self, Error> {
        let mut check = Check::default();
        let username = check.field(Username::parse(username));
        let password = check.field(Password::parse(password));
        check.done()?;
        match (username, password) {
            (Some(username), Some(password)) => Ok(Self { username, password, solution }),
            _ => unreachable!("a part is missing only after a violation"),
        }
    }
}

/// The password that an authenticated user shows again.
#[derive(Debug)]
pub struct CurrentPassword {
    pub(in crate::domain) password: Password,
    /// A proof of work, if one came.
    pub(in crate::domain) solution: Option<Solution>,
}

impl CurrentPassword {
    /// Parses the field `current_password`.
    pub fn parse(password: String, solution: Option<Solution>) -> Result<Self, Violation> {
        let password = Password::parse(password).map_err(|fault| fault.of("current_password"))?;
        Ok(Self { password, solution })
    }
}
