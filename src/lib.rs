//! Watchword: a gRPC authentication microservice. Register users, sign them in; one binary, no set-up.
//!
//! # The map
//!
//! | place | what it is | may use |
//! |---|---|---|
//! | `bearer` | a bearer token as text: its header, its JWT; the same for those who make them and those who check them | nobody |
//! | `puzzle` | a proof of work as text: a signed challenge and its solution, as ALTCHA has them | nobody |
//! | `domain` | the rules: [`domain::Auth`] with one file for each thing a user can ask for | `bearer`, `puzzle` |
//! | `store` | where users are kept: implements [`domain::Store`] | `domain` |
//! | `api` | what all protocols share: the method table, what surrounds a call, conversions, the error table, generated types | `domain` |
//! | `grpc` | the gRPC API and the admin API: an encoding of the method table; health, reflection | `domain`, `api` |
//! | `http` | the HTTP API: the original routes, OAuth, ALTCHA; the ops API | `domain`, `api` |
//! | `server` | sockets: accept loop, limits, drain; knows nothing about users | `domain` (the type `Peer`) |
//! | `telemetry` | what operators see: implements [`domain::Observer`] | `domain` |
//! | `app` | puts it all together | everything |
//! | `config` | every setting once | everything |
//! | `cli` | the commands | everything |
//! | `selftest` | measures whether the time of an answer tells what the answer hides | everything |
//! | `client` | for other programs: calls Watchword, keeps tokens fresh, checks the tokens of others | `bearer`, `api` |
//! | `fuzz` | for tests and `fuzz/` alone: what must hold whatever strangers send to the parsers | everything |
//! | `machine` | cores, memory, files: what this machine allows | nobody |
//!
//! Everything of the service may use `domain`; `domain` uses nobody but `bearer` and `puzzle`; the doors may also use `api`;
//! only `app`, `config`, `cli`, `selftest`, `fuzz` and `main` see everything. `tests/it/architecture.rs` holds the code to this table.
//! The feature `client`
//! is `client`, `bearer` and the generated types of `api`, without the rest.
//!
//! # Where to start reading
//!
//! A login: `api/methods/auth.rs` is its row: decode (`api/convert/requests.rs`), call (`domain/mod.rs`), encode
//! (`api/convert/responses.rs`). `api/errors/table.rs` says how an error looks.
//!
//! # How to add
//!
//! - **an RPC**: `proto/`, a method of the facade in `domain/mod.rs`, its conversions in `api/convert/`, its row in
//!   `api/methods/auth.rs`, a file in `tests/it/`. A test compares the rows with the proto.
//! - **a store**: a file in `store/` that implements [`store::DocumentStore`], an arm in `store/mod.rs`, its URL in
//!   `config/flags.rs`, a kind in `tests/it/support/place.rs`.
//! - **something to store**: a method in `domain/store.rs`, its JSON in `store/record/`, its key in `store/records.rs`.
//! - **a password scheme**: `domain/password/hash.rs`; stores never see schemes and doors never see hashes.
//! - **a setting**: a field in `config/flags.rs`, and the folder's own `Settings`; docs/reference/settings.md is compared by a test.
//! - **something to audit or count**: a variant in `domain/event.rs`; the compiler then asks `telemetry/record.rs` and
//!   `telemetry/metrics.rs` for an arm each.
//! - **an HTTP route**: `http/mod.rs`, and its template in `http/metrics.rs`.
//! - **an error**: a variant in `domain/error.rs`; the compiler then asks `api/errors/table.rs` for its row and
//!   `api/ext_authz.rs` for the response to a gateway.

pub mod api;
#[cfg(feature = "server")]
pub mod app;
#[cfg(feature = "server")]
pub mod cli;
#[cfg(feature = "client")]
pub mod client;
pub mod common;
#[cfg(feature = "server")]
pub mod config;
#[cfg(feature = "server")]
pub mod domain;
#[cfg(feature = "fuzz")]
pub mod fuzz;
#[cfg(feature = "server")]
pub mod grpc;
#[cfg(feature = "server")]
pub mod http;
#[cfg(feature = "server")]
pub mod net;
#[cfg(feature = "server")]
pub mod selftest;
#[cfg(feature = "server")]
pub mod store;
#[cfg(feature = "server")]
pub mod telemetry;
