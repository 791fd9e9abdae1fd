//! The stored form of a session, and of the list of a user's sessions.

use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{decode, decode_base64, encode_base64, is_zero, read_time, write_time};
use crate::common::time::to_the_millisecond;
use crate::domain::{Revision, Session, SessionId, SessionListEntry, StoreError, Stored, UserId, Username};

/// The newest version of the form that this program reads.
const VERSION: u32 = 1;

/// How long a session is kept after its end, so that its tokens are answered that they have expired.
const KEPT_FOR: Duration = Duration::from_secs(86_400);

#[derive(Serialize, Deserialize)]
struct Record {
    v: u32,
    id: String,
    user_id: String,
    username: String,
    #[serde(default, skip_serializing_if = "is_zero")]
    epoch: u64,
    generation: u32,
    /// SHA-256 of the refresh secret, in base64url.
    secret_hash: String,
    #[serde(serialize_with = "write_time", deserialize_with = "read_time")]
    create_time: SystemTime,
    #[serde(serialize_with = "write_time", deserialize_with = "read_time")]
    refresh_time: SystemTime,
    #[serde(serialize_with = "write_time", deserialize_with = "read_time")]
    expire_time: SystemTime,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    user_agent: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    client_address: String,
    /// Whatever a newer version of this program wrote.
    #[serde(flatten)]
    unknown: Map<String, Value>,
}

/// Reads the document of a session.
pub(in crate::store) fn read(id: SessionId, bytes: &[u8]) -> Result<Stored<Session>, StoreError> {
    let session = decode::<Record>(bytes, VERSION).and_then(|record| session(id, record));
    Ok(Stored { value: session.map_err(StoreError::Corrupt)?, revision: Revision(bytes.into()) })
}

/// The document of a new session.
pub(in crate::store) fn write(session: &Session) -> Vec<u8> {
    encode(session, Map::new())
}

/// The document of a changed session: what was in `seen` and is not known here stays.
pub(in crate::store) fn rewrite(seen: &Revision, session: &Session) -> Result<Vec<u8>, StoreError> {
    let unknown = decode::<Record>(&seen.0, VERSION).map_err(StoreError::Corrupt)?.unknown;
    Ok(encode(session, unknown))
}

/// When the session in this document may be forgotten.
pub(super) fn expire_time(bytes: &[u8]) -> Result<SystemTime, String> {
    decode::<Record>(bytes, VERSION).map(|record| record.expire_time + KEPT_FOR)
}

/// When a session may be forgotten.
pub(in crate::store) fn forget_time(session: &Session) -> SystemTime {
    to_the_millisecond(session.expire_time + KEPT_FOR)
}

fn session(id: SessionId, record: Record) -> Result<Session, String> {
    if SessionId::parse(&record.id) != Some(id) {
        return Err("filed under another id than its own".into());
    }
    let secret_hash = decode_base64(&record.secret_hash)?;
    Ok(Session {
        id,
        user_id: UserId::parse(&record.user_id).ok_or("its user_id is not a UUID")?,
        username: Username::parse(&record.username).map_err(|_| "its username is none")?,
        epoch: record.epoch,
        generation: record.generation,
        secret_hash: secret_hash.as_slice().try_into().map_err(|_| "its secret_hash is not one of SHA-256")?,
        create_time: record.create_time,
        refresh_time: record.refresh_time,
        expire_time: record.expire_time,
        user_agent: record.user_agent,
        client_address: record.client_address,
    })
}

fn encode(session: &Session, unknown: Map<String, Value>) -> Vec<u8> {
    let record = Record {
        v: VERSION,
        id: session.id.to_string(),
        user_id: session.user_id.to_string(),
        username: session.username.as_str().to_owned(),
        epoch: session.epoch,
        generation: session.generation,
        secret_hash: encode_base64(&session.secret_hash),
        create_time: session.create_time,
        refresh_time: session.refresh_time,
        expire_time: session.expire_time,
        user_agent: session.user_agent.clone(),
        client_address: session.client_address.clone(),
        unknown,
    };
    serde_json::to_vec(&record).expect("strings, numbers and times are always JSON")
}

#[derive(Serialize, Deserialize)]
struct List {
    v: u32,
    sessions: Vec<Listing>,
    /// Whatever a newer version of this program wrote.
    #[serde(flatten)]
    unknown: Map<String, Value>,
}

/// A session in a list.
#[derive(Serialize, Deserialize)]
pub(super) struct Listing {
    id: String,
    #[serde(default, skip_serializing_if = "is_zero")]
    epoch: u64,
}

impl Listing {
    pub(super) fn read(&self) -> Result<SessionListEntry, String> {
        let id = SessionId::parse(&self.id).ok_or("lists what is no session's id")?;
        Ok(SessionListEntry { id, epoch: self.epoch })
    }
}

impl From<SessionListEntry> for Listing {
    fn from(list_entry: SessionListEntry) -> Self {
        Self { id: list_entry.id.to_string(), epoch: list_entry.epoch }
    }
}

/// Reads the document of a list. One that cannot be read lists nothing: it is a hint, and must keep nobody from signing
/// in.
pub(in crate::store) fn read_list(bytes: &[u8]) -> Stored<Vec<SessionListEntry>> {
    let list = decode::<List>(bytes, VERSION);
    let list_entry = list.and_then(|list| list.sessions.iter().map(Listing::read).collect());
    let value = list_entry.unwrap_or_else(|cause| {
        tracing::warn!(cause, "a list of sessions cannot be read and counts as empty");
        Vec::new()
    });
    Stored { value, revision: Revision(bytes.into()) }
}

/// The document of a list; what was in `seen` and is not known here stays.
pub(in crate::store) fn write_list(seen: Option<&Revision>, list: &[SessionListEntry]) -> Vec<u8> {
    // One that cannot be read counts as empty.
    let unknown = seen.and_then(|seen| decode::<List>(&seen.0, VERSION).ok()).map(|seen| seen.unknown);
    let sessions = list.iter().copied().map(Listing::from).collect();
    let list = List { v: VERSION, sessions, unknown: unknown.unwrap_or_default() };
    serde_json::to_vec(&list).expect("strings and numbers are always JSON")
}
