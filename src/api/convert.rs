//! Between the contract's messages and the rules' values; the only place where a raw field becomes a domain type.

use std::time::SystemTime;

use super::pb;
use crate::domain::{
    AccountState, AdminUser, ChallengePurpose, Credentials, DataChange, Error, Introspection, Lifetimes, NewChallenge,
    Password, PasswordChange, PasswordReset, Rate, RateLimitSettings, Reason, Registration, ResetCode, Rules, Session,
    SessionId, SessionPage, TokenUse, Tokens, User, UserId, UserSelector, Username, Violation, password::PoolSettings,
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
pub(crate) fn attempt(request: pb::LoginRequest) -> Result<Credentials, Error> {
    let pb::LoginRequest { username, password, challenge_solution } = request;
    Ok(Credentials::parse(&username, password)?.with_solution(challenge_solution))
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

/// Reads a reset, or names all violations at once.
pub(crate) fn password_reset(rules: &Rules, request: pb::ResetPasswordRequest) -> Result<PasswordReset, Error> {
    let pb::ResetPasswordRequest { username, reset_code, new_password } = request;
    PasswordReset::parse(rules, &username, reset_code, new_password)
}

/// Reads whom an operator wants to see.
pub(crate) fn user_selector(request: &pb::AuthAdminGetUserRequest) -> Result<UserSelector, Error> {
    use pb::auth_admin_get_user_request::User;
    match &request.user {
        Some(User::UserId(id)) => {
            let id = UserId::parse(id);
            Ok(UserSelector::Id(id.ok_or_else(|| Violation::new("user_id", Reason::NotAUuid, "is not a UUID"))?))
        }
        Some(User::Username(name)) => whom_by_name(name),
        None => Err(Violation::new("user", Reason::Required, "needs user_id or username").into()),
    }
}

/// Reads whom an operator changes.
pub(crate) fn whom_by_name(username: &str) -> Result<UserSelector, Error> {
    Ok(UserSelector::Name(Username::parse(username)?))
}

/// Reads a password that is shown once more.
pub(crate) fn current_password(password: String) -> Result<Password, Error> {
    Password::parse(password).map_err(|fault| fault.of("current_password").into())
}

/// Reads which page is wanted: behind which session, and how long.
pub(crate) fn page(request: &pb::ListSessionsRequest) -> Result<(Option<SessionId>, usize), Error> {
    let fault = |field, what: &str| Violation::new(field, Reason::Malformed, what);
    let mut check = crate::domain::Check::default();
    let size = check.field(usize::try_from(request.page_size).map_err(|_| fault("page_size", "is negative")));
    let after = match request.page_token.as_str() {
        "" => None,
        token => check.field(SessionId::parse(token).ok_or_else(|| fault("page_token", "is not one of ours"))),
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

impl From<AdminUser> for pb::AdminUser {
    fn from(account: AdminUser) -> Self {
        let AdminUser { user, state, failures, last_failure_time, reset_expire_time } = account;
        Self {
            user: Some(user.into()),
            state: match state {
                AccountState::Active => pb::UserState::Active.into(),
                AccountState::Disabled => pb::UserState::Disabled.into(),
                AccountState::Locked { .. } => pb::UserState::Locked.into(),
                AccountState::ResetRequired => pb::UserState::ResetRequired.into(),
            },
            state_reason: state.reason().into(),
            failure_count: failures,
            last_failure_time: last_failure_time.map(timestamp),
            reset_expire_time: reset_expire_time.map(timestamp),
        }
    }
}

impl From<ResetCode> for pb::CreatePasswordResetCodeResponse {
    fn from(code: ResetCode) -> Self {
        Self { reset_code: code.text.to_string(), expire_time: Some(timestamp(code.expire_time)) }
    }
}

impl From<PoolSettings> for pb::HashInfo {
    fn from(PoolSettings { workers, cost }: PoolSettings) -> Self {
        Self {
            memory_kib: cost.memory_kib,
            passes: cost.passes,
            lanes: cost.lanes,
            workers: u32::try_from(workers).unwrap_or(u32::MAX),
        }
    }
}

impl From<&RateLimitSettings> for pb::ThrottleInfo {
    fn from(settings: &RateLimitSettings) -> Self {
        let rate = |rate: Rate| {
            let period = prost_types::Duration::try_from(rate.period).expect("a day at most");
            Some(pb::ThrottleRate { count: rate.events, period: Some(period) })
        };
        Self {
            per_address: rate(settings.per_address),
            per_account: rate(settings.per_account),
            per_address_and_account: rate(settings.per_address_and_account),
            registrations: rate(settings.registrations),
            alert: rate(settings.alert),
            failure_cap: settings.lockout_threshold,
            failure_cap_strict: settings.lockout_is_strict,
        }
    }
}

/// Which calls need a proof of work.
pub(crate) fn challenges(rules: &Rules) -> Vec<i32> {
    let all = [
        (rules.challenges.register, pb::ChallengePurpose::Register),
        (rules.challenges.login, pb::ChallengePurpose::Login),
    ];
    all.into_iter().filter(|(is_asked, _)| *is_asked).map(|(_, purpose)| purpose.into()).collect()
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
