//! Operating a node: audit log, metrics, commands, connections, shutdown, secrets, example clients.

mod audit;
mod cli;
mod connections;
mod examples;
mod metrics;
mod secrets;
mod shutdown;
