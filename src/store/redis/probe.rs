//! The small question that is asked all the time: does this Redis answer, as a primary, reads and writes?
//!
//! And has it still the data that it had? Changes nothing: it writes only over a key that is never there. Brings Redis's
//! time along.

use std::time::{Duration, SystemTime};

use redis::{ErrorKind, FromRedisValue, RedisError, RedisResult, Value, aio::MultiplexedConnection, pipe};

use super::{COMPARE_AND_SET, Prefix, identity};
use crate::domain::ConfigurationWarning;

/// Refusals of writes that more memory, disk or replicas mend: logins go on meanwhile.
const WRITES_REFUSED: [&str; 3] = ["OOM", "MISCONF", "NOREPLICAS"];

/// What was learnt.
pub(super) struct Health {
    /// What time it is at Redis.
    pub(super) time: SystemTime,
    /// Which store it is, if any yet.
    pub(super) marker: Option<String>,
    /// Set while it refuses writes for want of something.
    pub(super) writes_refused: Option<ConfigurationWarning>,
}

/// A key of ours that is never there.
const NOBODY: &str = "probe";

/// Asks in one round trip.
pub(super) async fn ask(connection: &mut MultiplexedConnection, prefix: &Prefix) -> RedisResult<Health> {
    let nobody = prefix.own_key(NOBODY);
    let mut questions = pipe();
    questions.cmd("TIME").cmd("ROLE").cmd("GET").arg(prefix.own_key(identity::NAME));
    // None of them finds anything to write over, and both are refused where a real write would be.
    questions.cmd("SET").arg(&nobody).arg("").arg("XX");
    questions.cmd("EVAL").arg(COMPARE_AND_SET).arg(1).arg(&nobody).arg("nothing").arg("nothing");
    questions.cmd("DEL").arg(&nobody);
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
    Ok(Health { time, marker, writes_refused })
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
    time.ok_or_else(|| (ErrorKind::Parse, "a time that no clock shows").into())
}

/// What an operator should hear about refused writes; any other refusal is trouble.
fn warning(error: RedisError) -> RedisResult<ConfigurationWarning> {
    let known = error.code().and_then(|code| WRITES_REFUSED.into_iter().find(|known| *known == code));
    let Some(code) = known else { return Err(error) };
    let mend = match code {
        "OOM" => "it has no memory left: raise maxmemory, or give it less to keep",
        "MISCONF" => "it cannot write its file: look at its disk and its log",
        _ => "it misses replicas that min-replicas-to-write asks for",
    };
    Ok(ConfigurationWarning { setting: code, text: format!("Redis refuses every write ({code}): {mend}") })
}
