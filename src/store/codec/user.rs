//! The codec of users: `{"v":1,"id":…,"username":…,"password":"<PHC string>","data":…,"epoch":…,"create_time":…,…}`.
//!
//! A document that cannot be read is an error of its user alone. Reading a document takes as long whether or not the user
//! exists ([`DecoyDocument`]). Does not know password schemes: a PHC string is opaque here.

use std::{borrow::Cow, hint::black_box, time::SystemTime};

use serde::{Deserialize, Serialize};

use super::{
    StoredTime, decode, decode_base64, encode, encode_base64, is_empty, is_zero, read_time,
    session::SessionEntryDocument,
    unknown::{Nested, encode_over},
    write_time,
};
use crate::domain::{
    AddressHash, Changed, KeptCode, PasswordHash, RequestId, Revision, Stored, User, UserData, UserId, Username,
};

/// The newest version of the form that this program reads.
const VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
struct UserDocument<'a> {
    v: u32,
    #[serde(borrow)]
    id: Cow<'a, str>,
    #[serde(borrow)]
    username: Cow<'a, str>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    password: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    former_password: Option<String>,
    #[serde(borrow, default, skip_serializing_if = "is_empty")]
    data: Cow<'a, str>,
    #[serde(default, skip_serializing_if = "is_zero")]
    epoch: u64,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    kept_session: Option<Nested<'a, SessionEntryDocument>>,
    #[serde(serialize_with = "write_time", deserialize_with = "read_time")]
    create_time: SystemTime,
    #[serde(serialize_with = "write_time", deserialize_with = "read_time")]
    update_time: SystemTime,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    last_login_time: Option<StoredTime>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    request_id: Option<String>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    disabled: bool,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    known_addresses: Vec<String>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    reset: Option<Nested<'a, ResetDocument>>,
}

/// An outstanding reset code.
#[derive(Serialize, Deserialize)]
struct ResetDocument {
    /// SHA-256, in base64url.
    hash: String,
    #[serde(serialize_with = "write_time", deserialize_with = "read_time")]
    expire_time: SystemTime,
}

/// Decodes the document stored under `name`.
pub(in crate::store) fn read(name: &Username, bytes: &[u8]) -> Result<Stored<User>, String> {
    let user = decode(bytes, VERSION).and_then(|document| decoded(name, document))?;
    Ok(Stored { value: user, revision: Revision(bytes.into()) })
}

/// Decodes the password hash of a document, which may be that of any user.
pub(in crate::store) fn password(bytes: &[u8]) -> Result<Option<PasswordHash>, String> {
    let document: UserDocument<'_> = decode(bytes, VERSION)?;
    document.password.map(|phc| PasswordHash::parse(&phc)).transpose().map_err(|fault| format!("its password {fault}"))
}

/// Encodes a new user.
pub(in crate::store) fn write(user: &User) -> Vec<u8> {
    encode(&encoded(user, None))
}

/// Encodes a changed user. Members of `seen` that are not known here stay.
pub(in crate::store) fn rewrite(seen: &Revision, user: &User) -> Result<Vec<u8>, String> {
    let document = decode(&seen.0, VERSION)?;
    encode_over(&seen.0, &encoded(user, Some(&document)))
}

/// The user id in a document that cannot be decoded, if it has one.
pub(in crate::store) fn id_of_corrupt(bytes: &[u8]) -> Option<UserId> {
    #[derive(Deserialize)]
    struct UserIdProbe {
        id: String,
    }
    UserId::parse(&serde_json::from_slice::<UserIdProbe>(bytes).ok()?.id)
}

/// What a change of the document `name` means to token checks.
pub(in crate::store) fn changed(name: &str) -> Option<Changed> {
    Username::parse(name).ok().map(Changed::User)
}

fn decoded(name: &Username, document: UserDocument<'_>) -> Result<User, String> {
    let UserDocument {
        v: _,
        id,
        username,
        password,
        former_password,
        data,
        epoch,
        kept_session,
        create_time,
        update_time,
        last_login_time,
        request_id,
        disabled,
        known_addresses,
        reset,
    } = document;
    if username != name.as_str() {
        return Err("filed under another username than its own".into());
    }
    let hash = |phc: Option<String>| {
        let hash = phc.map(|phc| PasswordHash::parse(&phc)).transpose();
        hash.map_err(|fault| format!("its password {fault}"))
    };
    let request_id = request_id.as_deref().unwrap_or_default();
    Ok(User {
        id: UserId::parse(&id).ok_or("its id is not a UUID")?,
        username: name.clone(),
        password: hash(password)?,
        former_password: hash(former_password)?,
        data: UserData::stored(data.into_owned()),
        epoch,
        kept_session: kept_session.map(|entry| entry.known.decoded()).transpose()?,
        create_time,
        update_time,
        last_login_time: last_login_time.map(|StoredTime(time)| time),
        request_id: RequestId::parse(request_id).map_err(|_| "its request_id is not a UUID")?,
        disabled,
        known_addresses: known_addresses.iter().map(|hash| address(hash)).collect::<Result<_, _>>()?,
        reset: reset.map(|reset| reset.known.decoded()).transpose()?,
    })
}

/// The document of `user`, which takes the place of `seen`.
fn encoded<'a>(user: &'a User, seen: Option<&UserDocument<'a>>) -> UserDocument<'a> {
    let User {
        id,
        username,
        password,
        former_password,
        data,
        epoch,
        kept_session,
        create_time,
        update_time,
        last_login_time,
        request_id,
        disabled,
        known_addresses,
        reset,
    } = user;
    let kept_session = kept_session.map(|entry| {
        let entry = SessionEntryDocument::from(entry);
        let seen = seen.and_then(|seen| seen.kept_session.as_ref()).filter(|seen| seen.known.id == entry.id);
        Nested::over(entry, seen)
    });
    let reset = reset.map(|code| {
        let reset = ResetDocument::from(code);
        let seen = seen.and_then(|seen| seen.reset.as_ref()).filter(|seen| seen.known.hash == reset.hash);
        Nested::over(reset, seen)
    });
    UserDocument {
        v: VERSION,
        id: id.to_string().into(),
        username: username.as_str().into(),
        password: password.as_ref().map(PasswordHash::to_phc),
        former_password: former_password.as_ref().map(PasswordHash::to_phc),
        data: data.as_str().into(),
        epoch: *epoch,
        kept_session,
        create_time: *create_time,
        update_time: *update_time,
        last_login_time: last_login_time.map(StoredTime),
        request_id: request_id.map(|id| id.to_string()),
        disabled: *disabled,
        known_addresses: known_addresses.iter().map(|hash| encode_base64(&hash.0)).collect(),
        reset,
    }
}

fn address(hash: &str) -> Result<AddressHash, String> {
    let bytes = decode_base64(hash)?;
    Ok(AddressHash(bytes.as_slice().try_into().map_err(|_| "has an address of another length than 8 bytes")?))
}

impl ResetDocument {
    fn decoded(self) -> Result<KeptCode, String> {
        let Self { hash, expire_time } = self;
        let hash = decode_base64(&hash)?;
        let hash = hash.as_slice().try_into().map_err(|_| "has a reset code's hash of another length than 32 bytes")?;
        Ok(KeptCode { hash, expire_time })
    }
}

impl From<KeptCode> for ResetDocument {
    fn from(code: KeptCode) -> Self {
        let KeptCode { hash, expire_time } = code;
        Self { hash: encode_base64(&hash), expire_time }
    }
}

/// A document that is decoded where there is no user, so that an unknown username takes as long as a known one. The
/// difference is microseconds, which a client can measure.
pub(in crate::store) struct DecoyDocument(Username);

impl DecoyDocument {
    const BYTES: &[u8] = br#"{"v":1,"id":"01a20bc1-9a26-7fd7-8244-47753f447d05","username":"absent","password":"$argon2id$v=19$m=19456,t=2,p=1$AAECAwQFBgcICQoLDA0ODw$AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8","create_time":"2026-11-24T04:12:47.014Z","update_time":"2026-11-24T04:12:47.014Z"}"#;

    pub(in crate::store) fn new() -> Self {
        Self(Username::parse("absent").expect("letters are a username"))
    }

    /// Decodes the document and drops the user.
    pub(in crate::store) fn read(&self) {
        // Keeps the compiler from removing work whose result is not used.
        drop(black_box(read(&self.0, black_box(Self::BYTES))));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decoy_document_is_decoded_to_its_end_like_any_document() {
        let DecoyDocument(name) = DecoyDocument::new();
        let read = read(&name, DecoyDocument::BYTES).unwrap().value;
        assert!(read.password.is_some() && read.username == name);
    }
}
