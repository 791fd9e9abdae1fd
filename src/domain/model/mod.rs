//! The values of the rules: users, usernames, passwords, sessions and keys.
//!
//! Guarantees that a value is valid: `parse` is the only constructor for untrusted input. Values do no I/O; times and random
//! bytes are arguments. Does not know stores, protocols, or rules that need more than one value.

mod challenge;
mod failed_attempts;
mod ids;
mod keys;
mod password;
mod password_hash;
mod reset_code;
mod session;
mod user;
mod user_data;
mod username;

pub(crate) use self::user_data::fingerprint;
pub use self::{
    challenge::{ChallengeFault, ChallengePurpose, NewChallenge, Solution, WantedChallenge},
    failed_attempts::{ByEvidence, ConsecutiveFailures, Evidence, FailedAttempts, FailureCount},
    ids::{RequestId, SessionId, SessionListEntry, UserId},
    keys::{AddressHash, IpPrefix, KeyRing, PublicKey, StoredKey, StoredSecret, UsernameHash},
    password::Password,
    password_hash::{Cost, Md5Hex, PasswordHash, PepperKeyId},
    reset_code::{KeptCode, ResetCode},
    session::{Lifetimes, ORIGIN_HASH_BYTES, RefreshOrigin, Repeats, SESSIONS_MAX, Session, SessionEnd},
    user::User,
    user_data::UserData,
    username::{USERNAME_CHARS_MAX, Username},
};
pub(in crate::domain) use self::{
    failed_attempts::{KEPT_FOR, KEPT_FOR_MAX},
    ids::new_uuid,
    keys::Signer,
    password::{PASSWORD_BYTES_MAX, with_plain_spaces},
    password_hash::{HashForm, SALT_BYTES, Scheme, TAG_BYTES},
    reset_code::hash_of as reset_code_hash,
    username::folded,
};
