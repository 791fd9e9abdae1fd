//! One row of the error table, before a protocol encodes it.

use std::time::Duration;

use tonic::Code;

use crate::{
    api::{pb::ErrorReason, rpc},
    domain::{ChallengePurpose, ErrorId, Limit, Violations},
};

/// Violations in one answer at most. More would exceed the header limits of some proxies.
const VIOLATIONS_MAX: usize = 16;

/// How one error looks in every protocol.
#[derive(Debug)]
pub struct ErrorRow {
    /// The gRPC code.
    pub code: Code,
    /// The HTTP status.
    pub http: u16,
    /// The reason, without the prefix of the enum.
    pub reason: &'static str,
    /// What the caller should do, for people. Holds no secret.
    pub text: String,
    /// The wait before a retry, where a retry is safe.
    pub retry_after: Option<Duration>,
    pub(super) violations: Vec<rpc::bad_request::FieldViolation>,
    pub(super) precondition: Option<rpc::precondition_failure::Violation>,
    pub(super) error_id: Option<ErrorId>,
    pub(super) limit: Option<Limit>,
}

impl ErrorRow {
    pub(super) fn new(code: Code, http: u16, reason: ErrorReason, text: &str) -> Self {
        let reason = reason.as_str_name().trim_start_matches("ERROR_REASON_");
        Self {
            code,
            http,
            reason,
            text: text.into(),
            retry_after: None,
            violations: Vec::new(),
            precondition: None,
            error_id: None,
            limit: None,
        }
    }

    /// The wait as `Retry-After` has it: whole seconds, rounded up, because an earlier retry would be refused.
    pub fn retry_after_seconds(&self) -> Option<u64> {
        self.retry_after.map(|after| u64::try_from(after.as_millis().div_ceil(1_000)).unwrap_or(u64::MAX))
    }

    /// Whole milliseconds, at least one, so that both gRPC forms of the wait are equal. Rounded up, because an earlier
    /// retry would be refused.
    pub(super) fn with_retry(mut self, after: Duration) -> Self {
        let millis = u64::try_from(after.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX);
        self.retry_after = Some(Duration::from_millis(millis.max(1)));
        self
    }

    pub(super) fn with_limit(mut self, limit: Limit, after: Duration) -> Self {
        let what = match limit {
            Limit::Address => "too many failed attempts with passwords or reset codes came from this address",
            Limit::Account => "too many failed password attempts for this username",
            Limit::AddressAndAccount => {
                "too many failed attempts with passwords or reset codes for this username came from this address or session"
            }
            Limit::ProofOfWork => "too many failed password attempts with proof of work for this username",
            Limit::AddressAttempts => "too many password attempts, right or wrong, came from this address",
            Limit::AccountAttempts => "too many password attempts, right or wrong, for this username",
            Limit::Registrations => "too many registrations came from this address",
            Limit::ClientSecrets => "too many wrong client secrets came from this address",
            Limit::Session => "too many calls in this session",
        };
        self.limit = Some(limit);
        self = self.with_retry(after);
        self.text = format!("{what}; try again in {} s", self.retry_after_seconds().unwrap_or_default());
        self
    }

    pub(super) fn with_violations(mut self, violations: &Violations) -> Self {
        let sentences: Vec<_> = violations.iter().map(|v| format!("{} {}", v.field, v.description)).collect();
        self.text = sentences.join("; ");
        self.violations = violations
            .iter()
            .take(VIOLATIONS_MAX)
            .map(|violation| rpc::bad_request::FieldViolation {
                field: violation.field.into(),
                description: violation.description.clone(),
                reason: violation.reason.name().into(),
                localized_message: None,
            })
            .collect();
        self
    }

    pub(super) fn with_challenge(mut self, purpose: ChallengePurpose) -> Self {
        self.precondition = Some(rpc::precondition_failure::Violation {
            r#type: "CHALLENGE".into(),
            subject: purpose.name().into(),
            description: self.text.clone(),
        });
        self
    }

    pub(super) fn with_id(mut self, id: ErrorId) -> Self {
        self.text = format!("{}; the server's log has the cause under {id}", self.text);
        self.error_id = Some(id);
        self
    }
}
