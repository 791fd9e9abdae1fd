//! The commands of changes, and what their answers and errors mean.
//!
//! Every change is one command on one key, so it is atomic wherever the key is. Does not know connections.

use redis::{Cmd, Value, cmd};

use super::{KeyPrefix, link::NoAnswer};
use crate::{
    domain::StoreError,
    store::document::{Change, ChangeOutcome, Document, DocumentKey, UnconditionalWrite, unix_millis},
};

/// If the key holds ARGV[1]: stores ARGV[2] until ARGV[3], or without expiry when there is no ARGV[3], or deletes the key
/// when there is neither. Redis 7 has no command for this, and WATCH is unsafe on a connection that many calls share. Errors
/// of a script repeat no argument.
pub(super) const COMPARE_AND_SET: &str = "\
    if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end \
    if #ARGV == 1 then redis.call('DEL', KEYS[1]) \
    elseif #ARGV == 2 then redis.call('SET', KEYS[1], ARGV[2]) \
    else redis.call('SET', KEYS[1], ARGV[2], 'PXAT', ARGV[3]) end \
    return 1";

/// Errors with which Redis refuses a command before it does anything. Any other error may come from a proxy, after the
/// command was passed on.
const NOT_EXECUTED: [&str; 10] =
    ["LOADING", "READONLY", "MASTERDOWN", "NOREPLICAS", "OOM", "MISCONF", "BUSY", "NOAUTH", "NOPERM", "WRONGTYPE"];

/// Writes or deletes a document without a condition.
pub(super) fn write(prefix: &KeyPrefix, write: &UnconditionalWrite) -> Cmd {
    let key = prefix.key(&write.key);
    let Some(document) = &write.document else { return cmd("DEL").arg(key).to_owned() };
    let mut set = cmd("SET");
    set.arg(key).arg(&document.bytes);
    add_expiry(&mut set, document);
    set
}

/// Makes a change if its condition holds.
pub(super) fn change(key: &str, change: &Change) -> Cmd {
    match change {
        Change::Insert(document) => insert(key, document),
        Change::Replace { seen, document } => compare_and_set(key, seen, Some(document)),
        Change::Remove { seen } => compare_and_set(key, seen, None),
    }
}

/// The outcome of a change, by its answer.
pub(super) fn outcome(answer: Value) -> Result<ChangeOutcome, StoreError> {
    match answer {
        Value::Nil | Value::Int(1) => Ok(ChangeOutcome::Done),
        Value::BulkString(present) => Ok(ChangeOutcome::Refused(present)),
        Value::Int(_) => Ok(ChangeOutcome::Refused(Vec::new())),
        _ => Err(StoreError::OutcomeUnknown),
    }
}

/// The error of a read of the document under `key`.
pub(super) fn not_read(key: &DocumentKey, cause: NoAnswer) -> StoreError {
    match cause {
        NoAnswer::NotSent | NoAnswer::Lost => StoreError::Unavailable,
        NoAnswer::Refused(error) => match error.code() {
            Some("WRONGTYPE") => key.corrupt(&[], "its key does not hold a string (WRONGTYPE)"),
            Some(_) | None => StoreError::Unavailable,
        },
    }
}

/// The error of a change of the document under `key`.
pub(super) fn not_written(key: &DocumentKey, cause: NoAnswer) -> StoreError {
    match cause {
        NoAnswer::Refused(error) if !error.code().is_some_and(|code| NOT_EXECUTED.contains(&code)) => {
            StoreError::OutcomeUnknown
        }
        NoAnswer::Lost => StoreError::OutcomeUnknown,
        NoAnswer::NotSent | NoAnswer::Refused(_) => not_read(key, cause),
    }
}

/// Writes a document unless there is one under the key, and answers that one.
fn insert(key: &str, document: &Document) -> Cmd {
    let mut insert = cmd("SET");
    insert.arg(key).arg(&document.bytes).arg("NX").arg("GET");
    add_expiry(&mut insert, document);
    insert
}

fn compare_and_set(key: &str, seen: &[u8], document: Option<&Document>) -> Cmd {
    let mut script = cmd("EVAL");
    script.arg(COMPARE_AND_SET).arg(1).arg(key).arg(seen);
    if let Some(document) = document {
        script.arg(&document.bytes);
        if let Some(time) = document.expire_time {
            script.arg(unix_millis(time));
        }
    }
    script
}

fn add_expiry(command: &mut Cmd, document: &Document) {
    if let Some(time) = document.expire_time {
        command.arg("PXAT").arg(unix_millis(time));
    }
}
