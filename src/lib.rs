//! Watchword: a gRPC authentication microservice. Register users, log them in, check their tokens; one binary, no set-up.
//!
//! # The map
//!
//! | place | what it is | may use |
//! |---|---|---|
//! | `common` | what knows no other folder: text forms, locks, hashes, times, files, the host | none |
//! | `domain` | the rules: [`domain::Auth`], a facade over one component for each concern | `common` |
//! | `store` | where users are kept: implements [`domain::Store`] over one document store | `common`, `domain` |
//! | `api` | what is spoken: the method table, conversions, the error table, host and origin rules, generated types | `common`, `domain` |
//! | `grpc` | the gRPC encoding of the method table; health, reflection | `common`, `domain`, `api` |
//! | `http` | the HTTP encoding: original routes, OAuth, published keys; the ops API | `common`, `domain`, `api` |
//! | `net` | sockets: accept loop, limits, drain; does not know users | `common`, `domain` (the type `Peer`) |
//! | `telemetry` | what operators see: implements [`domain::Observer`] | `common`, `domain` |
//! | `app` | assembly: listeners, background tasks, lifecycle | everything |
//! | `config` | every setting, once | everything |
//! | `cli` | the commands | everything |
//! | `selftest` | measures whether the time of an answer tells what the answer hides | everything |
//! | `client` | for other programs: calls Watchword, keeps tokens fresh, verifies the tokens of callers | `common`, `api` |
//! | `fuzz` | for tests and `fuzz/`: what must hold for all input of the parsers | everything |
//!
//! `domain` imports only `common`, so a rule never depends on a protocol or a store. Inside `domain` the components form
//! layers: `gateway`, `admin`, `account`, `session`, `authn`, `abuse`, `token`, `password`, `ports`, then `event`, `error`,
//! `context` and `model`. `tests/it/architecture` holds the code to this table, and finds circles. The feature `client` is
//! `client`, `common` and the generated types of `api`, without the rest.
//!
//! # Where to start reading
//!
//! A login: the row `Login` in `api/methods/auth.rs` decodes it and calls `Auth::login` in `domain/mod.rs`; the attempt runs in
//! `domain/authn/attempt.rs`; `domain/authn/factor/password.rs` compares the hash. `docs/architecture.md` draws it.
//!
//! # How to add
//!
//! The compiler asks for the files that match or destructure; a test asks for the pages of `docs/reference/`.
//!
//! - **an RPC**: `proto/`, a use case in `domain/` and a method of its facade, its messages in `api/convert/`, a row in
//!   `api/methods/`, its line in `docs/reference/rpcs.md`, a file in `tests/it/`.
//! - **a field of something stored**: its value in `domain/model/`, its codec in `store/codec/`, with a `default` for the
//!   documents that lack it (before the first release a field may be required instead); the compiler names where values are
//!   created. A time also goes through `with_credible_times` of its value. To show it: `proto/` and
//!   `api/convert/responses.rs`.
//! - **a factor**: a file in `domain/authn/factor/`, exported by `domain/authn/factor/mod.rs` and `domain/authn/mod.rs`; why it
//!   refuses in `domain/event.rs`; the use case that calls the steps in `domain/authn/attempt.rs`. One that is not enough
//!   alone adds a variant of `domain::authn::Outcome`, matched by name in `domain/authn/attempt.rs`,
//!   `domain/account/register.rs`, `domain/account/change_password.rs` and `domain/account/reset_password.rs`.
//! - **a store**: a folder in `store/` that implements [`store::DocumentStore`] and fills `InspectedDocuments` for
//!   `check-config`; its arms in `store/mod.rs`, `store/copy.rs`, `selftest/mod.rs` and `selftest/test_node.rs`; its URL in
//!   `config/flags/store.rs`, a kind in `tests/it/support/store/test_store.rs`.
//! - **something to store**: its line in `store/kind.rs`, its codec in `store/codec/` and a line in `store/codec/mod.rs`, its
//!   key in `store/typed/keys.rs`, its name in the log in `store/document.rs`, its methods in `domain/ports/store.rs` and
//!   `store/typed/mod.rs`, its value in `domain/model/`, its rows in `docs/reference/storage.md` and, by that name, in
//!   `docs/guides/recovering.md`. If it expires, the method stores it until the time that its line reads from the bytes.
//! - **a setting**: a field in `config/flags/`, its use in `config/checked.rs`, and what it conflicts with in
//!   `config/conflicts.rs`; a file of secrets also in `exposed_secrets` of `config/checked.rs`;
//!   `docs/reference/settings.md` is compared by a test.
//! - **something to audit or count**: a variant of `domain::Event`, matched by name in `telemetry/audit_record.rs` and
//!   `telemetry/metrics.rs`; `docs/reference/audit.md` and `docs/reference/metrics.md`. In `telemetry/audit_record.rs` an
//!   event that costs its client no hash calls `.merged()`, or `.routine()` if it needs no token either.
//! - **an HTTP route**: `http/mod.rs`, and its template in `http/metrics.rs`.
//! - **an error**: a variant of `domain::Error`, matched by name in `api/errors/table.rs`, `api/ext_authz.rs` and
//!   `telemetry/audit_record.rs`; its reason in `proto/watchword/auth/v1/error_reason.proto`;
//!   `docs/reference/errors.md` is compared by a test. Where a reason means "log in again" or "wait",
//!   `client/tokens/source.rs` names it.

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
