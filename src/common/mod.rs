//! What every layer may use: text forms of tokens and challenges, locks, hashes, times, files, limits of the host.
//!
//! Guarantees that each file is a leaf: it imports only other files of this folder, so that no circle can begin here.
//! Does not know accounts, sessions, stores or protocols.

#[cfg(feature = "server")]
pub(crate) mod altcha;
pub(crate) mod bearer;
#[cfg(feature = "server")]
pub(crate) mod completion;
#[cfg(feature = "server")]
pub(crate) mod files;
#[cfg(feature = "server")]
pub(crate) mod generations;
#[cfg(feature = "server")]
pub mod host;
#[cfg(feature = "server")]
pub(crate) mod jitter;
#[cfg(feature = "server")]
pub(crate) mod local_address;
#[cfg(any(feature = "server", feature = "client"))]
pub(crate) mod lock;
#[cfg(feature = "server")]
pub(crate) mod sha256;
#[cfg(feature = "server")]
pub(crate) mod time;
