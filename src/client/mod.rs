//! For other Rust programs: calls Watchword, keeps a login's tokens fresh, and checks the tokens of others.
//!
//! ```toml
//! watchword = { git = "…", default-features = false, features = ["client"] }
//! ```
//!
//! - [`Client`] is a connection with deadlines, TLS and keepalive; [`StatusExt`] reads why a call was refused.
//! - [`TokenSource`] holds the tokens of a login and answers an access token that is valid, refreshing once for all callers.
//! - [`Verifier`] checks access tokens by the published keys, without a call; [`VerifyLayer`] does it in front of axum and
//!   tonic services, whose handlers then take an [`Identity`].
//!
//! Knows nothing of how the service is built: only the contract's types and what a token looks like. Nothing here shows a
//! token or a password in its `Debug`.

mod authorize;
mod clock;
mod connect;
mod deadline;
mod fetch;
mod flight;
mod identity;
mod key_set;
mod keys;
mod layer;
mod refusal;
mod setup;
mod status;
mod tokens;
mod verifier;

pub use tonic;

pub use self::{
    authorize::{Authorize, AuthorizeLayer},
    clock::{Clock, System},
    connect::{Builder, Client, Login},
    deadline::Calls,
    identity::Identity,
    layer::{Verify, VerifyLayer},
    setup::SetupError,
    status::StatusExt,
    tokens::{TokenError, TokenSource},
    verifier::{Verifier, VerifierBuilder, VerifyError},
};
pub use crate::api::pb;
