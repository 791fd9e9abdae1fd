//! The codecs of sessions and of the list of a user's sessions.
//!
//! A list that cannot be read is replaced, because it is a hint and must not prevent a login. Does not know when a session
//! ends, only until when its document is kept.

use std::{
    borrow::Cow,
    collections::HashMap,
    time::{Duration, SystemTime},
};

use serde::{Deserialize, Serialize};

use super::{
    decode, decode_base64, encode, encode_base64, is_empty, is_zero, read_time,
    unknown::{Nested, encode_over},
    write_time,
};
use crate::{
    common::time::to_the_millisecond,
    domain::{
        Changed, ORIGIN_HASH_BYTES, RefreshOrigin, Repeats, Revision, Session, SessionId, SessionListEntry, Stored,
        UserId, Username,
    },
};

/// The newest version of both forms that this program reads.
const VERSION: u32 = 1;

/// How long a session is kept after its end, so that checks of its tokens report that they have expired.
const KEPT_AFTER_END: Duration = Duration::from_secs(86_400);

#[derive(Serialize, Deserialize)]
struct SessionDocument<'a> {
    v: u32,
    #[serde(borrow)]
    id: Cow<'a, str>,
    #[serde(borrow)]
    user_id: Cow<'a, str>,
    #[serde(borrow)]
    username: Cow<'a, str>,
    #[serde(default, skip_serializing_if = "is_zero")]
    epoch: u64,
    #[serde(default, skip_serializing_if = "is_zero")]
    session_epoch: u64,
    generation: u32,
    /// SHA-256 of the refresh secret, in base64url.
    #[serde(borrow)]
    secret_hash: Cow<'a, str>,
    /// 16 bytes, in base64url; left out for the first generation.
    #[serde(borrow, default, skip_serializing_if = "is_empty")]
    refresh_nonce: Cow<'a, str>,
    #[serde(serialize_with = "write_time", deserialize_with = "read_time")]
    create_time: SystemTime,
    #[serde(serialize_with = "write_time", deserialize_with = "read_time")]
    refresh_time: SystemTime,
    /// The request id and the caller of the refresh that began the generation: keyed hashes, in base64url.
    #[serde(borrow, default, skip_serializing_if = "is_empty")]
    refresh_request: Cow<'a, str>,
    #[serde(borrow, default, skip_serializing_if = "is_empty")]
    refresh_caller: Cow<'a, str>,
    /// Which of the last generations began with a refresh that was repeated, or repeated late; one bit each.
    #[serde(default, skip_serializing_if = "is_zero")]
    repeats: u64,
    #[serde(default, skip_serializing_if = "is_zero")]
    late_repeats: u64,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    contested: bool,
    #[serde(serialize_with = "write_time", deserialize_with = "read_time")]
    expire_time: SystemTime,
    #[serde(borrow)]
    client_id: Cow<'a, str>,
    #[serde(borrow, default, skip_serializing_if = "is_empty")]
    user_agent: Cow<'a, str>,
    #[serde(borrow, default, skip_serializing_if = "is_empty")]
    client_address: Cow<'a, str>,
}

/// Decodes the document stored under `id`.
pub(in crate::store) fn read(id: SessionId, bytes: &[u8]) -> Result<Stored<Session>, String> {
    let session = decode(bytes, VERSION).and_then(|document| decoded(id, document))?;
    Ok(Stored { value: session, revision: Revision(bytes.into()) })
}

/// Encodes a new session.
pub(in crate::store) fn write(session: &Session) -> Vec<u8> {
    encode(&encoded(session))
}

/// Encodes a changed session. Members of `seen` that are not known here stay.
pub(in crate::store) fn rewrite(seen: &Revision, session: &Session) -> Result<Vec<u8>, String> {
    encode_over(&seen.0, &encoded(session))
}

/// Until when the document of a session is kept, by its bytes.
pub(in crate::store) fn expire_time(bytes: &[u8]) -> Result<Option<SystemTime>, String> {
    decode::<SessionDocument<'_>>(bytes, VERSION).map(|document| Some(document.expire_time + KEPT_AFTER_END))
}

/// Until when the document of `session` is kept.
pub(in crate::store) fn kept_until(session: &Session) -> SystemTime {
    to_the_millisecond(session.expire_time + KEPT_AFTER_END)
}

/// What a change of the document `name` means to token checks.
pub(in crate::store) fn changed(name: &str) -> Option<Changed> {
    SessionId::parse(name).map(Changed::Session)
}

fn decoded(key: SessionId, document: SessionDocument<'_>) -> Result<Session, String> {
    let SessionDocument {
        v: _,
        id,
        user_id,
        username,
        epoch,
        session_epoch,
        generation,
        secret_hash,
        refresh_nonce,
        create_time,
        refresh_time,
        refresh_request,
        refresh_caller,
        repeats,
        late_repeats,
        contested,
        expire_time,
        client_id,
        user_agent,
        client_address,
    } = document;
    if SessionId::parse(&id) != Some(key) {
        return Err("filed under another id than its own".into());
    }
    let secret_hash = decode_base64(&secret_hash)?;
    let refresh_nonce = if refresh_nonce.is_empty() { vec![0; 16].into() } else { decode_base64(&refresh_nonce)? };
    let generations = |bits: u64| u8::try_from(bits).map_err(|_| "has repeats of too many generations");
    Ok(Session {
        id: key,
        user_id: UserId::parse(&user_id).ok_or("its user_id is not a UUID")?,
        username: Username::parse(&username).map_err(|_| "its username is not valid")?,
        epoch,
        session_epoch,
        generation,
        secret_hash: secret_hash.as_slice().try_into().map_err(|_| "its secret_hash is not one of SHA-256")?,
        refresh_nonce: refresh_nonce.as_slice().try_into().map_err(|_| "its refresh_nonce has not 16 bytes")?,
        create_time,
        refresh_time,
        refreshed_by: match origin_hash(&refresh_caller)? {
            None => None,
            Some(caller) => Some(RefreshOrigin { request: origin_hash(&refresh_request)?, caller }),
        },
        repeats: Repeats { any: generations(repeats)?, late: generations(late_repeats)? },
        is_contested: contested,
        expire_time,
        client_id: client_id.into_owned(),
        user_agent: user_agent.into_owned(),
        client_address: client_address.into_owned(),
    })
}

/// A hash of a refresh's origin; none when it is left out.
fn origin_hash(text: &str) -> Result<Option<[u8; ORIGIN_HASH_BYTES]>, String> {
    if text.is_empty() {
        return Ok(None);
    }
    let bytes = decode_base64(text)?;
    Ok(Some(bytes.as_slice().try_into().map_err(|_| "has a hash of a refresh of another length")?))
}

fn encoded(session: &Session) -> SessionDocument<'_> {
    let Session {
        id,
        user_id,
        username,
        epoch,
        session_epoch,
        generation,
        secret_hash,
        refresh_nonce,
        create_time,
        refresh_time,
        refreshed_by,
        repeats: Repeats { any, late },
        is_contested,
        expire_time,
        client_id,
        user_agent,
        client_address,
    } = session;
    let hash_text = |hash: Option<[u8; ORIGIN_HASH_BYTES]>| hash.map(|hash| encode_base64(&hash)).unwrap_or_default();
    SessionDocument {
        v: VERSION,
        id: id.to_string().into(),
        user_id: user_id.to_string().into(),
        username: username.as_str().into(),
        epoch: *epoch,
        session_epoch: *session_epoch,
        generation: *generation,
        secret_hash: encode_base64(secret_hash).into(),
        refresh_nonce: if *refresh_nonce == [0; 16] { "".into() } else { encode_base64(refresh_nonce).into() },
        create_time: *create_time,
        refresh_time: *refresh_time,
        refresh_request: hash_text(refreshed_by.and_then(|by| by.request)).into(),
        refresh_caller: hash_text(refreshed_by.map(|by| by.caller)).into(),
        repeats: (*any).into(),
        late_repeats: (*late).into(),
        contested: *is_contested,
        expire_time: *expire_time,
        client_id: client_id.into(),
        user_agent: user_agent.into(),
        client_address: client_address.into(),
    }
}

// === the list of a user's sessions ===

#[derive(Serialize, Deserialize)]
struct SessionListDocument<'a> {
    v: u32,
    #[serde(borrow)]
    sessions: Vec<Nested<'a, SessionEntryDocument>>,
}

/// A session in a list.
#[derive(Serialize, Deserialize)]
pub(super) struct SessionEntryDocument {
    pub(super) id: String,
    #[serde(default, skip_serializing_if = "is_zero")]
    epoch: u64,
}

impl SessionEntryDocument {
    pub(super) fn decoded(&self) -> Result<SessionListEntry, String> {
        let Self { id, epoch } = self;
        Ok(SessionListEntry { id: SessionId::parse(id).ok_or("lists what is not a session's id")?, epoch: *epoch })
    }
}

impl From<SessionListEntry> for SessionEntryDocument {
    fn from(entry: SessionListEntry) -> Self {
        let SessionListEntry { id, epoch } = entry;
        Self { id: id.to_string(), epoch }
    }
}

/// Decodes a list.
pub(in crate::store) fn read_list(bytes: &[u8]) -> Result<Vec<SessionListEntry>, String> {
    let list = decode::<SessionListDocument<'_>>(bytes, VERSION)?;
    list.sessions.iter().map(|entry| entry.known.decoded()).collect()
}

/// Encodes a list. Members of `seen` that are not known here stay, those of its entries too.
pub(in crate::store) fn write_list(seen: Option<&Revision>, list: &[SessionListEntry]) -> Vec<u8> {
    // A list that cannot be read counts as empty.
    let seen = seen.and_then(|seen| Some((&*seen.0, decode::<SessionListDocument<'_>>(&seen.0, VERSION).ok()?)));
    let seen_entries: HashMap<&str, _> =
        seen.iter().flat_map(|(_, seen)| &seen.sessions).map(|entry| (entry.known.id.as_str(), entry)).collect();
    let sessions = list.iter().map(|entry| {
        let entry = SessionEntryDocument::from(*entry);
        let seen = seen_entries.get(entry.id.as_str()).copied();
        Nested::over(entry, seen)
    });
    let document = SessionListDocument { v: VERSION, sessions: sessions.collect() };
    match &seen {
        None => encode(&document),
        Some((bytes, _)) => encode_over(bytes, &document).expect("the list was decoded above"),
    }
}
