//! The supervisor: the task that probes the connection and replaces it.
//!
//! After two consecutive answers that did not come, or one connection error, it makes a new connection, and retries until one
//! succeeds. Where Redis reports changes (`tracking.rs`), the answer to a probe proves that every change before it was
//! reported. A panic of the task fails the store, and the node ends. Does not know what callers ask.

use std::{
    sync::{Arc, atomic::Ordering},
    thread,
    time::{Duration, Instant},
};

use redis::RedisError;
use tokio::{sync::watch, time::sleep};

use super::{
    connect::{self, Connected},
    connect_error::ConnectError,
    probe,
    server_check::ServerCheck,
    state::{LinkState, LiveConnection},
};
use crate::domain::{ChangeNotice, StoreHealth};

/// Between two probes.
const PROBE_INTERVAL: Duration = Duration::from_millis(250);

/// Consecutive answers that did not come in time, after which the connection is replaced.
const TIMEOUTS_MAX: u32 = 2;

/// Between two attempts to connect: at first, and at most. Each wait is shortened at random by up to a half, so that the
/// nodes of a Redis that returns do not connect all at once.
const RETRY_MIN: Duration = Duration::from_millis(50);
const RETRY_MAX: Duration = Duration::from_secs(1);

/// After a connection that lasted this long the first attempt follows without a wait.
const STABLE_AFTER: Duration = Duration::from_secs(10);

/// Whether Redis reports changes of what is read over a connection.
#[derive(Clone, Copy, PartialEq, Eq)]
enum TrackingState {
    NotAsked,
    Refused,
    /// It does for what is read after this.
    Since(Instant),
}

impl LinkState {
    /// Supervises one connection until it fails, then makes another.
    pub(super) async fn supervise(self: Arc<Self>, mut live: LiveConnection, mut check: ServerCheck) {
        let _guard = FailOnPanic(&self.health);
        let mut pause = RETRY_MIN;
        loop {
            let begun = self.clock.monotonic();
            let cause = self.probe_until_failure(&live).await;
            self.withdraw();
            tracing::warn!(%cause, "the connection to Redis is replaced");
            if !cause.is_connection_error() {
                self.set_down(&cause);
            }
            if self.clock.monotonic().saturating_duration_since(begun) >= STABLE_AFTER {
                pause = RETRY_MIN;
            } else {
                self.wait(&mut pause).await;
            }
            let connected = self.reconnect(&check, &mut pause).await;
            check = connected.check.clone();
            live = self.take_over(connected);
            self.set_up();
        }
    }

    /// Returns why the connection must be replaced.
    async fn probe_until_failure(&self, live: &LiveConnection) -> ConnectError {
        let mut connection = live.connection.clone();
        let mut next_check = self.clock.monotonic() + self.settings.check_interval;
        let mut tracking = TrackingState::NotAsked;
        loop {
            if tracking == TrackingState::NotAsked && self.tracker.is_wanted() {
                tracking = match self.track(live).await {
                    Ok(tracking) => tracking,
                    // The next probe decides whether the connection has failed.
                    Err(error) if error.is_timeout() => TrackingState::NotAsked,
                    Err(error) => return ConnectError::connection_lost(&error),
                };
            }
            tokio::select! {
                () = sleep(PROBE_INTERVAL) => {}
                () = self.suspect.notified() => {}
            }
            let asked = self.clock.monotonic();
            match probe::ask(&mut connection, &self.settings.prefix).await {
                Ok(probed) if probed.marker != self.marker => return lost_data(),
                Ok(probed) => {
                    live.timeouts.store(0, Ordering::Relaxed);
                    self.learn(asked, probed);
                    if let TrackingState::Since(since) = tracking {
                        self.tracker.notify(ChangeNotice::Complete { since, until: asked });
                    }
                }
                Err(error) if error.is_timeout() => {
                    if live.timeouts.fetch_add(1, Ordering::Relaxed) + 1 >= TIMEOUTS_MAX {
                        return ConnectError::timeout(false);
                    }
                    // The next probe follows at once.
                    self.suspect.notify_one();
                    continue;
                }
                Err(error) => return ConnectError::connection_lost(&error),
            }
            if self.clock.monotonic() >= next_check {
                next_check = self.clock.monotonic() + self.settings.check_interval;
                if tracking == TrackingState::Refused {
                    // The permission may have been granted since.
                    tracking = TrackingState::NotAsked;
                }
                match ServerCheck::ask(&mut connection).await {
                    Ok(check) => match check.unfit() {
                        Some(why) => return ConnectError::permanent(why),
                        None => self.set_settings_warnings(&check),
                    },
                    // The next probe decides whether the connection has failed.
                    Err(error) => tracing::debug!(%error, "cannot read Redis's configuration"),
                }
            }
        }
    }

    /// Asks Redis to report changes of what is read over this connection.
    async fn track(&self, live: &LiveConnection) -> Result<TrackingState, RedisError> {
        if !self.tracker.track(&mut live.connection.clone(), live.is_resp3).await? {
            return Ok(TrackingState::Refused);
        }
        self.set_tracked();
        // Taken last: calls after this are tracked, and ask for the time until a key expires.
        Ok(TrackingState::Since(self.clock.monotonic()))
    }

    /// Retries until a Redis answers that is still the same store.
    async fn reconnect(&self, before: &ServerCheck, pause: &mut Duration) -> Connected {
        let mut logged = String::new();
        loop {
            let connected = connect::once(&self.settings, &self.tracker, self.answer_wait_max).await;
            match connected.and_then(|connected| self.same_store(before, connected)) {
                Ok(connected) => {
                    tracing::info!("Redis answers again");
                    return connected;
                }
                Err(cause) => {
                    let cause = self.set_down(&cause);
                    // Once for each cause, however often it occurs.
                    if cause != logged {
                        tracing::error!(cause, "Redis cannot be used; retrying");
                        logged = cause;
                    }
                }
            }
            self.wait(pause).await;
        }
    }

    /// Refuses a Redis with other data. One that was restarted is checked as at the start of the node: with another
    /// configuration it may have lost users.
    fn same_store(&self, before: &ServerCheck, connected: Connected) -> Result<Connected, ConnectError> {
        if connected.probed.marker != self.marker {
            return Err(lost_data());
        }
        if !connected.check.is_same_run(before) {
            connect::refuse_shortfalls(&self.settings, &connected.check).map_err(ConnectError::permanent)?;
        }
        Ok(connected)
    }

    /// Waits, and makes the next wait longer.
    async fn wait(&self, pause: &mut Duration) {
        let mut byte = [0];
        self.entropy.fill(&mut byte);
        sleep(*pause - *pause / 2 * u32::from(byte[0]) / 255).await;
        *pause = (*pause * 2).min(RETRY_MAX);
    }
}

fn lost_data() -> ConnectError {
    ConnectError::permanent(
        "has lost its data: its marker, the key …store, is gone or another one. Restore its file, or restart Watchword \
         if the users are to be gone"
            .into(),
    )
}

/// Without the supervisor a connection would look healthy for ever, so its panic fails the store and the node ends.
struct FailOnPanic<'a>(&'a watch::Sender<StoreHealth>);

impl Drop for FailOnPanic<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.send_replace(StoreHealth::Failed);
        }
    }
}
