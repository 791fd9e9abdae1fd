//! Operation of a node: command line, audit log, metrics, connections, shutdown, secrets, and example clients.

mod admin_socket;
mod audit;
mod audit_floods;
mod cli;
mod connections;
mod examples;
mod log;
mod memory;
mod metrics;
mod refusals_in_log;
mod secrets;
mod shutdown;
