//! The tokens of a login: refreshes them, puts a valid access token on calls, and makes those that show the password again.
//!
//! Guarantees one refresh at a time for all callers, which runs to completion although its caller has gone. Does not know
//! the signing keys, and never verifies a signature.

mod authorize_layer;
mod password_calls;
mod source;
mod state;
mod token_error;

pub use self::{
    authorize_layer::{Authorize, AuthorizeLayer},
    source::TokenSource,
    token_error::TokenError,
};
