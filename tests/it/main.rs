//! All integration tests, in one binary. Every test starts its own server on a free loopback port.

#![expect(clippy::unwrap_used, reason = "a panic fails the test")]
#![expect(unreachable_pub, reason = "`pub` marks the helpers that other modules use")]

mod support;

mod abuse;
mod account;
mod architecture;
mod client;
mod docs;
mod gateway;
mod operation;
mod protocol;
mod session;
mod store;
mod words;
