//! The marker: which store this is, a document that the first node writes under a key of its own.
//!
//! Redis starts empty after FLUSHALL, without its file, or in another folder, and answers as if all were well: every user
//! would be unknown and every username free. So a node remembers the marker that it found at its start, and refuses a Redis
//! without it. Does not know users.

use redis::{RedisError, aio::MultiplexedConnection, cmd};
use serde::Serialize;

use super::KeyPrefix;
use crate::domain::Environment;

/// The marker's name after the prefix.
pub(super) const NAME: &str = "store";

#[derive(Serialize)]
struct StoreMarker {
    v: u32,
    id: String,
    create_time: String,
}

/// Reads the store's marker, or writes one; says whether the store is new.
pub(super) async fn find_or_create(
    connection: &mut MultiplexedConnection,
    prefix: &KeyPrefix,
    environment: &Environment,
) -> Result<(String, bool), RedisError> {
    let mut id = [0; 16];
    environment.entropy.fill(&mut id);
    let document = StoreMarker {
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
