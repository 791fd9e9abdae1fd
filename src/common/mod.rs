//! What every layer may use and what knows none of them: text forms, locks, hashes, the host.
//!
//! Each file is a leaf: it imports nothing of this crate but its neighbours here. Guarantees are stated in each file. Does
//! not know accounts, sessions, stores or protocols.

#[cfg(feature = "server")]
pub(crate) mod altcha;
pub(crate) mod bearer;
#[cfg(feature = "server")]
pub mod host;
#[cfg(feature = "server")]
pub(crate) mod lock;
#[cfg(feature = "server")]
pub(crate) mod sha256;
