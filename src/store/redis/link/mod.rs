//! The link: one connection to Redis that all calls share, and that is replaced when it fails.
//!
//! redis-rs multiplexes calls over one connection and never replaces it when nothing comes back. So a task probes the
//! connection all the time (`supervisor.rs`, `probe.rs`). While there is no connection, calls are refused at once and nothing
//! of them is executed. A Redis that cannot keep users is refused (`server_check.rs`), and so is one that has lost its data
//! (`marker.rs`). Does not know documents, only commands; `tracking.rs` alone reads keys, to report changes.

mod connect;
mod connect_error;
mod marker;
mod probe;
mod server_check;
mod state;
mod supervisor;
mod tracking;

use std::{
    sync::{Arc, atomic::Ordering},
    time::{Duration, SystemTime},
};

use redis::{Cmd, FromRedisValue, Pipeline, RedisError, RedisResult, Value, cmd};
use tokio::{sync::watch, task::JoinHandle};

use self::{
    connect::Connected,
    connect_error::ConnectError,
    state::{LinkState, LiveConnection},
    tracking::ChangeTracker,
};
use super::{COPY_ANSWER_WAIT_MAX, KeyPrefix, OpenError, RedisSettings};
use crate::{
    domain::{ChangeHandler, ChangeNotice, ConfigurationWarning, Environment, StoreHealth},
    store::{SCAN_PAGE_DOCUMENTS_MAX, document::DocumentKey},
};

/// How long an answer may take. A caller hears within this and a little more that the store is down.
pub(super) const ANSWER_WAIT_MAX: Duration = Duration::from_millis(400);

/// A connection that is replaced when it fails. Dropping the link closes it.
pub(super) struct Link {
    state: Arc<LinkState>,
    supervisor: JoinHandle<()>,
}

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum NoAnswer {
    /// The command was not sent.
    NotSent,
    /// Redis answered with an error.
    Refused(RedisError),
    /// The command was sent, or may have been, and its outcome is unknown.
    Lost,
}

impl Link {
    /// Connects, and marks a new store.
    pub(super) async fn open(settings: &RedisSettings, environment: &Environment) -> Result<Self, OpenError> {
        let tracker = Arc::new(ChangeTracker::new(settings.prefix.clone()));
        let mut connected = connect::with_retries(settings, &tracker).await?;
        require_existing(settings, &connected)?;
        let found = marker::find_or_create(&mut connected.connection, &settings.prefix, environment).await;
        let (marker, new) = found.map_err(|error| connect::refused(settings, &ConnectError::of(&error)))?;
        let summary = connected.check.summary();
        tracing::info!(url = %settings.url, prefix = %settings.prefix, new, "store: redis; {summary}");
        Ok(Self::supervise(settings, Some(marker), connected, tracker, environment, ANSWER_WAIT_MAX))
    }

    /// Connects without retries, and does not mark the store. An answer may take `answer_wait_max`.
    pub(super) async fn open_at_once(
        settings: &RedisSettings,
        environment: &Environment,
        answer_wait_max: Duration,
    ) -> Result<Self, OpenError> {
        let tracker = Arc::new(ChangeTracker::new(settings.prefix.clone()));
        let connected = connect::at_once(settings, &tracker, answer_wait_max).await?;
        let marker = connected.probed.marker.clone();
        Ok(Self::supervise(settings, marker, connected, tracker, environment, answer_wait_max))
    }

    fn supervise(
        settings: &RedisSettings,
        marker: Option<String>,
        first: Connected,
        tracker: Arc<ChangeTracker>,
        environment: &Environment,
        answer_wait_max: Duration,
    ) -> Self {
        let check = first.check.clone();
        let state = LinkState::new(settings, marker, &first.probed, tracker, environment, answer_wait_max);
        let state = Arc::new(state);
        let live = state.take_over(first);
        let supervisor = tokio::spawn(state.clone().supervise(live, check));
        Self { state, supervisor }
    }

    /// Sends a command and waits for its answer.
    pub(super) async fn ask<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, NoAnswer> {
        let LiveConnection { mut connection, timeouts, .. } = self.live()?;
        match command.query_async(&mut connection).await {
            Ok(answer) => {
                timeouts.store(0, Ordering::Relaxed);
                Ok(answer)
            }
            Err(error) => Err(self.state.no_answer(error, &timeouts)),
        }
    }

    /// Sends several commands with no other call's command between them, and answers the result of each.
    pub(super) async fn ask_all(&self, commands: &Pipeline) -> Result<Vec<RedisResult<Value>>, NoAnswer> {
        let LiveConnection { mut connection, timeouts, .. } = self.live()?;
        let answers = commands.query_async(&mut connection).await;
        answers
            .inspect(|_| timeouts.store(0, Ordering::Relaxed))
            .map_err(|error| self.state.no_answer(error, &timeouts))
    }

    /// The number of the present connection; another one after each reconnect.
    pub(super) fn connection_number(&self) -> u64 {
        self.state.connection_number()
    }

    fn live(&self) -> Result<LiveConnection, NoAnswer> {
        self.state.live().ok_or(NoAnswer::NotSent)
    }

    /// Reports changes to `handler` from the next probe on, where Redis reports them.
    pub(super) fn watch(&self, handler: ChangeHandler<DocumentKey>) {
        self.state.tracker.begin(handler);
    }

    /// Whether what is read now is watched, if the connection lasts.
    pub(super) fn is_tracked(&self) -> bool {
        self.state.live().is_some_and(|live| live.is_tracked)
    }

    pub(super) fn notify(&self, notice: ChangeNotice<DocumentKey>) {
        self.state.tracker.notify(notice);
    }

    /// The time of Redis, as precise as a round trip.
    pub(super) fn now(&self) -> SystemTime {
        self.state.now()
    }

    pub(super) fn health(&self) -> watch::Receiver<StoreHealth> {
        self.state.health.subscribe()
    }

    pub(super) fn warnings(&self) -> Vec<ConfigurationWarning> {
        self.state.warnings()
    }

    /// Closes the connection; it is not replaced.
    pub(super) fn close(&self) {
        self.supervisor.abort();
        self.state.close();
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.close();
    }
}

/// Connects once, and says what Redis is configured to do and what it answers to `command`.
pub(super) async fn inspect<T: FromRedisValue>(
    settings: &RedisSettings,
    command: &Cmd,
) -> Result<(String, T), OpenError> {
    let tracker = Arc::new(ChangeTracker::new(settings.prefix.clone()));
    let mut connected = connect::at_once(settings, &tracker, ANSWER_WAIT_MAX).await?;
    require_existing(settings, &connected)?;
    let answer = command.query_async(&mut connected.connection).await;
    let answer = answer.map_err(|error| connect::refused(settings, &ConnectError::of(&error)))?;
    Ok((connected.check.summary(), answer))
}

/// Refuses a Redis in which no node has begun a store, if there must be one.
fn require_existing(settings: &RedisSettings, connected: &Connected) -> Result<(), OpenError> {
    if !settings.must_exist || connected.probed.marker.is_some() {
        return Ok(());
    }
    let (url, marker) = (&settings.url, settings.prefix.own_key(marker::NAME));
    Err(OpenError(format!("{url}: there is no store in it: the key {marker} is missing. Was Redis emptied?")))
}

/// Connects once, and deletes every key with the prefix, a step of SCAN at a time.
pub(super) async fn remove_all(settings: &RedisSettings) -> Result<(), OpenError> {
    let tracker = Arc::new(ChangeTracker::new(settings.prefix.clone()));
    let Connected { mut connection, .. } = connect::at_once(settings, &tracker, COPY_ANSWER_WAIT_MAX).await?;
    let failed = |error: RedisError| connect::refused(settings, &ConnectError::of(&error));
    let mut cursor = 0_u64;
    loop {
        let mut scan = cmd("SCAN");
        scan.arg(cursor).arg("MATCH").arg(settings.prefix.own_key("*")).arg("COUNT").arg(SCAN_PAGE_DOCUMENTS_MAX);
        let (next, keys): (u64, Vec<Vec<u8>>) = scan.query_async(&mut connection).await.map_err(failed)?;
        if !keys.is_empty() {
            cmd("DEL").arg(keys).query_async::<()>(&mut connection).await.map_err(failed)?;
        }
        cursor = next;
        if cursor == 0 {
            return Ok(());
        }
    }
}

/// Whether `key` is not a document but the link's own.
pub(super) fn is_own_key(prefix: &KeyPrefix, key: &str) -> bool {
    key == prefix.own_key(marker::NAME)
}
