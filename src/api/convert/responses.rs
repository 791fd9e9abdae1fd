//! Domain values as responses of `watchword.auth.v1.Auth`.

use super::timestamp;
use crate::{
    api::pb,
    domain::{Introspection, Lifetimes, NewChallenge, Session, SessionId, SessionPage, TokenUse, Tokens, User},
};

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
            client_id: found.client_id,
        }
    }
}

/// A page of the sessions of a user.
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
        last_refresh_time: Some(timestamp(session.shown_refresh_time())),
        expire_time: Some(timestamp(session.shown_idle_end(lifetimes))),
        current: session.id == current,
        user_agent: session.user_agent,
        client_address: session.client_address,
    }
}
