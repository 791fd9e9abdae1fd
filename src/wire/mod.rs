//! What all doors speak: generated types, conversions, the error table.

pub mod convert;
pub mod error;

use std::fmt;

use self::pb::{LoginRequest, RegisterRequest};

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
    google::rpc,
    grpc::{health::v1 as health, reflection::v1 as reflection},
    watchword::auth::v1 as pb,
};

/// Every file that the doors speak, with comments and custom options: a `google.protobuf.FileDescriptorSet`.
pub static FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/watchword.binpb"));

// Messages with secrets show no field; `build.rs` leaves their `Debug` to us, and a test holds the two together.

impl fmt::Debug for RegisterRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RegisterRequest")
    }
}

impl fmt::Debug for LoginRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LoginRequest")
    }
}
