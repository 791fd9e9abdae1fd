//! Conversions between messages of the contract and domain values.
//!
//! Guarantees: this is the only place where a raw field becomes a domain type. A request names all of its violations at
//! once. It does not know which protocol carried a message, and it takes no decision about accounts.

mod admin;
mod requests;
mod responses;

use std::time::SystemTime;

pub(crate) use self::{
    admin::{challenges, selector_by_name, user_selector},
    requests::{
        credentials, data_change, deletion, page, password_change, password_reset, refresh, registration, session_id,
        sessions_to_end, token, wanted_challenge,
    },
    responses::session_page,
};

/// A number of documents.
pub(crate) fn count(count: usize) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}

/// A time, to the millisecond. Stores keep milliseconds, so the answer to a registration equals every later answer.
pub(crate) fn timestamp(time: SystemTime) -> prost_types::Timestamp {
    let since_1970 = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let seconds = i64::try_from(since_1970.as_secs()).unwrap_or(i64::MAX);
    let millis = i32::try_from(since_1970.subsec_millis()).unwrap_or_default();
    prost_types::Timestamp { seconds, nanos: millis * 1_000_000 }
}
