//! One attempt to connect, and what a start makes of it.

use std::{sync::Arc, time::Duration};

use redis::{AsyncConnectionConfig, ProtocolVersion, RedisError, RedisResult, aio::MultiplexedConnection};
use tokio::time::{Instant, sleep};

use super::{
    ANSWER_WAIT_MAX, Durability, OpenError, RedisSettings,
    connect_error::Trouble,
    probe::{self, Health},
    server_check::Condition,
    tracking::Watch,
};

/// How long a connection may take: TCP, TLS, password and database.
const CONNECT_WAIT_MAX: Duration = Duration::from_secs(1);

/// Commands that may wait for their turn on the connection; beyond it callers wait, within their time.
const COMMANDS_WAITING_MAX: usize = 1_024;

/// How long a start waits for a Redis that cannot be reached or reads its file, before it gives up.
const START_WAIT_MAX: Duration = Duration::from_secs(10);

/// Between two attempts of a start.
const START_RETRY: Duration = Duration::from_millis(200);

/// A connection over which reads and writes were tried, and what Redis says of itself.
pub(super) struct Connected {
    pub(super) connection: MultiplexedConnection,
    pub(super) condition: Condition,
    pub(super) health: Health,
    /// Whether Redis can push what nobody asked for.
    pub(super) is_resp3: bool,
}

/// Connects; what Redis pushes goes to `watch`. Reads password and certificates anew, so that a changed file counts
/// without a restart.
pub(super) async fn once(settings: &RedisSettings, watch: &Arc<Watch>) -> Result<Connected, Trouble> {
    let hearing = watch.clone();
    let hearing = limits().set_push_sender(move |push| {
        hearing.pushed(push);
        Ok::<_, RedisError>(())
    });
    let (connected, is_resp3) = match connect(settings, ProtocolVersion::RESP3, hearing).await? {
        // It may be something that knows no HELLO. If it is anything else, RESP2 meets that too.
        Err(error) if !error.is_timeout() && !error.is_connection_refusal() => {
            (connect(settings, ProtocolVersion::RESP2, limits()).await?, false)
        }
        connected => (connected, true),
    };
    let mut connection = connected.map_err(|error| {
        if error.is_timeout() { Trouble::silent(settings.url.is_tls()) } else { Trouble::of(&error) }
    })?;
    let condition = Condition::ask(&mut connection).await.map_err(|error| Trouble::of(&error))?;
    if let Some(passing) = condition.not_yet() {
        return Err(Trouble::passing(passing));
    }
    if let Some(why) = condition.unfit() {
        return Err(Trouble::unfit(why));
    }
    let health = probe::ask(&mut connection, &settings.prefix).await.map_err(|error| Trouble::of(&error))?;
    Ok(Connected { connection, condition, health, is_resp3 })
}

fn limits() -> AsyncConnectionConfig {
    AsyncConnectionConfig::new()
        .set_connection_timeout(Some(CONNECT_WAIT_MAX))
        .set_response_timeout(Some(ANSWER_WAIT_MAX))
        .set_pipeline_buffer_size(COMMANDS_WAITING_MAX)
}

async fn connect(
    settings: &RedisSettings,
    protocol: ProtocolVersion,
    config: AsyncConnectionConfig,
) -> Result<RedisResult<MultiplexedConnection>, Trouble> {
    let client = settings.client(protocol).map_err(|OpenError(why)| Trouble::unfit(why))?;
    Ok(client.get_multiplexed_async_connection_with_config(&config).await)
}

/// Connects for a start: tries for as long as what is wrong may pass, and refuses a Redis that cannot keep users.
pub(super) async fn patiently(settings: &RedisSettings, watch: &Arc<Watch>) -> Result<Connected, OpenError> {
    let give_up = Instant::now() + START_WAIT_MAX;
    let mut said = false;
    loop {
        match once(settings, watch).await {
            Ok(connected) => return accept(settings, connected),
            Err(trouble) if trouble.is_passing() && Instant::now() < give_up => {
                if !said {
                    tracing::warn!("{}: {trouble}; trying for {START_WAIT_MAX:?}", settings.url);
                    said = true;
                }
                sleep(START_RETRY).await;
            }
            Err(trouble) => return Err(refused(settings, &trouble)),
        }
    }
}

/// The same without patience, for commands that somebody waits for; nobody hears of changes.
pub(super) async fn at_once(settings: &RedisSettings) -> Result<Connected, OpenError> {
    let watch = Arc::new(Watch::new(settings.prefix.clone()));
    let connected = once(settings, &watch).await.map_err(|trouble| refused(settings, &trouble))?;
    accept(settings, connected)
}

pub(super) fn refused(settings: &RedisSettings, trouble: &Trouble) -> OpenError {
    OpenError(format!("{}: {trouble}", settings.url))
}

/// Warns of what is tolerated, and refuses the rest.
fn accept(settings: &RedisSettings, connected: Connected) -> Result<Connected, OpenError> {
    tolerable(settings, &connected.condition).map_err(|why| OpenError(format!("{}: {why}", settings.url)))?;
    if settings.url.is_plain_beyond_loopback() {
        tracing::warn!(url = %settings.url, "users travel to Redis in plain text; use rediss:// where others may listen");
    }
    if connected.condition.is_partly_hidden() {
        tracing::warn!("Redis forbids CONFIG, so nobody checks that its appendfsync is always");
    }
    Ok(connected)
}

/// Refuses settings with which acknowledged users can be lost, all of them at once.
pub(super) fn tolerable(settings: &RedisSettings, condition: &Condition) -> Result<(), String> {
    let shortfalls = condition.shortfalls(&[]);
    if settings.durability == Durability::Relaxed || shortfalls.is_empty() {
        return Ok(());
    }
    let lines: Vec<_> = shortfalls.iter().map(|alarm| format!("\n  {}", alarm.text)).collect();
    Err(format!(
        "acknowledged users could be lost with Redis's settings:{}\n  Write them into its redis.conf too, or its next \
         restart forgets them; --redis-durability relaxed starts all the same",
        lines.concat()
    ))
}
