//! Violations: what is wrong with a field of a request, for programs and for people.
//!
//! A violation never contains the value of the field, which may be a secret.

/// All violations of a request. Never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violations(pub(in crate::domain) Vec<Violation>);

/// One violation of one field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// The name of the field in the contract.
    pub field: &'static str,
    /// The reason, for programs.
    pub reason: Reason,
    /// The reason and what to do, for people. A sentence without its subject.
    pub description: String,
}

/// Why a field is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// Missing or empty.
    Required,
    /// Fewer code points than the policy requires.
    TooShort,
    /// More code points or bytes than allowed.
    TooLong,
    /// One of the most common passwords.
    TooCommon,
    /// A password on the operator's list.
    Blocklisted,
    /// The password consists of a context word.
    ContextWord,
    /// The password consists of the username.
    EqualsUsername,
    /// The new password is the current one.
    EqualsCurrent,
    /// A character that is forbidden in usernames.
    ForbiddenCharacter,
    /// Letters of scripts that must not be mixed.
    MixedScripts,
    /// Looks like Latin letters, but contains none.
    LooksLatin,
    /// Looks like a name of another script.
    LookAlike,
    /// Has no stable canonical form.
    Unstable,
    /// Not the text form of a UUID.
    NotAUuid,
    /// Not in the form that the protocol requires.
    Malformed,
}

impl Reason {
    /// The name in the contract.
    pub fn name(self) -> &'static str {
        match self {
            Reason::Required => "REQUIRED",
            Reason::TooShort => "TOO_SHORT",
            Reason::TooLong => "TOO_LONG",
            Reason::TooCommon => "TOO_COMMON",
            Reason::Blocklisted => "BLOCKLISTED",
            Reason::ContextWord => "CONTEXT_WORD",
            Reason::EqualsUsername => "EQUALS_USERNAME",
            Reason::EqualsCurrent => "EQUALS_CURRENT",
            Reason::ForbiddenCharacter => "FORBIDDEN_CHARACTER",
            Reason::MixedScripts => "MIXED_SCRIPTS",
            Reason::LooksLatin => "LOOKS_LATIN",
            Reason::LookAlike => "LOOK_ALIKE",
            Reason::Unstable => "UNSTABLE",
            Reason::NotAUuid => "NOT_A_UUID",
            Reason::Malformed => "MALFORMED",
        }
    }
}

impl Violation {
    /// A violation of `field`.
    pub fn new(field: &'static str, reason: Reason, description: impl Into<String>) -> Self {
        Self { field, reason, description: description.into() }
    }

    /// Changes the field.
    pub(crate) fn of(self, field: &'static str) -> Self {
        Self { field, ..self }
    }
}

// === impl Violations ===

impl Violations {
    /// The violations, in the order of the fields in the contract.
    pub fn iter(&self) -> impl Iterator<Item = &Violation> {
        self.0.iter()
    }
}

impl From<Violation> for Violations {
    fn from(violation: Violation) -> Self {
        Violations(vec![violation])
    }
}
