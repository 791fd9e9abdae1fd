//! All integration tests, one binary. Every test starts its own server on a free port of loopback.

#![expect(clippy::unwrap_used, reason = "a test that panics has failed, which is what it is for")]
#![expect(unreachable_pub, reason = "a test binary has no outside; `pub` says what the helpers offer")]

mod support;

mod abuse;
mod account;
mod architecture;
mod client;
mod docs;
mod operation;
mod protocol;
mod session;
mod store;
mod words;
