//! Requests of `watchword.auth.v1.Auth` as domain values.

use crate::{
    api::pb,
    domain::{
        ChallengePurpose, Check, Credentials, CurrentPassword, DataChange, Error, PasswordChange, PasswordReset,
        Reason, Registration, RequestId, Rules, SessionId, SessionsToEnd, Solution, Violation, WantedChallenge,
    },
};

/// Sessions in a page when the caller names no number, and at most.
const PAGE_DEFAULT: usize = 50;
const PAGE_MAX: usize = 1_000;

/// Reads a registration, or names all its violations at once.
pub(crate) fn registration(rules: &Rules, request: pb::RegisterRequest) -> Result<Registration, Error> {
    let pb::RegisterRequest { username, password, data, request_id, challenge_solution } = request;
    let solution = Solution::parse(challenge_solution);
    Registration::parse(rules, &username, password, data.unwrap_or_default(), &request_id, solution)
}

/// Reads a login, or names all its violations at once.
pub(crate) fn credentials(request: pb::LoginRequest) -> Result<Credentials, Error> {
    let pb::LoginRequest { username, password, challenge_solution } = request;
    Credentials::parse(&username, password, Solution::parse(challenge_solution))
}

/// Reads what a challenge is asked for.
pub(crate) fn wanted_challenge(request: &pb::CreateChallengeRequest) -> Result<WantedChallenge, Error> {
    let purpose = match request.purpose() {
        pb::ChallengePurpose::Register => ChallengePurpose::Register,
        pb::ChallengePurpose::Login => ChallengePurpose::Login,
        pb::ChallengePurpose::Unspecified if request.purpose == 0 => {
            return Err(Violation::new("purpose", Reason::Required, "is required").into());
        }
        // prost reads a value that this version does not know as unspecified.
        pb::ChallengePurpose::Unspecified => {
            return Err(Violation::new("purpose", Reason::Malformed, "is neither REGISTER nor LOGIN").into());
        }
    };
    Ok(WantedChallenge::parse(purpose, &request.username)?)
}

/// Reads a token that must not be empty. The domain validates it.
pub(crate) fn token(field: &'static str, token: String) -> Result<String, Error> {
    Ok(required(field, token)?)
}

fn required(field: &'static str, text: String) -> Result<String, Violation> {
    if text.is_empty() { Err(Violation::new(field, Reason::Required, "is required")) } else { Ok(text) }
}

/// Reads a refresh: its token and its request id, or names all its violations at once.
pub(crate) fn refresh(request: pb::RefreshTokenRequest) -> Result<(String, Option<RequestId>), Error> {
    let pb::RefreshTokenRequest { refresh_token, request_id } = request;
    let mut check = Check::default();
    let token = check.field(required("refresh_token", refresh_token));
    let request_id = check.field(RequestId::parse(&request_id));
    check.done()?;
    Ok((token.unwrap_or_default(), request_id.flatten()))
}

/// Reads a change of the user's data.
pub(crate) fn data_change(rules: &Rules, request: pb::UpdateUserDataRequest) -> Result<DataChange, Error> {
    let pb::UpdateUserDataRequest { data, etag } = request;
    DataChange::parse(rules, data, etag)
}

/// Reads a change of password, or names all its violations at once.
pub(crate) fn password_change(rules: &Rules, request: pb::ChangePasswordRequest) -> Result<PasswordChange, Error> {
    let pb::ChangePasswordRequest { current_password, new_password, challenge_solution } = request;
    PasswordChange::parse(rules, current_password, new_password, Solution::parse(challenge_solution))
}

/// Reads a password reset, or names all its violations at once.
pub(crate) fn password_reset(rules: &Rules, request: pb::ResetPasswordRequest) -> Result<PasswordReset, Error> {
    let pb::ResetPasswordRequest { username, reset_code, new_password } = request;
    PasswordReset::parse(rules, &username, reset_code, new_password)
}

/// Reads the current password of a user to delete.
pub(crate) fn deletion(request: pb::DeleteUserRequest) -> Result<CurrentPassword, Error> {
    let pb::DeleteUserRequest { current_password, challenge_solution } = request;
    Ok(CurrentPassword::parse(current_password, Solution::parse(challenge_solution))?)
}

/// Reads which sessions a call ends.
pub(crate) fn sessions_to_end(request: pb::RevokeAllSessionsRequest) -> Result<SessionsToEnd, Error> {
    let pb::RevokeAllSessionsRequest { keep_current, current_password, challenge_solution } = request;
    if !keep_current {
        return Ok(SessionsToEnd::All);
    }
    let current_password = CurrentPassword::parse(current_password, Solution::parse(challenge_solution))?;
    Ok(SessionsToEnd::AllOthers { current_password })
}

/// Reads a page request: the session after which the page begins, and the number of sessions.
pub(crate) fn page(request: &pb::ListSessionsRequest) -> Result<(Option<SessionId>, usize), Error> {
    let fault = |field, what: &str| Violation::new(field, Reason::Malformed, what);
    let mut check = Check::default();
    let size = check.field(usize::try_from(request.page_size).map_err(|_| fault("page_size", "is negative")));
    let after = match request.page_token.as_str() {
        "" => None,
        token => check
            .field(SessionId::parse(token).ok_or_else(|| fault("page_token", "is not a page token of this service"))),
    };
    check.done()?;
    let size = size.filter(|size| *size > 0).map_or(PAGE_DEFAULT, |size| size.min(PAGE_MAX));
    Ok((after, size))
}

/// Reads a session's identifier.
pub(crate) fn session_id(text: &str) -> Result<SessionId, Error> {
    let fault = |reason, what: &str| Violation::new("session_id", reason, what);
    if text.is_empty() {
        return Err(fault(Reason::Required, "is required").into());
    }
    SessionId::parse(text).ok_or_else(|| fault(Reason::NotAUuid, "is not a UUID").into())
}
