//! The one connection to Redis, and the task that tends it.
//!
//! redis-rs multiplexes all calls over one connection but never replaces one on which nothing comes back: a timeout is
//! an error to it and no reason. So the task here asks a small question all the time, and after two answers in a row
//! that did not come, or one broken connection, makes a new one, for ever. While there is none, calls are refused at
//! once and nothing of them is executed.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionAddr, FromRedisValue, RedisError, aio::MultiplexedConnection, pipe,
};
use tokio::{
    sync::{Notify, watch},
    task::JoinHandle,
    time::{sleep, timeout},
};

use super::{condition::Condition, trouble::Trouble};
use crate::domain::{Alarm, Clock, Entropy, Pulse, World};

/// How long an answer may take. A caller hears within this and a little more that the store is down.
const ANSWER_WAIT_MAX: Duration = Duration::from_millis(400);

/// How long a connection may take: TCP, TLS, password and database.
const CONNECT_WAIT_MAX: Duration = Duration::from_secs(1);

/// Between two questions of the tending task.
const PROBE_INTERVAL: Duration = Duration::from_millis(250);

/// Answers in a row that did not come, after which the connection is replaced.
const SILENCE_MAX: u32 = 2;

/// Between two attempts to connect: at first, and at most. Each is shortened by up to a half, so that the nodes of a
/// Redis that comes back do not come all at once.
const RETRY_MIN: Duration = Duration::from_millis(50);
const RETRY_MAX: Duration = Duration::from_millis(1_000);

/// Commands that may wait for their turn on the connection; beyond it callers wait, within their time.
const COMMANDS_WAITING_MAX: usize = 1_024;

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
    /// Redis answered that it did not do it.
    Refused(RedisError),
    /// The command was sent, or may have been, and nobody knows what became of it.
    Lost,
}

struct Shared {
    client: Client,
    /// A key to read: it need not exist.
    probe_key: String,
    check_interval: Duration,
    connection: Mutex<Option<MultiplexedConnection>>,
    silence: AtomicU32,
    broken: Notify,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    time: Mutex<Time>,
    pulse: watch::Sender<Pulse>,
    alarms: Mutex<Vec<Alarm>>,
    refusal_logged: Mutex<Option<Instant>>,
}

/// What time it is at Redis, and when we heard it.
#[derive(Clone, Copy)]
struct Time {
    told: SystemTime,
    heard: Instant,
}

// === impl Link ===

impl Link {
    /// Connects once and learns what Redis says of itself.
    pub(super) async fn try_once(client: &Client) -> Result<(MultiplexedConnection, Condition), Trouble> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT_WAIT_MAX))
            .set_response_timeout(Some(ANSWER_WAIT_MAX))
            .set_pipeline_buffer_size(COMMANDS_WAITING_MAX);
        // The crate's own limit does not cover what it asks after the connection stands, such as the password.
        let connected = timeout(CONNECT_WAIT_MAX * 2, client.get_multiplexed_async_connection_with_config(&config));
        let is_tls = matches!(client.get_connection_info().addr(), ConnectionAddr::TcpTls { .. });
        let silent = || Trouble::silent(is_tls);
        let mut connection = connected
            .await
            .map_err(|_| silent())?
            .map_err(|error| if error.is_timeout() { silent() } else { Trouble::of(&error) })?;
        let condition = Condition::ask(&mut connection).await.map_err(|error| Trouble::of(&error))?;
        if condition.is_loading() {
            return Err(Trouble::loading());
        }
        match condition.unfit() {
            Some(why) => Err(Trouble::unfit(why)),
            None => Ok((connection, condition)),
        }
    }

    /// Tends `connection` and its successors.
    pub(super) fn tend(
        client: Client,
        first: (MultiplexedConnection, Condition),
        probe_key: String,
        check_interval: Duration,
        world: &World,
    ) -> Self {
        let now = Time { told: world.clock.now(), heard: world.clock.monotonic() };
        let shared = Arc::new(Shared {
            client,
            probe_key,
            check_interval,
            connection: Mutex::new(None),
            silence: AtomicU32::new(0),
            broken: Notify::new(),
            clock: world.clock.clone(),
            entropy: world.entropy.clone(),
            time: Mutex::new(now),
            pulse: watch::Sender::new(Pulse::Up),
            alarms: Mutex::default(),
            refusal_logged: Mutex::default(),
        });
        let (connection, condition) = first;
        shared.note(&condition);
        *lock(&shared.connection) = Some(connection.clone());
        let tending = tokio::spawn(shared.clone().keep(connection));
        Self { shared, tending }
    }

    /// Asks Redis.
    pub(super) async fn ask<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, NoAnswer> {
        let connection = lock(&self.shared.connection).clone();
        let Some(mut connection) = connection else { return Err(NoAnswer::NotSent) };
        match command.query_async(&mut connection).await {
            Ok(answer) => {
                self.shared.silence.store(0, Ordering::Relaxed);
                Ok(answer)
            }
            Err(error) => Err(self.shared.no_answer(error)),
        }
    }

    /// What time it is at Redis, to about the time that a question takes.
    pub(super) fn now(&self) -> SystemTime {
        let time = *lock(&self.shared.time);
        time.told + self.shared.clock.monotonic().saturating_duration_since(time.heard)
    }

    pub(super) fn pulse(&self) -> watch::Receiver<Pulse> {
        self.shared.pulse.subscribe()
    }

    pub(super) fn alarms(&self) -> Vec<Alarm> {
        lock(&self.shared.alarms).clone()
    }

    /// Lets go of the connection; no new one is made.
    pub(super) fn close(&self) {
        self.tending.abort();
        drop(lock(&self.shared.connection).take());
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
    async fn keep(self: Arc<Self>, mut connection: MultiplexedConnection) {
        loop {
            let trouble = self.look_after(connection).await;
            drop(lock(&self.connection).take());
            tracing::warn!(cause = %trouble, "the connection to Redis is replaced");
            connection = self.reconnect().await;
            self.silence.store(0, Ordering::Relaxed);
            *lock(&self.connection) = Some(connection.clone());
            self.pulse.send_replace(Pulse::Up);
        }
    }

    /// Returns why the connection must be replaced.
    async fn look_after(&self, mut connection: MultiplexedConnection) -> Trouble {
        let mut next_check = self.clock.monotonic() + self.check_interval;
        loop {
            tokio::select! {
                () = sleep(PROBE_INTERVAL) => {}
                () = self.broken.notified() => {}
            }
            match self.probe(&mut connection).await {
                Ok(()) => self.silence.store(0, Ordering::Relaxed),
                Err(error) if error.is_timeout() => {
                    if self.silence.fetch_add(1, Ordering::Relaxed) + 1 >= SILENCE_MAX {
                        return Trouble::silent(false);
                    }
                    // The next question follows at once.
                    self.broken.notify_one();
                    continue;
                }
                Err(error) => return Trouble::broken(&error),
            }
            if self.clock.monotonic() >= next_check {
                next_check = self.clock.monotonic() + self.check_interval;
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

    /// One round trip that only a primary which has read its file answers; brings its time along.
    async fn probe(&self, connection: &mut MultiplexedConnection) -> Result<(), RedisError> {
        let asked = self.clock.monotonic();
        let mut questions = pipe();
        questions.cmd("TIME").cmd("ROLE").cmd("GET").arg(&self.probe_key);
        let ((seconds, micros), role, _): ((u64, u64), Vec<redis::Value>, redis::Value) =
            questions.query_async(connection).await?;
        let heard = self.clock.monotonic();
        let is_primary =
            role.first().is_some_and(|role| matches!(role, redis::Value::BulkString(name) if name == b"master"));
        if !is_primary {
            return Err((redis::ErrorKind::Client, "it is no longer a primary").into());
        }
        let told = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds) + Duration::from_micros(micros);
        // It was told somewhere between the question and its answer.
        *lock(&self.time) = Time { told: told + (heard.saturating_duration_since(asked) / 2), heard };
        Ok(())
    }

    async fn reconnect(&self) -> MultiplexedConnection {
        let mut pause = RETRY_MIN;
        let mut said = String::new();
        loop {
            match Link::try_once(&self.client).await {
                Ok((mut connection, condition)) => match self.probe(&mut connection).await {
                    Ok(()) => {
                        self.note(&condition);
                        tracing::info!("Redis answers again");
                        return connection;
                    }
                    Err(error) => self.is_down(&Trouble::of(&error), &mut said),
                },
                Err(trouble) => self.is_down(&trouble, &mut said),
            }
            sleep(self.shortened(pause)).await;
            pause = (pause * 2).min(RETRY_MAX);
        }
    }

    /// Says so once for each cause, however often it is met.
    fn is_down(&self, trouble: &Trouble, said: &mut String) {
        self.pulse.send_replace(Pulse::Down);
        let cause = trouble.to_string();
        if cause != *said {
            tracing::error!(cause, "Redis cannot be used; trying again until it can");
            *said = cause;
        }
    }

    /// Keeps what is wrong with Redis's settings, and says so when it changed.
    fn note(&self, condition: &Condition) {
        let found = condition.shortfalls();
        let mut alarms = lock(&self.alarms);
        if *alarms == found {
            return;
        }
        for alarm in &found {
            tracing::warn!(setting = alarm.setting, "acknowledged users can be lost: Redis's {}", alarm.text);
        }
        if found.is_empty() {
            tracing::info!("Redis's settings are as they must be again");
        }
        *alarms = found;
    }

    fn no_answer(&self, error: RedisError) -> NoAnswer {
        if error.code().is_some() {
            // Redis lives, and says what it minds.
            self.silence.store(0, Ordering::Relaxed);
            self.log_refusal(&error);
            return NoAnswer::Refused(error);
        }
        if error.is_timeout() {
            self.silence.fetch_add(1, Ordering::Relaxed);
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
            tracing::warn!(code = error.code(), detail = error.detail(), "Redis refused a command");
        }
    }

    fn shortened(&self, pause: Duration) -> Duration {
        let mut byte = [0];
        self.entropy.fill(&mut byte);
        pause - pause / 2 * u32::from(byte[0]) / 255
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Each holds one value that is replaced whole.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
