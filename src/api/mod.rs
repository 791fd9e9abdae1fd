//! What all protocols share: generated types, the method table, conversions, the error table, and what every call has.
//!
//! Guarantees: `grpc` and `http` have no second copy of any of these. A message that holds a secret prints no field.
//! It does not know sockets, framing or routes; those are `net`, `grpc` and `http`.

#[cfg(feature = "server")]
pub(crate) mod call;
#[cfg(feature = "server")]
pub(crate) mod convert;
#[cfg(feature = "server")]
pub mod errors;
#[cfg(feature = "server")]
pub(crate) mod ext_authz;
#[cfg(feature = "server")]
pub mod forwarded;
#[cfg(feature = "server")]
pub mod methods;
#[cfg(feature = "server")]
pub mod site;
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

/// The `domain` of every `ErrorInfo`. It names the service that defines the reasons, independent of host names.
pub const DOMAIN: &str = "auth.watchword.dev";

/// The trailer that tells clients when to retry, in milliseconds (gRFC A6).
pub const PUSHBACK: &str = "grpc-retry-pushback-ms";

/// Every proto file of the APIs, with comments and custom options: a `google.protobuf.FileDescriptorSet`.
pub static FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/watchword.binpb"));

/// Every method of every described service, as metrics name it (`watchword.auth.v1.Auth/Login`); sorted.
#[cfg(feature = "server")]
pub static METHODS: &[&str] = &include!(concat!(env!("OUT_DIR"), "/methods.rs"));

// Messages with secrets print no field. `build.rs` derives no `Debug` for them, and a test compares the two lists.

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
show_no_field_of!(envoy_core: HeaderValue, SocketAddress);
