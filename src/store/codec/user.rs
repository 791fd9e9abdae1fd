//! The stored form of a user: one JSON document, the same bytes in every store.
//!
//! `{"v":1,"id":…,"username":…,"password":"<PHC text>","data":…,"epoch":…,"create_time":…,…}`; times are RFC 3339 in
//! UTC, empty fields are left out. Fields that this version does not know survive a rewrite. A document that cannot
//! be read is an error of its own and of no other user. Golden documents: `tests/data/records/`.

use std::{hint::black_box, time::SystemTime};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{Time, decode, decode_base64, encode_base64, is_zero, read_time, session::Listing, write_time};
use crate::domain::{
    AddressHash, KeptCode, PasswordHash, RequestId, Revision, StoreError, Stored, User, UserData, UserId, Username,
};

/// The newest version of the form that this program reads.
const VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
struct Record {
    v: u32,
    id: String,
    username: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    password: Option<String>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    data: String,
    #[serde(default, skip_serializing_if = "is_zero")]
    epoch: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    kept_session: Option<Listing>,
    #[serde(serialize_with = "write_time", deserialize_with = "read_time")]
    create_time: SystemTime,
    #[serde(serialize_with = "write_time", deserialize_with = "read_time")]
    update_time: SystemTime,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    last_login_time: Option<Time>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    request_id: Option<String>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    disabled: bool,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    known_addresses: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    reset: Option<Reset>,
    /// Whatever a newer version of this program wrote.
    #[serde(flatten)]
    unknown: Map<String, Value>,
}

/// An outstanding code for a new password.
#[derive(Serialize, Deserialize)]
struct Reset {
    /// SHA-256, in base64url.
    hash: String,
    #[serde(serialize_with = "write_time", deserialize_with = "read_time")]
    expire_time: SystemTime,
}

/// Reads the document stored under `name`.
pub(in crate::store) fn read(name: &Username, bytes: &[u8]) -> Result<Stored<User>, StoreError> {
    let user = decode::<Record>(bytes, VERSION).and_then(|record| user(name, record)).map_err(StoreError::Corrupt)?;
    Ok(Stored { value: user, revision: Revision(bytes.into()) })
}

/// A document that is read where there is none, so that a name that nobody has takes as long as one that somebody has: it
/// is microseconds, and a caller can count them.
pub(in crate::store) struct Decoy(Username);

impl Decoy {
    const DOCUMENT: &[u8] = br#"{"v":1,"id":"01a20bc1-9a26-7fd7-8244-47753f447d05","username":"nobody","password":"$argon2id$v=19$m=19456,t=2,p=1$AAECAwQFBgcICQoLDA0ODw$AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8","create_time":"2026-11-24T04:12:47.014Z","update_time":"2026-11-24T04:12:47.014Z"}"#;

    pub(in crate::store) fn new() -> Self {
        Self(Username::parse("nobody").expect("letters are a name"))
    }

    /// Reads it, and forgets it.
    pub(in crate::store) fn read(&self) {
        // The compiler must not see that nobody wants it.
        drop(black_box(read(&self.0, black_box(Self::DOCUMENT))));
    }
}

/// The document of a new user.
pub(in crate::store) fn write(user: &User) -> Vec<u8> {
    encode(user, Map::new())
}

/// The document of a changed user: what was in `seen` and is not known here stays.
pub(in crate::store) fn rewrite(seen: &Revision, user: &User) -> Result<Vec<u8>, StoreError> {
    let unknown = decode::<Record>(&seen.0, VERSION).map_err(StoreError::Corrupt)?.unknown;
    Ok(encode(user, unknown))
}

fn user(name: &Username, record: Record) -> Result<User, String> {
    if record.username != name.as_str() {
        return Err("filed under another username than its own".into());
    }
    let request_id = record.request_id.as_deref().unwrap_or_default();
    Ok(User {
        id: UserId::parse(&record.id).ok_or("its id is not a UUID")?,
        username: name.clone(),
        password: record
            .password
            .map(|phc| PasswordHash::parse(&phc).map_err(|fault| format!("its password {fault}")))
            .transpose()?,
        data: UserData::stored(record.data),
        epoch: record.epoch,
        kept_session: record.kept_session.map(|kept| kept.read()).transpose()?,
        create_time: record.create_time,
        update_time: record.update_time,
        last_login_time: record.last_login_time.map(|time| time.0),
        request_id: RequestId::parse(request_id).map_err(|_| "its request_id is not a UUID")?,
        disabled: record.disabled,
        known_addresses: record.known_addresses.iter().map(|tag| address(tag)).collect::<Result<_, _>>()?,
        reset: record.reset.map(kept_code).transpose()?,
    })
}

fn kept_code(reset: Reset) -> Result<KeptCode, String> {
    let hash = decode_base64(&reset.hash)?;
    let hash = hash.as_slice().try_into().map_err(|_| "has a reset code's hash of another length than 32 bytes")?;
    Ok(KeptCode { hash, expire_time: reset.expire_time })
}

fn address(tag: &str) -> Result<AddressHash, String> {
    let bytes = decode_base64(tag)?;
    Ok(AddressHash(bytes.as_slice().try_into().map_err(|_| "has an address of another length than 8 bytes")?))
}

fn encode(user: &User, unknown: Map<String, Value>) -> Vec<u8> {
    let record = Record {
        v: VERSION,
        id: user.id.to_string(),
        username: user.username.as_str().to_owned(),
        password: user.password.as_ref().map(PasswordHash::to_phc),
        data: user.data.as_str().to_owned(),
        epoch: user.epoch,
        kept_session: user.kept_session.map(Listing::from),
        create_time: user.create_time,
        update_time: user.update_time,
        last_login_time: user.last_login_time.map(Time),
        request_id: user.request_id.map(|id| id.to_string()),
        disabled: user.disabled,
        known_addresses: user.known_addresses.iter().map(|tag| encode_base64(&tag.0)).collect(),
        reset: user.reset.map(|kept| Reset { hash: encode_base64(&kept.hash), expire_time: kept.expire_time }),
        unknown,
    };
    serde_json::to_vec(&record).expect("strings, numbers and times are always JSON")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_decoy_is_read_to_its_end_like_any_document() {
        let Decoy(name) = Decoy::new();
        let read = read(&name, Decoy::DOCUMENT).unwrap().value;
        assert!(read.password.is_some() && read.username == name);
    }
}
