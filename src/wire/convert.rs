//! Between the contract's messages and the rules' values; the only place where a raw field becomes a domain type.

use std::time::SystemTime;

use super::pb;
use crate::domain::{Attempt, Error, Registration, Rules, User};

/// Reads a registration, or names all its violations at once.
pub(crate) fn registration(rules: &Rules, request: pb::RegisterRequest) -> Result<Registration, Error> {
    let pb::RegisterRequest { username, password, data, request_id } = request;
    Registration::parse(rules, &username, password, data.unwrap_or_default(), &request_id)
}

/// Reads a login, or names all its violations at once.
pub(crate) fn attempt(request: pb::LoginRequest) -> Result<Attempt, Error> {
    let pb::LoginRequest { username, password } = request;
    Attempt::parse(&username, password)
}

impl From<User> for pb::User {
    fn from(user: User) -> Self {
        Self {
            user_id: user.id.to_string(),
            username: user.username.as_str().to_owned(),
            data: Some(user.data.as_str().to_owned()),
            create_time: Some(timestamp(user.create_time)),
            update_time: Some(timestamp(user.update_time)),
            last_login_time: user.last_login_time.map(timestamp),
        }
    }
}

/// To the millisecond, which is what is stored: the answer to a registration equals every later one.
fn timestamp(time: SystemTime) -> prost_types::Timestamp {
    let since_1970 = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let seconds = i64::try_from(since_1970.as_secs()).unwrap_or(i64::MAX);
    let millis = i32::try_from(since_1970.subsec_millis()).unwrap_or_default();
    prost_types::Timestamp { seconds, nanos: millis * 1_000_000 }
}
