//! The method table: one row for each RPC.
//!
//! A row says how a request is decoded into domain values, which method of the domain runs, and how the result is encoded.
//! Guarantees: each RPC of the contract has exactly one row, and a row names the messages that the proto names; a test
//! compares the table with the descriptor set in both directions. A row decides nothing about accounts.
//!
//! It does not know how a protocol frames a message or encodes an error: a protocol implements [`Protocol`] once and gets
//! every row. What surrounds a call (context, deadline, panic guard, metrics) is `api/call.rs`.

mod auth;
mod auth_admin;
mod ext_authz;
mod services;

use prost::Message;

pub use self::services::{ServerView, Services};
use crate::domain::{CallContext, Error};

/// Bytes of a request message at most, where a row has no limit of its own.
const REQUEST_BYTES_MAX: usize = 16 * 1024;

/// One row: a unary RPC.
///
/// A streaming RPC will be a second trait, with a stream in place of [`Method::Request`] or [`Method::Response`], and
/// [`Protocol`] will get a second function for it, which a protocol without streams answers with an error row. Until then
/// a streaming RPC has no row, and the test of the table fails.
///
/// The grant that a caller needs and the REST path belong here too, as associated constants, as soon as there is code that
/// reads them.
pub trait Method: 'static {
    /// The full name: `package.Service/Method`. It is also the path of a gRPC call, and the name in metrics.
    const NAME: &'static str;

    /// Whether the call changes anything that a later call can observe. A protocol may send a call without side effects as
    /// HTTP GET, and a client may repeat it.
    const HAS_SIDE_EFFECTS: bool;

    /// Bytes of an encoded request at most.
    const REQUEST_BYTES_MAX: usize = REQUEST_BYTES_MAX;

    /// The request message.
    type Request: Message + Default + 'static;

    /// The response message.
    type Response: Message + Default + 'static;

    /// Decodes the request, calls the domain and encodes the result.
    fn call(
        services: &Services,
        context: &CallContext,
        request: Self::Request,
    ) -> impl Future<Output = Result<Self::Response, Error>> + Send;
}

/// Turns each row into what the protocol calls.
///
/// [`Protocol::row`] is generic over the row, so a protocol chooses what it keeps: the gRPC encoding is compiled for the
/// types of each row and copies no message (`grpc/unary.rs`). A protocol that knows messages only as bytes or JSON returns
/// a function pointer without the types of the row. `tests/it/protocol/methods.rs` has one.
pub trait Protocol {
    /// A row, as this protocol calls it.
    type Row;

    /// The row of `M`.
    fn row<M: Method>() -> Self::Row;
}

/// A service of the contract, with its rows in the order of the proto.
#[derive(Debug)]
pub struct ServiceTable<Row> {
    /// The full name: `package.Service`.
    pub name: &'static str,
    /// One row for each RPC.
    pub rows: Vec<Row>,
}

impl<Row> ServiceTable<Row> {
    /// `watchword.auth.v1.Auth`, for callers.
    pub fn auth<P: Protocol<Row = Row>>() -> Self {
        auth::table::<P>()
    }

    /// `watchword.auth.v1.AuthAdmin`, for operators.
    pub fn auth_admin<P: Protocol<Row = Row>>() -> Self {
        auth_admin::table::<P>()
    }

    /// `envoy.service.auth.v3.Authorization`, for gateways.
    pub fn ext_authz<P: Protocol<Row = Row>>() -> Self {
        ext_authz::table::<P>()
    }
}

/// Writes the rows of a service. Each line is `reads` or `changes`, the RPC, its messages, its function, and its limit of
/// request bytes where that differs.
macro_rules! method_table {
    ($service:literal; $(
        $effect:ident $rpc:ident($request:ty) -> $response:ty = $function:ident $(, $bytes_max:expr)?;
    )+) => {
        $(
            struct $rpc;

            impl $crate::api::methods::Method for $rpc {
                const NAME: &'static str = concat!($service, "/", stringify!($rpc));
                const HAS_SIDE_EFFECTS: bool = $crate::api::methods::has_side_effects!($effect);
                $(const REQUEST_BYTES_MAX: usize = $bytes_max;)?

                type Request = $request;
                type Response = $response;

                fn call(
                    services: &Services,
                    context: &CallContext,
                    request: Self::Request,
                ) -> impl Future<Output = Result<Self::Response, Error>> + Send {
                    $function(services, context, request)
                }
            }
        )+

        /// The rows, in the order of the proto.
        pub(super) fn table<P: $crate::api::methods::Protocol>() -> $crate::api::methods::ServiceTable<P::Row> {
            $crate::api::methods::ServiceTable { name: $service, rows: vec![$(P::row::<$rpc>()),+] }
        }
    };
}

macro_rules! has_side_effects {
    (reads) => {
        false
    };
    (changes) => {
        true
    };
}

use {has_side_effects, method_table};
