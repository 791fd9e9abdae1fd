//! For other Rust programs: calls Watchword, refreshes the tokens of a login, and verifies access tokens.
//!
//! ```toml
//! watchword = { git = "…", default-features = false, features = ["client"] }
//! ```
//!
//! - [`Client`] is a connection with deadlines, TLS and keepalive, whose logins and registrations solve the challenges that
//!   Watchword asks for; [`StatusExt`] reads the reason of a refusal.
//! - [`TokenSource`] holds the tokens of a login, returns a valid access token, and refreshes once for all callers.
//! - [`Verifier`] verifies access tokens with the published keys, without a call. [`VerifyLayer`] does it in front of axum and
//!   tonic services, whose handlers then receive an [`Identity`].
//!
//! Guarantees that every call has a deadline, and that no `Debug` shows a token or a password. Does not know how the
//! service is built: it uses only the types of the contract and the form of a token.

mod clock;
mod connection;
mod request_id;
mod setup_error;
mod single_flight;
mod tokens;
mod verify;

pub use tonic;

pub use self::{
    clock::{Clock, System},
    connection::{Builder, Calls, Client, Login, StatusExt},
    setup_error::SetupError,
    tokens::{Authorize, AuthorizeLayer, TokenError, TokenSource},
    verify::{Identity, Verifier, VerifierBuilder, Verify, VerifyError, VerifyLayer},
};
pub use crate::api::pb;
