//! The one connection to Redis, and the task that tends it.
//!
//! redis-rs multiplexes all calls over one connection but never replaces one on which nothing comes back: a timeout is
//! an error to it and no reason. So the task here asks a small question all the time (`probe.rs`), and after two answers
//! in a row that did not come, or one broken connection, makes a new one, for ever. While there is none, calls are
//! refused at once and nothing of them is executed.
//!
//! Where Redis tells what is changed (`tracking.rs`), the answer to that question vouches for all that was read before it.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    thread,
    time::{Duration, Instant, SystemTime},
};

use redis::{Cmd, FromRedisValue, Pipeline, RedisError, RedisResult, Value, aio::MultiplexedConnection};
use tokio::{
    sync::{Notify, watch},
    task::JoinHandle,
    time::sleep,
};

use super::{
    RedisSettings,
    connect::{self, Connected},
    connect_error::{Trouble, first_sentence},
    probe::{self, Health},
    server_check::Condition,
    tracking::Watch,
};
use crate::{
    domain::{ChangeHandler, ChangeNotice, Clock, ConfigurationWarning, Entropy, Environment, StoreHealth},
    store::document_store::Key,
};

/// Between two questions of the tending task.
const PROBE_INTERVAL: Duration = Duration::from_millis(250);

/// Answers in a row that did not come, after which the connection is replaced.
const SILENCE_MAX: u32 = 2;

/// Between two attempts to connect: at first, and at most. Each is shortened by up to a half, so that the nodes of a
/// Redis that comes back do not come all at once.
const RETRY_MIN: Duration = Duration::from_millis(50);
const RETRY_MAX: Duration = Duration::from_secs(1);

/// A connection that lived this long was a good one: after it the first attempt follows at once again.
const GOOD_LIFE: Duration = Duration::from_secs(10);

/// Between two log lines about commands that Redis refused.
const REFUSED_LOG_INTERVAL: Duration = Duration::from_secs(1);

/// A connection that heals. Dropping it ends it.
pub(super) struct Link {
    shared: Arc<Shared>,
    tending: JoinHandle<()>,
}

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum NoAnswer {
    /// Redis never saw the command.
    NotSent,
    /// Redis answered with an error.
    Refused(RedisError),
    /// The command was sent, or may have been, and nobody knows what became of it.
    Lost,
}

struct Shared {
    settings: RedisSettings,
    /// Which store it was at the start.
    marker: String,
    permit: Mutex<QueuePermit>,
    broken: Notify,
    watch: Arc<Watch>,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    time: Mutex<Time>,
    pulse: watch::Sender<StoreHealth>,
    alarms: Mutex<ConfigurationWarnings>,
    refusal_logged: Mutex<Option<Instant>>,
}

/// Where callers find the connection.
#[derive(Default)]
struct QueuePermit {
    live: Option<Live>,
    closed: bool,
}

#[derive(Clone)]
struct Live {
    connection: MultiplexedConnection,
    /// Answers in a row that did not come.
    silence: Arc<AtomicU32>,
    is_resp3: bool,
    /// Whether Redis tells what is changed of what is read here to be watched.
    is_tracked: bool,
}

/// Whether Redis tells what is changed of what is read over a connection.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Tracking {
    NotAsked,
    Refused,
    /// Of what was asked for after this.
    Since(Instant),
}

/// What time it is at Redis, and when we heard it.
#[derive(Clone, Copy)]
struct Time {
    told: SystemTime,
    heard: Instant,
}

#[derive(Default)]
struct ConfigurationWarnings {
    settings: Vec<ConfigurationWarning>,
    writes: Option<ConfigurationWarning>,
    down: Option<ConfigurationWarning>,
}

// === impl Link ===

impl Link {
    /// Tends a connection and its successors.
    pub(super) fn tend(
        settings: &RedisSettings,
        marker: String,
        first: Connected,
        watch: Arc<Watch>,
        environment: &Environment,
    ) -> Self {
        let condition = first.condition.clone();
        let shared = Arc::new(Shared {
            settings: settings.clone(),
            marker,
            permit: Mutex::default(),
            broken: Notify::new(),
            watch,
            clock: environment.clock.clone(),
            entropy: environment.entropy.clone(),
            time: Mutex::new(Time { told: first.health.time, heard: environment.clock.monotonic() }),
            pulse: watch::Sender::new(StoreHealth::Up),
            alarms: Mutex::default(),
            refusal_logged: Mutex::default(),
        });
        let live = shared.take_over(first);
        let tending = tokio::spawn(shared.clone().keep(live, condition));
        Self { shared, tending }
    }

    /// Asks Redis.
    pub(super) async fn ask<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, NoAnswer> {
        let Live { mut connection, silence, .. } = self.live()?;
        match command.query_async(&mut connection).await {
            Ok(answer) => {
                silence.store(0, Ordering::Relaxed);
                Ok(answer)
            }
            Err(error) => Err(self.shared.no_answer(error, &silence)),
        }
    }

    /// Asks several things, with nobody else's question in between, and answers what became of each.
    pub(super) async fn ask_all(&self, questions: &Pipeline) -> Result<Vec<RedisResult<Value>>, NoAnswer> {
        let Live { mut connection, silence, .. } = self.live()?;
        let answers = questions.query_async(&mut connection).await;
        answers.inspect(|_| silence.store(0, Ordering::Relaxed)).map_err(|error| self.shared.no_answer(error, &silence))
    }

    fn live(&self) -> Result<Live, NoAnswer> {
        lock(&self.shared.permit).live.clone().ok_or(NoAnswer::NotSent)
    }

    /// Tells `hear` what is changed, from the next question on, where Redis tells it.
    pub(super) fn watch(&self, hear: ChangeHandler<Key>) {
        self.shared.watch.begin(hear);
    }

    /// Whether what is read now can be watched, if the connection lasts.
    pub(super) fn is_tracked(&self) -> bool {
        lock(&self.shared.permit).live.as_ref().is_some_and(|live| live.is_tracked)
    }

    pub(super) fn tell(&self, news: ChangeNotice<Key>) {
        self.shared.watch.tell(news);
    }

    /// What time it is at Redis, to about the time that a question takes.
    pub(super) fn now(&self) -> SystemTime {
        let time = *lock(&self.shared.time);
        time.told + self.shared.clock.monotonic().saturating_duration_since(time.heard)
    }

    pub(super) fn health(&self) -> watch::Receiver<StoreHealth> {
        self.shared.pulse.subscribe()
    }

    pub(super) fn warnings(&self) -> Vec<ConfigurationWarning> {
        let alarms = lock(&self.shared.alarms);
        alarms.down.iter().chain(&alarms.writes).chain(&alarms.settings).cloned().collect()
    }

    /// Lets go of the connection; no new one is made.
    pub(super) fn close(&self) {
        self.tending.abort();
        *lock(&self.shared.permit) = QueuePermit { live: None, closed: true };
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.close();
    }
}

// === impl Shared ===

impl Shared {
    /// The tending task's life: look after one connection until it breaks, then make another.
    async fn keep(self: Arc<Self>, mut live: Live, mut condition: Condition) {
        let _guard = NeverAlone(&self.pulse);
        let mut pause = RETRY_MIN;
        loop {
            let begun = self.clock.monotonic();
            let trouble = self.look_after(&live).await;
            drop(lock(&self.permit).live.take());
            tracing::warn!(cause = %trouble, "the connection to Redis is replaced");
            if !trouble.is_broken() {
                self.is_down(&trouble);
            }
            if self.clock.monotonic().saturating_duration_since(begun) >= GOOD_LIFE {
                pause = RETRY_MIN;
            } else {
                self.wait(&mut pause).await;
            }
            let connected = self.reconnect(&condition, &mut pause).await;
            condition = connected.condition.clone();
            live = self.take_over(connected);
            self.is_up();
        }
    }

    /// Returns why the connection must be replaced.
    async fn look_after(&self, live: &Live) -> Trouble {
        let mut connection = live.connection.clone();
        let mut next_check = self.clock.monotonic() + self.settings.check_interval;
        let mut tracking = Tracking::NotAsked;
        loop {
            if tracking == Tracking::NotAsked && self.watch.is_wanted() {
                tracking = match self.track(live).await {
                    Ok(tracking) => tracking,
                    // The next probe decides whether that was more than a hiccup.
                    Err(error) if error.is_timeout() => Tracking::NotAsked,
                    Err(error) => return Trouble::broken(&error),
                };
            }
            tokio::select! {
                () = sleep(PROBE_INTERVAL) => {}
                () = self.broken.notified() => {}
            }
            let asked = self.clock.monotonic();
            match probe::ask(&mut connection, &self.settings.prefix).await {
                Ok(health) if health.marker.as_ref() != Some(&self.marker) => return lost_data(),
                Ok(health) => {
                    live.silence.store(0, Ordering::Relaxed);
                    self.heard(asked, health);
                    if let Tracking::Since(since) = tracking {
                        self.watch.tell(ChangeNotice::Complete { since, until: asked });
                    }
                }
                Err(error) if error.is_timeout() => {
                    if live.silence.fetch_add(1, Ordering::Relaxed) + 1 >= SILENCE_MAX {
                        return Trouble::silent(false);
                    }
                    // The next question follows at once.
                    self.broken.notify_one();
                    continue;
                }
                Err(error) => return Trouble::broken(&error),
            }
            if self.clock.monotonic() >= next_check {
                next_check = self.clock.monotonic() + self.settings.check_interval;
                if tracking == Tracking::Refused {
                    // Rights may have been given meanwhile.
                    tracking = Tracking::NotAsked;
                }
                match Condition::ask(&mut connection).await {
                    Ok(condition) => match condition.unfit() {
                        Some(why) => return Trouble::unfit(why),
                        None => self.note(&condition),
                    },
                    // The next probe decides whether that was more than a hiccup.
                    Err(error) => tracing::debug!(%error, "Redis's settings could not be read"),
                }
            }
        }
    }

    /// Has what is read over this connection watched, if Redis will.
    async fn track(&self, live: &Live) -> Result<Tracking, RedisError> {
        if !self.watch.track(&mut live.connection.clone(), live.is_resp3).await? {
            return Ok(Tracking::Refused);
        }
        if let Some(live) = &mut lock(&self.permit).live {
            live.is_tracked = true;
        }
        // Last: whoever asks after this is tracked, over this connection, and asks for the time that a key has left.
        Ok(Tracking::Since(self.clock.monotonic()))
    }

    /// Tries until a Redis answers that is still the store that it was.
    async fn reconnect(&self, before: &Condition, pause: &mut Duration) -> Connected {
        let mut said = String::new();
        loop {
            match connect::once(&self.settings, &self.watch)
                .await
                .and_then(|connected| self.is_the_same(before, connected))
            {
                Ok(connected) => {
                    tracing::info!("Redis answers again");
                    return connected;
                }
                Err(trouble) => {
                    let cause = self.is_down(&trouble);
                    // Once for each cause, however often it is met.
                    if cause != said {
                        tracing::error!(cause, "Redis cannot be used; trying again until it can");
                        said = cause;
                    }
                }
            }
            self.wait(pause).await;
        }
    }

    /// A Redis that was started again is looked at as at our own start: with other settings it may have come back without
    /// its users.
    fn is_the_same(&self, before: &Condition, connected: Connected) -> Result<Connected, Trouble> {
        if connected.health.marker.as_ref() != Some(&self.marker) {
            return Err(lost_data());
        }
        if !connected.condition.is_same_run(before) {
            connect::tolerable(&self.settings, &connected.condition).map_err(Trouble::unfit)?;
        }
        Ok(connected)
    }

    fn is_down(&self, trouble: &Trouble) -> String {
        let cause = trouble.to_string();
        lock(&self.alarms).down = Some(ConfigurationWarning { setting: "unusable", text: format!("Redis {cause}") });
        self.pulse.send_replace(StoreHealth::Down);
        cause
    }

    fn is_up(&self) {
        lock(&self.alarms).down = None;
        self.pulse.send_replace(StoreHealth::Up);
    }

    /// Lets callers use a new connection.
    fn take_over(&self, connected: Connected) -> Live {
        let Connected { connection, condition, health, is_resp3 } = connected;
        self.note(&condition);
        self.heard(self.clock.monotonic(), health);
        let live = Live { connection, silence: Arc::default(), is_resp3, is_tracked: false };
        let mut permit = lock(&self.permit);
        if !permit.closed {
            permit.live = Some(live.clone());
        }
        live
    }

    fn heard(&self, asked: Instant, health: Health) {
        let heard = self.clock.monotonic();
        // It was told somewhere between the question and its answer.
        let told = health.time + heard.saturating_duration_since(asked) / 2;
        *lock(&self.time) = Time { told, heard };
        let before = std::mem::replace(&mut lock(&self.alarms).writes, health.writes_refused.clone());
        match (before, health.writes_refused) {
            (before, Some(alarm)) if before.as_ref() != Some(&alarm) => tracing::error!("{}", alarm.text),
            (Some(_), None) => tracing::info!("Redis takes writes again"),
            _ => {}
        }
    }

    /// Keeps what is wrong with Redis's settings, and says so when it changed.
    fn note(&self, condition: &Condition) {
        let (before, found) = {
            let mut alarms = lock(&self.alarms);
            let found = condition.shortfalls(&alarms.settings);
            (std::mem::replace(&mut alarms.settings, found.clone()), found)
        };
        if before == found {
            return;
        }
        for alarm in &found {
            tracing::warn!(setting = alarm.setting, "acknowledged users can be lost: Redis's {}", alarm.text);
        }
        if found.is_empty() {
            tracing::info!("Redis's settings are as they must be again");
        }
    }

    fn no_answer(&self, error: RedisError, silence: &AtomicU32) -> NoAnswer {
        if error.code().is_some() {
            // Redis lives, and says what it minds.
            silence.store(0, Ordering::Relaxed);
            self.log_refusal(&error);
            return NoAnswer::Refused(error);
        }
        if error.is_timeout() {
            silence.fetch_add(1, Ordering::Relaxed);
        }
        // Whatever it was, the tending task looks for itself.
        self.broken.notify_one();
        NoAnswer::Lost
    }

    /// Without the command's arguments, which Redis does not repeat; once a second at most.
    fn log_refusal(&self, error: &RedisError) {
        let now = self.clock.monotonic();
        let mut logged = lock(&self.refusal_logged);
        if logged.is_none_or(|at| now.saturating_duration_since(at) >= REFUSED_LOG_INTERVAL) {
            *logged = Some(now);
            drop(logged);
            tracing::warn!(cause = first_sentence(error), "Redis refused a command");
        }
    }

    /// Waits, and makes the next wait longer.
    async fn wait(&self, pause: &mut Duration) {
        let mut byte = [0];
        self.entropy.fill(&mut byte);
        sleep(*pause - *pause / 2 * u32::from(byte[0]) / 255).await;
        *pause = (*pause * 2).min(RETRY_MAX);
    }
}

fn lost_data() -> Trouble {
    Trouble::unfit(
        "has lost its data: its marker, the key …store, is gone or another one. Give it its file back, or start \
         Watchword again if the users shall be gone"
            .into(),
    )
}

/// A connection that nobody tends must not look healthy: a panic of the task fails the store, and the node ends.
struct NeverAlone<'a>(&'a watch::Sender<StoreHealth>);

impl Drop for NeverAlone<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.send_replace(StoreHealth::Failed);
        }
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Each holds one value that is replaced whole.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
