//! The probe: does this Redis answer, as a primary, reads and writes? And does it still have its data?
//!
//! One round trip. It changes nothing, because it writes only over a key that never exists. Its answer also has the time of
//! Redis. Does not know when a probe is sent, nor what follows from it.

use std::time::{Duration, SystemTime};

use redis::{ErrorKind, FromRedisValue, RedisError, RedisResult, Value, aio::MultiplexedConnection, pipe};

use super::{KeyPrefix, marker};
use crate::{domain::ConfigurationWarning, store::redis::commands::COMPARE_AND_SET};

/// Refusals of writes that more memory, disk or replicas fix. Reads work meanwhile.
const WRITES_REFUSED: [&str; 3] = ["OOM", "MISCONF", "NOREPLICAS"];

/// What a probe found.
pub(super) struct ProbeAnswer {
    /// The time of Redis.
    pub(super) time: SystemTime,
    /// Which store it is; `None` in a new one.
    pub(super) marker: Option<String>,
    /// Set while Redis refuses writes because it lacks something.
    pub(super) writes_refused: Option<ConfigurationWarning>,
}

/// A key that never exists.
const ABSENT: &str = "probe";

/// Probes in one round trip.
pub(super) async fn ask(connection: &mut MultiplexedConnection, prefix: &KeyPrefix) -> RedisResult<ProbeAnswer> {
    let absent = prefix.own_key(ABSENT);
    let mut questions = pipe();
    questions.cmd("TIME").cmd("ROLE").cmd("GET").arg(prefix.own_key(marker::NAME));
    // None of these writes anything, and each is refused where a real write would be.
    questions.cmd("SET").arg(&absent).arg("").arg("XX");
    questions.cmd("EVAL").arg(COMPARE_AND_SET).arg(1).arg(&absent).arg("nothing").arg("nothing");
    questions.cmd("DEL").arg(&absent);
    let answers: Vec<RedisResult<Value>> = questions.ignore_errors().query_async(connection).await?;
    let [time, role, read, set, script, delete] = <[RedisResult<Value>; 6]>::try_from(answers)
        .map_err(|_| RedisError::from((ErrorKind::Parse, "six questions have six answers")))?;
    let marker = Option::from_redis_value(read?)?;
    is_primary(Vec::from_redis_value(role?)?)?;
    let time = time_of(<(u64, u64)>::from_redis_value(time?)?)?;
    let mut writes_refused = None;
    for write in [set, script, delete] {
        match write {
            Ok(_) => {}
            Err(error) => writes_refused = Some(warning(error)?),
        }
    }
    Ok(ProbeAnswer { time, marker, writes_refused })
}

fn is_primary(role: Vec<Value>) -> RedisResult<()> {
    match role.first() {
        Some(Value::BulkString(name)) if name == b"master" => Ok(()),
        _ => Err((ErrorKind::Client, "it is no longer a primary").into()),
    }
}

fn time_of((seconds, micros): (u64, u64)) -> RedisResult<SystemTime> {
    let since_1970 = Duration::from_secs(seconds).checked_add(Duration::from_micros(micros));
    let time = since_1970.and_then(|since_1970| SystemTime::UNIX_EPOCH.checked_add(since_1970));
    time.ok_or_else(|| (ErrorKind::Parse, "not a time").into())
}

/// The warning about a refused write; any other error stays an error.
fn warning(error: RedisError) -> RedisResult<ConfigurationWarning> {
    let known = error.code().and_then(|code| WRITES_REFUSED.into_iter().find(|known| *known == code));
    let Some(code) = known else { return Err(error) };
    let fix = match code {
        "OOM" => "it has no memory left: raise maxmemory, or store less",
        "MISCONF" => "it cannot write its file: check its disk and its log",
        _ => "it has fewer replicas than min-replicas-to-write requires",
    };
    Ok(ConfigurationWarning { setting: code, text: format!("Redis refuses every write ({code}): {fix}") })
}
