//! The state of the link, which the calls and the supervisor share.
//!
//! Callers find the live connection here; the supervisor replaces it. Each lock holds one value that is replaced whole, and
//! none is held across an await. Does not decide when a connection is replaced.

use std::{
    mem,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use redis::{RedisError, aio::MultiplexedConnection};
use tokio::sync::{Notify, watch};

use super::{
    NoAnswer, RedisSettings,
    connect::Connected,
    connect_error::{ConnectError, first_sentence},
    probe::ProbeAnswer,
    server_check::ServerCheck,
    tracking::ChangeTracker,
};
use crate::{
    common::lock::lock,
    domain::{Clock, ConfigurationWarning, Entropy, Environment, StoreHealth},
};

/// Between two log lines about commands that Redis refused.
const REFUSED_LOG_INTERVAL: Duration = Duration::from_secs(1);

pub(super) struct LinkState {
    pub(super) settings: RedisSettings,
    /// How long an answer may take.
    pub(super) answer_wait_max: Duration,
    /// Which store it was at the start.
    pub(super) marker: Option<String>,
    /// Wakes the supervisor when an answer did not come.
    pub(super) suspect: Notify,
    pub(super) tracker: Arc<ChangeTracker>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) entropy: Arc<dyn Entropy>,
    pub(super) health: watch::Sender<StoreHealth>,
    connection: Mutex<ConnectionSlot>,
    time: Mutex<ServerTime>,
    warnings: Mutex<LinkWarnings>,
    refusal_logged: Mutex<Option<Instant>>,
}

/// Where callers find the connection.
#[derive(Default)]
struct ConnectionSlot {
    live: Option<LiveConnection>,
    closed: bool,
    /// How many connections there were, with this one.
    count: u64,
}

#[derive(Clone)]
pub(super) struct LiveConnection {
    pub(super) connection: MultiplexedConnection,
    /// Consecutive answers that did not come in time.
    pub(super) timeouts: Arc<AtomicU32>,
    pub(super) is_resp3: bool,
    /// Whether Redis reports changes of what is read to be watched.
    pub(super) is_tracked: bool,
}

/// The time of Redis, and when this node learnt it.
#[derive(Clone, Copy)]
struct ServerTime {
    time: SystemTime,
    learnt: Instant,
}

#[derive(Default)]
struct LinkWarnings {
    settings: Vec<ConfigurationWarning>,
    writes: Option<ConfigurationWarning>,
    down: Option<ConfigurationWarning>,
}

impl LinkState {
    pub(super) fn new(
        settings: &RedisSettings,
        marker: Option<String>,
        probed: &ProbeAnswer,
        tracker: Arc<ChangeTracker>,
        environment: &Environment,
        answer_wait_max: Duration,
    ) -> Self {
        let time = ServerTime { time: probed.time, learnt: environment.clock.monotonic() };
        Self {
            settings: settings.clone(),
            answer_wait_max,
            marker,
            suspect: Notify::new(),
            tracker,
            clock: environment.clock.clone(),
            entropy: environment.entropy.clone(),
            health: watch::Sender::new(StoreHealth::Up),
            connection: Mutex::default(),
            time: Mutex::new(time),
            warnings: Mutex::default(),
            refusal_logged: Mutex::default(),
        }
    }

    // === the connection ===

    pub(super) fn live(&self) -> Option<LiveConnection> {
        lock(&self.connection).live.clone()
    }

    /// The number of the present connection; another one after each reconnect.
    pub(super) fn connection_number(&self) -> u64 {
        lock(&self.connection).count
    }

    /// Gives callers a new connection.
    pub(super) fn take_over(&self, connected: Connected) -> LiveConnection {
        let Connected { connection, check, probed, is_resp3 } = connected;
        self.set_settings_warnings(&check);
        self.learn(self.clock.monotonic(), probed);
        let live = LiveConnection { connection, timeouts: Arc::default(), is_resp3, is_tracked: false };
        let mut slot = lock(&self.connection);
        slot.count += 1;
        if !slot.closed {
            slot.live = Some(live.clone());
        }
        live
    }

    pub(super) fn set_tracked(&self) {
        if let Some(live) = &mut lock(&self.connection).live {
            live.is_tracked = true;
        }
    }

    /// Takes the connection away from callers.
    pub(super) fn withdraw(&self) {
        drop(lock(&self.connection).live.take());
    }

    pub(super) fn close(&self) {
        let mut slot = lock(&self.connection);
        (slot.live, slot.closed) = (None, true);
    }

    // === health, time and warnings ===

    pub(super) fn set_down(&self, cause: &ConnectError) -> String {
        let cause = cause.to_string();
        let warning = ConfigurationWarning { setting: "unusable", text: format!("Redis {cause}") };
        lock(&self.warnings).down = Some(warning);
        self.health.send_replace(StoreHealth::Down);
        cause
    }

    pub(super) fn set_up(&self) {
        lock(&self.warnings).down = None;
        self.health.send_replace(StoreHealth::Up);
    }

    pub(super) fn now(&self) -> SystemTime {
        let ServerTime { time, learnt } = *lock(&self.time);
        time + self.clock.monotonic().saturating_duration_since(learnt)
    }

    pub(super) fn warnings(&self) -> Vec<ConfigurationWarning> {
        let warnings = lock(&self.warnings);
        warnings.down.iter().chain(&warnings.writes).chain(&warnings.settings).cloned().collect()
    }

    /// Takes over what a probe found that was sent at `asked`.
    pub(super) fn learn(&self, asked: Instant, probed: ProbeAnswer) {
        let learnt = self.clock.monotonic();
        // Redis read its clock somewhere between the question and the answer.
        let time = probed.time + learnt.saturating_duration_since(asked) / 2;
        *lock(&self.time) = ServerTime { time, learnt };
        let before = mem::replace(&mut lock(&self.warnings).writes, probed.writes_refused.clone());
        match (before, probed.writes_refused) {
            (before, Some(warning)) if before.as_ref() != Some(&warning) => tracing::error!("{}", warning.text),
            (Some(_), None) => tracing::info!("Redis accepts writes again"),
            _ => {}
        }
    }

    /// Keeps the warnings about Redis's configuration, and logs them when they have changed.
    pub(super) fn set_settings_warnings(&self, check: &ServerCheck) {
        let (before, found) = {
            let mut warnings = lock(&self.warnings);
            let found = check.shortfalls(&warnings.settings);
            (mem::replace(&mut warnings.settings, found.clone()), found)
        };
        if before == found {
            return;
        }
        for warning in &found {
            tracing::warn!(setting = warning.setting, "acknowledged users can be lost: Redis's {}", warning.text);
        }
        if found.is_empty() {
            tracing::info!("Redis's configuration keeps users again");
        }
    }

    // === failed calls ===

    /// Why a call has no answer. Wakes the supervisor where the connection may have failed.
    pub(super) fn no_answer(&self, error: RedisError, timeouts: &AtomicU32) -> NoAnswer {
        if error.code().is_some() {
            // Redis answers.
            timeouts.store(0, Ordering::Relaxed);
            self.log_refusal(&error);
            return NoAnswer::Refused(error);
        }
        if error.is_timeout() {
            timeouts.fetch_add(1, Ordering::Relaxed);
        }
        self.suspect.notify_one();
        NoAnswer::Lost
    }

    /// Logs the error, once a second at most. Redis does not repeat the command's arguments in it.
    fn log_refusal(&self, error: &RedisError) {
        let now = self.clock.monotonic();
        let mut logged = lock(&self.refusal_logged);
        if logged.is_none_or(|at| now.saturating_duration_since(at) >= REFUSED_LOG_INTERVAL) {
            *logged = Some(now);
            drop(logged);
            tracing::warn!(cause = first_sentence(error), "Redis refused a command");
        }
    }
}
