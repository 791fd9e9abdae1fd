//! What all doors speak: generated types, conversions, the error table.

#[cfg(feature = "server")]
pub mod authorization;
#[cfg(feature = "server")]
pub mod convert;
#[cfg(feature = "server")]
pub mod error;
#[cfg(feature = "server")]
pub mod forwarded;
pub(crate) mod timeout;

use std::fmt;

#[expect(
    missing_docs,
    unreachable_pub,
    clippy::all,
    clippy::allow_attributes,
    reason = "generated code; its documentation is in proto/"
)]
mod generated {
    include!(concat!(env!("OUT_DIR"), "/protos.rs"));
}

pub use generated::{
    envoy::{config::core::v3 as envoy_core, service::auth::v3 as envoy_auth, r#type::v3 as envoy_type},
    google::rpc,
    grpc::{health::v1 as health, reflection::v1 as reflection},
    watchword::auth::v1 as pb,
};

use envoy_auth::{attribute_context, check_response};

/// The `domain` of every `ErrorInfo`: whose reasons these are, whatever the host is called.
pub const DOMAIN: &str = "auth.watchword.dev";

/// A trailer that clients' retry logic reads: milliseconds to wait (gRFC A6).
pub const PUSHBACK: &str = "grpc-retry-pushback-ms";

/// Every file that the doors speak, with comments and custom options: a `google.protobuf.FileDescriptorSet`.
pub static FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/watchword.binpb"));

/// Every method of every service that the doors have, as metrics name it (`watchword.auth.v1.Auth/Login`); sorted.
#[cfg(feature = "server")]
pub static METHODS: &[&str] = &include!(concat!(env!("OUT_DIR"), "/methods.rs"));

// Messages with secrets show no field; `build.rs` leaves their `Debug` to us, and a test holds the two together.

macro_rules! show_no_field_of {
    ($module:ident: $($message:ident),+) => {$(
        impl fmt::Debug for $module::$message {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(stringify!($message))
            }
        }
    )+};
}

show_no_field_of!(
    pb: RegisterRequest,
    LoginRequest,
    RefreshTokenRequest,
    IntrospectTokenRequest,
    RevokeTokenRequest,
    ChangePasswordRequest,
    DeleteUserRequest,
    ResetPasswordRequest,
    CreatePasswordResetCodeResponse,
    Tokens
);

show_no_field_of!(envoy_auth: CheckRequest, CheckResponse);
show_no_field_of!(attribute_context: HttpRequest);
show_no_field_of!(check_response: HttpResponse);
show_no_field_of!(envoy_core: HeaderValue);
