//! Between the contract's messages and the rules' values; the only place where a raw field becomes a domain type.

use std::time::SystemTime;

use super::pb;
use crate::domain::{
    Attempt, ChallengePurpose, DataChange, Error, Introspection, Lifetimes, NewChallenge, Password, PasswordChange,
    Reason, Registration, Rules, Session, SessionId, SessionPage, TokenUse, Tokens, User, Violation,
};

/// Sessions in a page when the caller does not say, and at most.
const PAGE_DEFAULT: usize = 50;
const PAGE_MAX: usize = 1_000;

/// Reads a registration, or names all its violations at once.
pub(crate) fn registration(rules: &Rules, request: pb::RegisterRequest) -> Result<Registration, Error> {
    let pb::RegisterRequest { username, password, data, request_id, challenge_solution } = request;
    let wanted = Registration::parse(rules, &username, password, data.unwrap_or_default(), &request_id)?;
    Ok(wanted.with_solution(challenge_solution))
}

/// Reads a login, or names all its violations at once.
pub(crate) fn attempt(request: pb::LoginRequest) -> Result<Attempt, Error> {
    let pb::LoginRequest { username, password, challenge_solution } = request;
    Ok(Attempt::parse(&username, password)?.with_solution(challenge_solution))
}

/// Reads what a challenge shall be good for.
pub(crate) fn challenge_purpose(request: &pb::CreateChallengeRequest) -> Result<ChallengePurpose, Error> {
    match request.purpose() {
        pb::ChallengePurpose::Register => Ok(ChallengePurpose::Register),
        pb::ChallengePurpose::Login => Ok(ChallengePurpose::Login),
        pb::ChallengePurpose::Unspecified if request.purpose == 0 => {
            Err(Violation::new("purpose", Reason::Required, "is required").into())
        }
        // What this version does not know reads as unspecified.
        pb::ChallengePurpose::Unspecified => {
            Err(Violation::new("purpose", Reason::Malformed, "is neither REGISTER nor LOGIN").into())
        }
    }
}

/// Takes a token that is there; what it is worth is for the rules to say.
pub(crate) fn token(field: &'static str, token: String) -> Result<String, Error> {
    if token.is_empty() { Err(Violation::new(field, Reason::Required, "is required").into()) } else { Ok(token) }
}

/// Reads new data.
pub(crate) fn data_change(rules: &Rules, request: pb::UpdateUserDataRequest) -> Result<DataChange, Error> {
    let pb::UpdateUserDataRequest { data, etag } = request;
    DataChange::parse(rules, data, etag)
}

/// Reads a new password, or names all violations at once.
pub(crate) fn password_change(rules: &Rules, request: pb::ChangePasswordRequest) -> Result<PasswordChange, Error> {
    let pb::ChangePasswordRequest { current_password, new_password } = request;
    PasswordChange::parse(rules, current_password, new_password)
}

/// Reads a password that is shown once more.
pub(crate) fn current_password(password: String) -> Result<Password, Error> {
    Password::parse(password).map_err(|fault| fault.of("current_password").into())
}

/// Reads which page is wanted: behind which session, and how long.
pub(crate) fn page(request: &pb::ListSessionsRequest) -> Result<(Option<SessionId>, usize), Error> {
    let fault = |field, what: &str| Violation::new(field, Reason::Malformed, what);
    let size = usize::try_from(request.page_size).map_err(|_| fault("page_size", "is negative"))?;
    let size = if size == 0 { PAGE_DEFAULT } else { size.min(PAGE_MAX) };
    if request.page_token.is_empty() {
        return Ok((None, size));
    }
    let after = SessionId::parse(&request.page_token).ok_or_else(|| fault("page_token", "is not one of ours"))?;
    Ok((Some(after), size))
}

/// Reads a session's identifier.
pub(crate) fn session_id(text: &str) -> Result<SessionId, Error> {
    let fault = |reason, what: &str| Violation::new("session_id", reason, what);
    if text.is_empty() {
        return Err(fault(Reason::Required, "is required").into());
    }
    SessionId::parse(text).ok_or_else(|| fault(Reason::NotAUuid, "is not a UUID").into())
}

impl From<User> for pb::User {
    fn from(user: User) -> Self {
        Self {
            user_id: user.id.to_string(),
            username: user.username.as_str().to_owned(),
            etag: user.data.etag(),
            data: Some(user.data.as_str().to_owned()),
            create_time: Some(timestamp(user.create_time)),
            update_time: Some(timestamp(user.update_time)),
            last_login_time: user.last_login_time.map(timestamp),
        }
    }
}

impl From<Tokens> for pb::Tokens {
    fn from(tokens: Tokens) -> Self {
        Self {
            token_type: "Bearer".into(),
            access_token: tokens.access,
            expire_time: Some(timestamp(tokens.expire_time)),
            refresh_token: tokens.refresh,
            refresh_expire_time: Some(timestamp(tokens.refresh_expire_time)),
            session_id: tokens.session.id.to_string(),
        }
    }
}

impl From<NewChallenge> for pb::CreateChallengeResponse {
    fn from(challenge: NewChallenge) -> Self {
        Self { challenge: challenge.text, expire_time: Some(timestamp(challenge.expire_time)) }
    }
}

impl From<Option<Introspection>> for pb::IntrospectTokenResponse {
    fn from(introspection: Option<Introspection>) -> Self {
        let Some(found) = introspection else { return Self::default() };
        Self {
            active: true,
            user_id: found.user_id.to_string(),
            username: found.username.as_str().to_owned(),
            session_id: found.session_id.to_string(),
            token_use: match found.token_use {
                TokenUse::Access => pb::TokenUse::Access.into(),
                TokenUse::Refresh => pb::TokenUse::Refresh.into(),
            },
            issue_time: Some(timestamp(found.issue_time)),
            expire_time: Some(timestamp(found.expire_time)),
            issuer: found.issuer,
            audience: found.audience,
        }
    }
}

/// A page of sessions as the contract has it.
pub(crate) fn session_page(lifetimes: &Lifetimes, page: SessionPage) -> pb::ListSessionsResponse {
    let current = page.current;
    pb::ListSessionsResponse {
        sessions: page.sessions.into_iter().map(|session| one_session(lifetimes, session, current)).collect(),
        next_page_token: page.next.map(|next| next.to_string()).unwrap_or_default(),
    }
}

fn one_session(lifetimes: &Lifetimes, session: Session, current: SessionId) -> pb::Session {
    pb::Session {
        session_id: session.id.to_string(),
        create_time: Some(timestamp(session.create_time)),
        last_refresh_time: Some(timestamp(session.refresh_time)),
        expire_time: Some(timestamp(session.idle_end(lifetimes))),
        current: session.id == current,
        user_agent: session.user_agent,
        client_address: session.client_address,
    }
}

/// To the millisecond, which is what is stored: the answer to a registration equals every later one.
pub(crate) fn timestamp(time: SystemTime) -> prost_types::Timestamp {
    let since_1970 = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let seconds = i64::try_from(since_1970.as_secs()).unwrap_or(i64::MAX);
    let millis = i32::try_from(since_1970.subsec_millis()).unwrap_or_default();
    prost_types::Timestamp { seconds, nanos: millis * 1_000_000 }
}
