//! Which store this is: a document that the first node leaves under a key of its own.
//!
//! Redis starts empty after FLUSHALL, without its file, or in another folder, and answers as if all were well: every
//! user would be unknown, and every name free for whoever asks first. So a node remembers the marker that it found at its
//! start, and a Redis without it is one that has lost its data.

use redis::{RedisError, aio::MultiplexedConnection, cmd};
use serde::Serialize;

use super::Prefix;
use crate::domain::Environment;

/// The marker's name behind the prefix.
pub(super) const NAME: &str = "store";

#[derive(Serialize)]
struct Document {
    v: u32,
    id: String,
    create_time: String,
}

/// Finds the store's marker, or leaves one; says whether the store is new.
pub(super) async fn find(
    connection: &mut MultiplexedConnection,
    prefix: &Prefix,
    environment: &Environment,
) -> Result<(String, bool), RedisError> {
    let mut id = [0; 16];
    environment.entropy.fill(&mut id);
    let document = Document {
        v: 1,
        id: uuid::Builder::from_random_bytes(id).into_uuid().to_string(),
        create_time: humantime::format_rfc3339_millis(environment.clock.now()).to_string(),
    };
    let ours = serde_json::to_string(&document).expect("three strings are JSON");
    let mut claim = cmd("SET");
    claim.arg(prefix.own_key(NAME)).arg(&ours).arg("NX").arg("GET");
    let found: Option<String> = claim.query_async(connection).await?;
    let new = found.is_none();
    Ok((found.unwrap_or(ours), new))
}
