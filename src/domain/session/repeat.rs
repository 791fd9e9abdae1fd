//! Decides what a refresh is: the first use of a token, a repeat of one whose answer was lost, or reuse of a token.
//!
//! A repeat is answered while the successor is unused: no call has exchanged it. Uses of the successor that do not exchange
//! it leave no trace in the session: introspection, and calls with the access token that came with it. A call proves that it
//! repeats another one by its request id, or for some seconds by its origin. Sources: RFC 9700 4.14.2, ASVS 5.0 10.4.5.

use std::time::{Duration, SystemTime};

use crate::domain::{
    context::{CallContext, Peer},
    model::{IpPrefix, RefreshOrigin, Repeats, RequestId, Session},
    token::RefreshToken,
};

/// How long a call from the same origin repeats a refresh without its request id.
const REPEAT_WITHOUT_ID: Duration = Duration::from_secs(10);

/// How long after a refresh a repeat is one of two concurrent calls, such as those of two tabs, and no sign of theft.
const CONCURRENT_WITHIN: Duration = Duration::from_secs(2);

/// What a refresh is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RefreshKind {
    /// The first use of the present token.
    Exchange,
    /// A repeat. The session has these repeats from now on.
    Repeat(Repeats),
    /// A repeat from another origin, which gets no token. The next exchange ends the session.
    Elsewhere,
    /// Reuse, which ends the session. The text says why, for the audit log.
    Reuse(&'static str),
}

/// One refresh.
pub(super) struct RefreshCall<'a> {
    pub(super) token: &'a RefreshToken,
    pub(super) successor: &'a RefreshToken,
    pub(super) origin: RefreshOrigin,
}

impl RefreshCall<'_> {
    /// What this call is, given its session. Repeats with a request id are answered for `repeat_within`.
    pub(super) fn kind(&self, session: &Session, now: SystemTime, repeat_within: Duration) -> RefreshKind {
        if is_current(self.token, session) {
            return match session.is_contested {
                true => RefreshKind::Reuse("repeated_elsewhere"),
                false => RefreshKind::Exchange,
            };
        }
        // A use of the successor would have made another generation.
        if !is_current(self.successor, session) {
            return RefreshKind::Reuse("older_token");
        }
        // A refresh at a time ahead of the clock is as far away as one in the past.
        let age = now.duration_since(session.refresh_time).unwrap_or_else(|ahead| ahead.duration());
        let is_same_caller = session.refreshed_by.is_some_and(|first| first.caller == self.origin.caller);
        let request = session.refreshed_by.and_then(|first| first.request);
        let is_same_request = request.is_some() && request == self.origin.request;
        if is_same_request && age < repeat_within || is_same_caller && age < REPEAT_WITHOUT_ID {
            let repeats = session.repeats.with_repeat(age >= CONCURRENT_WITHIN);
            return match repeats.are_reuse() {
                true => RefreshKind::Reuse("repeated_in_four_generations"),
                false => RefreshKind::Repeat(repeats),
            };
        }
        // The user may have lost an answer, and has a right to the session until the successor is used.
        if !is_same_caller && age < repeat_within {
            return RefreshKind::Elsewhere;
        }
        RefreshKind::Reuse("late_repeat")
    }
}

/// Where a call with `token` comes from.
pub(super) fn origin(token: &RefreshToken, context: &CallContext, request_id: Option<RequestId>) -> RefreshOrigin {
    let address = match context.address() {
        Peer::Ip(address) => IpPrefix::of(address).to_string(),
        Peer::Local { uid } => format!("local {}", uid.map_or_else(String::new, |uid| uid.to_string())),
    };
    let caller = [context.api.name().as_bytes(), address.as_bytes(), context.user_agent.as_bytes()];
    RefreshOrigin {
        request: request_id.map(|id| token.keyed_hash("request", &[&id.bytes()])),
        caller: token.keyed_hash("caller", &caller),
    }
}

/// Whether `token` is the session's present refresh token.
pub(super) fn is_current(token: &RefreshToken, session: &Session) -> bool {
    token.generation == session.generation && token.secret_hash() == session.secret_hash
}
