//! Messages of `watchword.auth.v1.AuthAdmin`, in both directions.

use super::timestamp;
use crate::{
    api::pb,
    domain::{
        AccountState, AdminUser, Error, Rate, RateLimitSettings, Reason, ResetCode, Rules, UserId, UserSelector,
        Username, Violation, password::PoolSettings,
    },
};

/// Reads which user an operator wants to see.
pub(crate) fn user_selector(request: &pb::AuthAdminGetUserRequest) -> Result<UserSelector, Error> {
    use pb::auth_admin_get_user_request::User;
    match &request.user {
        Some(User::UserId(id)) => {
            let id = UserId::parse(id);
            Ok(UserSelector::Id(id.ok_or_else(|| Violation::new("user_id", Reason::NotAUuid, "is not a UUID"))?))
        }
        Some(User::Username(name)) => selector_by_name(name),
        None => Err(Violation::new("user", Reason::Required, "needs user_id or username").into()),
    }
}

/// Reads which user an operator changes.
pub(crate) fn selector_by_name(username: &str) -> Result<UserSelector, Error> {
    Ok(UserSelector::Name(Username::parse(username)?))
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
            per_session: rate(settings.per_session),
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
