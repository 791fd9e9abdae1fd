//! The keys of documents: which document holds a user, a session, a list.
//!
//! Each kind has one constructor here, so that two callers never disagree on a key. Does not know how a store writes keys.

use crate::{
    domain::{SessionId, UserId, Username, UsernameHash},
    store::{codec, document::DocumentKey, kind::Kind},
};

impl DocumentKey {
    /// The username of a user id.
    pub(super) fn username_of(id: UserId) -> Self {
        Self::new(Kind::Id, id.to_string())
    }

    /// A user.
    pub(super) fn user(name: &Username) -> Self {
        Self::new(Kind::User, name.as_str())
    }

    /// A session.
    pub(super) fn session(id: SessionId) -> Self {
        Self::new(Kind::Session, id.to_string())
    }

    /// The list of a user's sessions.
    pub(super) fn session_list(user: UserId) -> Self {
        Self::new(Kind::Sessions, user.to_string())
    }

    /// The failed attempts of a username.
    pub(super) fn failed_attempts(name: UsernameHash) -> Self {
        Self::new(Kind::FailedAttempts, codec::encode_base64(&name.0))
    }

    /// A single-use secret that was spent, by its SHA-256.
    pub(super) fn spent_secret(hash: &[u8; 32]) -> Self {
        Self::new(Kind::Once, codec::encode_base64(hash))
    }

    /// Which pepper keys password hashes need.
    pub(in crate::store) fn pepper_keys() -> Self {
        Self::new(Kind::PepperKeys, "")
    }

    /// The key ring.
    pub(in crate::store) fn key_ring() -> Self {
        Self::new(Kind::Keys, "")
    }
}
