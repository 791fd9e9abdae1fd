//! All integration tests, one binary. Every test starts its own server on a free port of loopback.

#![expect(clippy::unwrap_used, reason = "a test that panics has failed, which is what it is for")]
#![expect(unreachable_pub, reason = "a test binary has no outside; `pub` says what the helpers offer")]

mod support;

mod abandoned;
mod admin;
mod admin_users;
mod architecture;
mod audit;
mod challenge;
mod cli;
mod client;
mod connections;
mod contract;
mod copy;
mod embedded;
mod envoy;
mod envoy_protos;
mod errors;
mod examples;
mod floods;
mod fuzz;
mod grpc;
mod guessing;
mod health;
mod hostile_text;
mod introspection_cache;
mod kills;
mod legacy;
mod login;
mod metrics;
mod oauth;
mod passwords;
mod power_loss;
mod races;
mod redis_faults;
mod redis_start;
mod reflection;
mod register;
mod reset_password;
mod scan;
mod seal;
mod secrets;
mod sessions;
mod shutdown;
mod stores;
mod timing;
mod well_known;
