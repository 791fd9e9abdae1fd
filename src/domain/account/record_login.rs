//! Records the time and the address of a login in the user record.

use std::time::{Duration, SystemTime};

use super::Accounts;
use crate::{
    common::time::{from_unix_seconds, unix_seconds},
    domain::{
        context::CallContext,
        model::User,
        ports::{Replace, Stored},
    },
};

/// `last_login_time` is kept to the hour, so that a user causes at most one such write in an hour.
const LAST_LOGIN_RESOLUTION: Duration = Duration::from_secs(3_600);

/// How long a login waits for that write.
const WRITE_WAIT_MAX: Duration = Duration::from_millis(500);

impl Accounts {
    /// Records the hour of a login and its address. It is a convenience: when it fails the login does not.
    pub(in crate::domain) async fn record_login(&self, context: &CallContext, stored: Stored<User>) -> User {
        let Stored { value: mut user, revision } = stored;
        let hour = to_the_hour(self.store.now());
        let address = self.keys.address_hash(context, Some(user.id)).await.ok().flatten();
        let is_unfamiliar = address.is_some_and(|address| !user.known_addresses.contains(&address));
        if user.last_login_time.is_some_and(|last| last >= hour) && !is_unfamiliar {
            return user;
        }
        user.last_login_time = user.last_login_time.max(Some(hour));
        if let Some(address) = address {
            user.learn(address);
        }
        let written = self.environment.clock.timeout(WRITE_WAIT_MAX, self.store.replace(&revision, &user));
        match written.await {
            // Changed: another login or change was faster; its write stands.
            Ok(Ok(Replace::Replaced | Replace::Changed)) => {}
            Err(_) => tracing::warn!("the store was too slow to record the time of a login"),
            // The store logs its own state, and not for each login.
            Ok(Err(error)) => tracing::debug!(?error, "the time of a login was not stored"),
        }
        user
    }
}

fn to_the_hour(time: SystemTime) -> SystemTime {
    let seconds = unix_seconds(time);
    from_unix_seconds(seconds - seconds % LAST_LOGIN_RESOLUTION.as_secs())
}
