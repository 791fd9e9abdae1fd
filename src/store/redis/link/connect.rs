//! One attempt to connect, and the attempts of a start.
//!
//! A connection is used only after reads and writes were tried over it and Redis was found able to keep users. Password and
//! certificates are read again for each attempt. Does not know what happens when a connection fails later.

use std::{sync::Arc, time::Duration};

use redis::{AsyncConnectionConfig, ProtocolVersion, RedisError, RedisResult, aio::MultiplexedConnection};
use tokio::time::{Instant, sleep};

use super::{
    super::Durability,
    ANSWER_WAIT_MAX, OpenError, RedisSettings,
    connect_error::ConnectError,
    probe::{self, ProbeAnswer},
    server_check::ServerCheck,
    tracking::ChangeTracker,
};

/// How long a connection may take: TCP, TLS, password and database.
const CONNECT_WAIT_MAX: Duration = Duration::from_secs(1);

/// Commands that wait for the connection at most; beyond it callers wait, within their deadline.
const COMMANDS_QUEUED_MAX: usize = 1_024;

/// How long a start retries where the cause is temporary.
const START_WAIT_MAX: Duration = Duration::from_secs(10);

/// Between two attempts of a start.
const START_RETRY: Duration = Duration::from_millis(200);

/// A connection that was tried, and what Redis says of itself.
pub(super) struct Connected {
    pub(super) connection: MultiplexedConnection,
    pub(super) check: ServerCheck,
    pub(super) probed: ProbeAnswer,
    /// Whether Redis can push messages that no command asked for.
    pub(super) is_resp3: bool,
}

/// Connects. `tracker` gets what Redis pushes. An answer may take `answer_wait_max`.
pub(super) async fn once(
    settings: &RedisSettings,
    tracker: &Arc<ChangeTracker>,
    answer_wait_max: Duration,
) -> Result<Connected, ConnectError> {
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(CONNECT_WAIT_MAX))
        .set_response_timeout(Some(answer_wait_max))
        .set_pipeline_buffer_size(COMMANDS_QUEUED_MAX);
    let pushed = tracker.clone();
    let tracking = config.clone().set_push_sender(move |push| {
        pushed.pushed(push);
        Ok::<_, RedisError>(())
    });
    let (connected, is_resp3) = match connect(settings, ProtocolVersion::RESP3, tracking).await? {
        // The server may not know HELLO. If the cause is another one, RESP2 meets it too.
        Err(error) if !error.is_timeout() && !error.is_connection_refusal() => {
            (connect(settings, ProtocolVersion::RESP2, config).await?, false)
        }
        connected => (connected, true),
    };
    let mut connection = connected.map_err(|error| {
        if error.is_timeout() { ConnectError::timeout(settings.url.is_tls()) } else { ConnectError::of(&error) }
    })?;
    let check = ServerCheck::ask(&mut connection).await.map_err(|error| ConnectError::of(&error))?;
    if let Some(why) = check.not_ready() {
        return Err(ConnectError::temporary(why));
    }
    if let Some(why) = check.unfit() {
        return Err(ConnectError::permanent(why));
    }
    let probed = probe::ask(&mut connection, &settings.prefix).await.map_err(|error| ConnectError::of(&error))?;
    Ok(Connected { connection, check, probed, is_resp3 })
}

async fn connect(
    settings: &RedisSettings,
    protocol: ProtocolVersion,
    config: AsyncConnectionConfig,
) -> Result<RedisResult<MultiplexedConnection>, ConnectError> {
    let client = settings.client(protocol).map_err(|OpenError(why)| ConnectError::permanent(why))?;
    Ok(client.get_multiplexed_async_connection_with_config(&config).await)
}

/// Connects for a start: retries while the cause is temporary, and refuses a Redis that cannot keep users.
pub(super) async fn with_retries(
    settings: &RedisSettings,
    tracker: &Arc<ChangeTracker>,
) -> Result<Connected, OpenError> {
    let give_up = Instant::now() + START_WAIT_MAX;
    let mut is_logged = false;
    loop {
        match once(settings, tracker, ANSWER_WAIT_MAX).await {
            Ok(connected) => return accept(settings, connected),
            Err(cause) if cause.is_temporary() && Instant::now() < give_up => {
                if !is_logged {
                    tracing::warn!("{}: {cause}; retrying for {START_WAIT_MAX:?}", settings.url);
                    is_logged = true;
                }
                sleep(START_RETRY).await;
            }
            Err(cause) => return Err(refused(settings, &cause)),
        }
    }
}

/// Connects without retries, for commands of an operator.
pub(super) async fn at_once(
    settings: &RedisSettings,
    tracker: &Arc<ChangeTracker>,
    answer_wait_max: Duration,
) -> Result<Connected, OpenError> {
    let connected = once(settings, tracker, answer_wait_max).await.map_err(|cause| refused(settings, &cause))?;
    accept(settings, connected)
}

pub(super) fn refused(settings: &RedisSettings, cause: &ConnectError) -> OpenError {
    OpenError(format!("{}: {cause}", settings.url))
}

/// Refuses a Redis that can lose users, and warns of what is accepted.
fn accept(settings: &RedisSettings, connected: Connected) -> Result<Connected, OpenError> {
    refuse_shortfalls(settings, &connected.check).map_err(|why| OpenError(format!("{}: {why}", settings.url)))?;
    if settings.url.is_plain_beyond_loopback() {
        tracing::warn!(url = %settings.url, "users travel to Redis in plain text; use rediss:// on networks that others can read");
    }
    if connected.check.is_partly_hidden() {
        tracing::warn!(
            "Redis forbids CONFIG or hides a setting, so it is not checked that appendonly is yes, appendfsync always and \
             maxmemory-policy noeviction"
        );
    }
    Ok(connected)
}

/// Refuses a configuration with which acknowledged users can be lost, and names all shortfalls at once.
pub(super) fn refuse_shortfalls(settings: &RedisSettings, check: &ServerCheck) -> Result<(), String> {
    let shortfalls = check.shortfalls(&[]);
    if settings.durability == Durability::Relaxed || shortfalls.is_empty() {
        return Ok(());
    }
    let lines: Vec<_> = shortfalls.iter().map(|warning| format!("\n  {}", warning.text)).collect();
    Err(format!(
        "acknowledged users could be lost with Redis's settings:{}\n  Write them to its redis.conf too, or its next \
         restart resets them; --redis-durability relaxed starts all the same",
        lines.concat()
    ))
}
