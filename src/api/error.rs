//! THE TABLE: every domain error as gRPC code, HTTP status, reason and details.
//!
//! The only place that builds a `tonic::Status`. Every error carries exactly one `google.rpc.ErrorInfo`; what may be
//! retried carries `RetryInfo` and its equal in milliseconds as `grpc-retry-pushback-ms` (gRFC A6).

use std::time::Duration;

use bytes::Bytes;
use prost::Message;
use tonic::{
    Code, Status,
    metadata::{MetadataMap, MetadataValue},
};

pub use super::DOMAIN;
use super::{PUSHBACK, pb::ErrorReason, rpc};
use crate::domain::{ChallengeFault, ChallengePurpose, Error, ErrorId, Limit, Violations};

/// Violations in one answer at most; more would not fit the headers of every proxy.
const VIOLATIONS_MAX: usize = 16;

/// When to come back to a node that is shutting down, or whose store is gone.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// How one error looks on every door.
#[derive(Debug)]
pub struct Row {
    /// The gRPC column.
    pub code: Code,
    /// The HTTP column.
    pub http: u16,
    /// The reason, without the enum's prefix.
    pub reason: &'static str,
    /// What to do, for people. Holds no secret.
    pub text: String,
    /// When to try again, if that is safe.
    pub retry_after: Option<Duration>,
    violations: Vec<rpc::bad_request::FieldViolation>,
    precondition: Option<rpc::precondition_failure::Violation>,
    error_id: Option<ErrorId>,
    limit: Option<Limit>,
}

/// Looks an error up.
pub fn row(error: &Error) -> Row {
    use ErrorReason as R;
    match error {
        Error::InvalidCredentials => {
            Row::new(Code::Unauthenticated, 401, R::InvalidCredentials, "username, password or code is wrong")
        }
        Error::TokenMissing => {
            Row::new(Code::Unauthenticated, 401, R::TokenMissing, "send an access token: authorization: Bearer <token>")
        }
        Error::TokenInvalid => Row::new(Code::Unauthenticated, 401, R::TokenInvalid, "the token is not valid"),
        Error::TokenExpired => Row::new(Code::Unauthenticated, 401, R::TokenExpired, "the token has expired"),
        Error::TokenRevoked => Row::new(Code::Unauthenticated, 401, R::TokenRevoked, "the session was ended"),
        Error::Conflict => Row::new(Code::Aborted, 409, R::Conflict, "it was changed meanwhile; read it again"),
        Error::UserAlreadyExists => Row::new(Code::AlreadyExists, 409, R::UserAlreadyExists, "the username is taken"),
        Error::UserNotFound => Row::new(Code::NotFound, 404, R::UserNotFound, "there is no such user"),
        Error::PasswordPolicy(violations) => {
            Row::new(Code::InvalidArgument, 400, R::PasswordPolicy, "").with_violations(violations)
        }
        Error::Invalid(violations) => {
            Row::new(Code::InvalidArgument, 400, R::InvalidField, "").with_violations(violations)
        }
        Error::RequestTooLarge => {
            Row::new(Code::ResourceExhausted, 413, R::RequestTooLarge, "the request is larger than this door accepts")
        }
        Error::ChallengeRequired { purpose } => {
            let text = "send the solution of a challenge as challenge_solution (original routes: altcha); \
                        CreateChallenge and GET /altcha/challenge make one";
            Row::new(Code::FailedPrecondition, 400, R::ChallengeRequired, text).with_challenge(*purpose)
        }
        Error::ChallengeInvalid { purpose, fault } => {
            Row::new(Code::FailedPrecondition, 400, R::ChallengeInvalid, fault_text(*fault)).with_challenge(*purpose)
        }
        Error::Overloaded { retry_after } => {
            Row::new(Code::ResourceExhausted, 429, R::Overloaded, "too many calls are waiting; try again later")
                .with_retry(*retry_after)
        }
        Error::RateLimited { limit, retry_after } => {
            Row::new(Code::ResourceExhausted, 429, R::RateLimited, "").with_limit(*limit, *retry_after)
        }
        Error::Draining => Row::new(Code::Unavailable, 503, R::Draining, "this node is shutting down; try again")
            .with_retry(RETRY_AFTER),
        Error::StoreUnavailable => {
            Row::new(Code::Unavailable, 503, R::StoreUnavailable, "the store cannot be used now; try again")
                .with_retry(RETRY_AFTER)
        }
        Error::OutcomeUnknown => {
            let text = "whether it was stored is not known; send it again, Register with the same request_id";
            Row::new(Code::Unknown, 500, R::OutcomeUnknown, text)
        }
        Error::DeadlineExceeded => {
            Row::new(Code::DeadlineExceeded, 504, R::DeadlineExceeded, "the deadline passed before the answer")
        }
        Error::Internal(id) => Row::new(Code::Internal, 500, R::Internal, "internal error").with_id(*id),
        Error::CorruptRecord(id) => {
            Row::new(Code::DataLoss, 500, R::CorruptRecord, "a stored document cannot be read").with_id(*id)
        }
    }
}

/// What is wrong with a proof of work, and what to do.
fn fault_text(fault: ChallengeFault) -> &'static str {
    match fault {
        ChallengeFault::TooLong => "the solution of the challenge has more than 4 KiB",
        ChallengeFault::Malformed => "the solution of the challenge is not one of ALTCHA's version 2, in base64",
        ChallengeFault::Forged => "the challenge is not one of this service; get one and solve it",
        ChallengeFault::Expired => "the challenge has expired; get a new one",
        ChallengeFault::OtherPurpose => "the challenge was made for something else; get one for this",
        ChallengeFault::Spent => "the challenge was presented before; get a new one",
        ChallengeFault::Unsolved => "the solution of the challenge is wrong, and it is spent; get a new one",
    }
}

/// The gRPC form of an error.
pub fn status(error: &Error) -> Status {
    row(error).status()
}

/// The gRPC form of what no method answers: an unknown service or method, or an unknown compression.
pub fn unimplemented(text: &str) -> Status {
    Row::new(Code::Unimplemented, 404, ErrorReason::Unimplemented, text).status()
}

/// The same for a health check, whose protocol asks for NOT_FOUND.
pub fn unknown_health_service() -> Status {
    Row::new(Code::NotFound, 404, ErrorReason::Unimplemented, "unknown service").status()
}

// === impl Row ===

impl Row {
    fn new(code: Code, http: u16, reason: ErrorReason, text: &str) -> Self {
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

    /// The wait as HTTP's `Retry-After` has it: whole seconds, rounded up, since earlier would be too early.
    pub fn retry_after_seconds(&self) -> Option<u64> {
        self.retry_after.map(|after| u64::try_from(after.as_millis().div_ceil(1_000)).unwrap_or(u64::MAX))
    }

    fn with_retry(mut self, after: Duration) -> Self {
        // Whole milliseconds, at least one, so that both forms of the wait are equal.
        // Rounded up: whoever comes back a little early comes back in vain.
        let millis = u64::try_from(after.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX);
        self.retry_after = Some(Duration::from_millis(millis.max(1)));
        self
    }

    fn with_limit(mut self, limit: Limit, after: Duration) -> Self {
        let what = match limit {
            Limit::Address => "too many wrong passwords or codes came from this address",
            Limit::Account => "too many wrong passwords were tried for this name",
            Limit::AddressAndAccount => "too many wrong passwords or codes were tried for this name from here",
            Limit::Registrations => "too many registrations came from this address",
        };
        self.limit = Some(limit);
        self = self.with_retry(after);
        self.text = format!("{what}; try again in {} s", self.retry_after_seconds().unwrap_or_default());
        self
    }

    fn with_violations(mut self, violations: &Violations) -> Self {
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

    fn with_challenge(mut self, purpose: ChallengePurpose) -> Self {
        self.precondition = Some(rpc::precondition_failure::Violation {
            r#type: "CHALLENGE".into(),
            subject: purpose.name().into(),
            description: self.text.clone(),
        });
        self
    }

    fn with_id(mut self, id: ErrorId) -> Self {
        self.text = format!("{}; the server's log has the cause under {id}", self.text);
        self.error_id = Some(id);
        self
    }

    fn status(self) -> Status {
        let mut details = vec![any(
            "ErrorInfo",
            &rpc::ErrorInfo {
                reason: self.reason.into(),
                domain: DOMAIN.into(),
                metadata: {
                    let error_id = self.error_id.map(|id| ("error_id".to_owned(), id.to_string()));
                    let limit = self.limit.map(|limit| ("limit".to_owned(), limit.name().to_owned()));
                    error_id.into_iter().chain(limit).collect()
                },
            },
        )];
        if !self.violations.is_empty() {
            details.push(any("BadRequest", &rpc::BadRequest { field_violations: self.violations }));
        }
        if let Some(violation) = self.precondition {
            details.push(any("PreconditionFailure", &rpc::PreconditionFailure { violations: vec![violation] }));
        }
        let mut metadata = MetadataMap::new();
        if let Some(after) = self.retry_after {
            let delay = prost_types::Duration::try_from(after).expect("a wait of seconds fits");
            details.push(any("RetryInfo", &rpc::RetryInfo { retry_delay: Some(delay) }));
            metadata.insert(PUSHBACK, MetadataValue::from(millis(after)));
        }
        let packed = rpc::Status { code: self.code.into(), message: self.text.clone(), details };
        #[expect(clippy::disallowed_methods, reason = "this is the table")]
        Status::with_details_and_metadata(self.code, self.text, Bytes::from(packed.encode_to_vec()), metadata)
    }
}

fn millis(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis()).unwrap_or(u32::MAX)
}

fn any(name: &str, message: &impl Message) -> prost_types::Any {
    prost_types::Any { type_url: format!("type.googleapis.com/google.rpc.{name}"), value: message.encode_to_vec() }
}
