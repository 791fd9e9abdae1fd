//! What is wrong with a field of a request, for programs and for people.
//!
//! A violation never holds the value of the field, which may be a secret.

/// Everything that is wrong with a request; never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violations(pub(in crate::domain) Vec<Violation>);

/// One thing that is wrong with one field. Never holds the field's value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// The field, as the contract names it.
    pub field: &'static str,
    /// Why, for programs.
    pub reason: Reason,
    /// Why, for people: what to do, without a subject.
    pub description: String,
}

/// Why a field cannot be accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// Missing or empty.
    Required,
    /// Fewer code points than the policy asks for.
    TooShort,
    /// More code points or bytes than are accepted.
    TooLong,
    /// One of the most common passwords.
    TooCommon,
    /// A password on the operator's own list.
    Blocklisted,
    /// The password is no more than a word of the product or of the operator.
    ContextWord,
    /// The password is no more than the username.
    EqualsUsername,
    /// A character that names do not have.
    ForbiddenCharacter,
    /// Letters of scripts that do not go together.
    MixedScripts,
    /// No Latin letter, and yet it reads as ASCII.
    LooksLatin,
    /// Canonicalisation does not settle.
    Unstable,
    /// Not the text form of a UUID.
    NotAUuid,
    /// Not what the protocol asks for.
    Malformed,
}

impl Reason {
    /// The reason's name in the contract.
    pub fn name(self) -> &'static str {
        match self {
            Reason::Required => "REQUIRED",
            Reason::TooShort => "TOO_SHORT",
            Reason::TooLong => "TOO_LONG",
            Reason::TooCommon => "TOO_COMMON",
            Reason::Blocklisted => "BLOCKLISTED",
            Reason::ContextWord => "CONTEXT_WORD",
            Reason::EqualsUsername => "EQUALS_USERNAME",
            Reason::ForbiddenCharacter => "FORBIDDEN_CHARACTER",
            Reason::MixedScripts => "MIXED_SCRIPTS",
            Reason::LooksLatin => "LOOKS_LATIN",
            Reason::Unstable => "UNSTABLE",
            Reason::NotAUuid => "NOT_A_UUID",
            Reason::Malformed => "MALFORMED",
        }
    }
}

impl Violation {
    /// States that `field` cannot be accepted.
    pub fn new(field: &'static str, reason: Reason, description: impl Into<String>) -> Self {
        Self { field, reason, description: description.into() }
    }

    /// The same about another field.
    pub(crate) fn of(self, field: &'static str) -> Self {
        Self { field, ..self }
    }
}

// === impl Violations ===

impl Violations {
    /// Each violation, in the order of the contract's fields.
    pub fn iter(&self) -> impl Iterator<Item = &Violation> {
        self.0.iter()
    }
}

impl From<Violation> for Violations {
    fn from(violation: Violation) -> Self {
        Violations(vec![violation])
    }
}
