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
//! | `api` | what all doors speak: generated types, conversions, the error table | `domain` |
//! | `grpc` | the gRPC doors, for callers and for operators: Auth, AuthAdmin, Envoy's Authorization, Health, reflection | `domain`, `api` |
//! | `http` | the HTTP door: the original routes, OAuth; the ops door | `domain`, `api` |
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
//! A login: `grpc/auth.rs` unpacks it, `wire/convert.rs` parses it, `domain/login.rs` decides it, `wire/error.rs` says how a
//! refusal looks. Three files from the socket to the rule.
//!
//! # How to add
//!
//! - **an RPC**: `proto/`, a file in `domain/`, `wire/convert.rs`, `grpc/auth.rs`, a file in `tests/it/`.
//! - **a store**: a file in `store/` that implements [`store::DocumentStore`], an arm in `store/mod.rs`, its URL in
//!   `config/flags.rs`, a kind in `tests/it/support/store/test_store.rs`.
//! - **something to store**: a method in `domain/store.rs`, its JSON in `store/record/`, its key in `store/records.rs`.
//! - **a password scheme**: `domain/password/hash.rs`; stores never see schemes and doors never see hashes.
//! - **a setting**: a field in `config/flags.rs`, and the folder's own `Settings`; docs/reference/settings.md is compared by a test.
//! - **something to audit or count**: a variant in `domain/event.rs`; the compiler then asks `telemetry/record.rs` and
//!   `telemetry/metrics.rs` for an arm each.
//! - **an HTTP route**: `http/mod.rs`, and its template in `http/measured.rs`.
//! - **an error**: a variant in `domain/error.rs`; the compiler then asks `wire/error.rs` for its row.

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
