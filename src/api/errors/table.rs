//! The rows: one for each domain error. The match has no wildcard, so a new error without a row does not compile.

use std::time::Duration;

use tonic::Code;

use super::ErrorRow;
use crate::{
    api::pb::ErrorReason,
    domain::{ChallengeFault, Error},
};

/// The wait before a retry at a node that drains, or whose store is unavailable.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// The row of an error.
pub fn error_row(error: &Error) -> ErrorRow {
    use ErrorReason as R;
    let row = ErrorRow::new;
    match error {
        Error::InvalidCredentials => {
            row(Code::Unauthenticated, 401, R::InvalidCredentials, "username, password or code is wrong")
        }
        Error::TokenMissing => {
            row(Code::Unauthenticated, 401, R::TokenMissing, "send an access token: authorization: Bearer <token>")
        }
        Error::TokenInvalid => row(Code::Unauthenticated, 401, R::TokenInvalid, "the token is not valid"),
        Error::TokenExpired => row(Code::Unauthenticated, 401, R::TokenExpired, "the token has expired"),
        Error::TokenRevoked => row(Code::Unauthenticated, 401, R::TokenRevoked, "the session was ended"),
        Error::CallerNotAllowed => row(Code::PermissionDenied, 403, R::CallerNotAllowed, "the caller may not do this"),
        Error::Conflict => row(Code::Aborted, 409, R::Conflict, "it was changed meanwhile; read it again"),
        Error::UserAlreadyExists => row(Code::AlreadyExists, 409, R::UserAlreadyExists, "the username is taken"),
        Error::UserNotFound => row(Code::NotFound, 404, R::UserNotFound, "there is no such user"),
        Error::UserDisabled => {
            row(Code::FailedPrecondition, 400, R::UserDisabled, "the user is disabled; enable the user first")
        }
        Error::PasswordPolicy(violations) => {
            row(Code::InvalidArgument, 400, R::PasswordPolicy, "").with_violations(violations)
        }
        Error::Invalid(violations) => row(Code::InvalidArgument, 400, R::InvalidField, "").with_violations(violations),
        Error::RequestTooLarge => {
            row(Code::ResourceExhausted, 413, R::RequestTooLarge, "the request is larger than this listener accepts")
        }
        Error::ChallengeRequired { purpose } => {
            let text = "send the solution of a challenge as challenge_solution (original routes: altcha); \
                        CreateChallenge and GET /altcha/challenge make one";
            row(Code::FailedPrecondition, 400, R::ChallengeRequired, text).with_challenge(*purpose)
        }
        Error::ChallengeInvalid { purpose, fault } => {
            row(Code::FailedPrecondition, 400, R::ChallengeInvalid, fault_text(*fault)).with_challenge(*purpose)
        }
        Error::Overloaded { retry_after } => {
            row(Code::ResourceExhausted, 429, R::Overloaded, "too many calls are waiting; try again later")
                .with_retry(*retry_after)
        }
        Error::RateLimited { limit, retry_after } => {
            row(Code::ResourceExhausted, 429, R::RateLimited, "").with_limit(*limit, *retry_after)
        }
        Error::Draining => {
            row(Code::Unavailable, 503, R::Draining, "this node is shutting down; try again").with_retry(RETRY_AFTER)
        }
        Error::StoreUnavailable => {
            row(Code::Unavailable, 503, R::StoreUnavailable, "the store cannot be used now; try again")
                .with_retry(RETRY_AFTER)
        }
        Error::OutcomeUnknown => {
            let text =
                "whether it was stored is not known; send it again, with the same request_id where the call has one";
            row(Code::Unknown, 500, R::OutcomeUnknown, text)
        }
        Error::DeadlineExceeded => {
            row(Code::DeadlineExceeded, 504, R::DeadlineExceeded, "the deadline passed before the answer")
        }
        Error::Internal(id) => row(Code::Internal, 500, R::Internal, "internal error").with_id(*id),
        Error::CorruptRecord(id) => {
            row(Code::DataLoss, 500, R::CorruptRecord, "a stored document cannot be read").with_id(*id)
        }
    }
}

/// What is wrong with a proof of work, and what the caller should do.
fn fault_text(fault: ChallengeFault) -> &'static str {
    match fault {
        ChallengeFault::TooLong => "the solution of the challenge has more than 4 KiB",
        ChallengeFault::Malformed => "the solution of the challenge is not one of ALTCHA's version 2, in base64",
        ChallengeFault::Forged => "the challenge is not one of this service; get one and solve it",
        ChallengeFault::Expired => "the challenge has expired; get a new one",
        ChallengeFault::OtherPurpose => "the challenge was made for something else; get one for this",
        ChallengeFault::OtherAccount => "the challenge was made for another username; get one for this",
        ChallengeFault::Spent => "the challenge was presented before; get a new one",
        ChallengeFault::Unsolved => "the solution of the challenge is wrong, and it is spent; get a new one",
    }
}
